/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/engine/vllm/gate.h"

#include <string.h>

#include "probe/target/model_folder.h"

struct aten_gate vllm_gate__of_logits(const struct model_config *c)
{
	static const char *const families[] = { "olmoe", "qwen2_moe", "qwen3_moe", "mixtral",
						"gpt_oss" };
	struct aten_gate g = aten_gate__of(c);

	g.rounded = false;
	for (size_t i = 0; c && i < sizeof(families) / sizeof(*families); i++) {
		if (strcmp(families[i], c->model_type))
			continue;
		g.logits = g.final != ATEN_SOFTMAX;
		return g;
	}
	return (struct aten_gate){ .final = ATEN_RAW, .scale = 1 };
}
