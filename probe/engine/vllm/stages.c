/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/engine/vllm/stages.h"

#include "probe/target/model_config.h"

/* First block of @stage: as many each; what remains goes to those before the last
 * (vllm/distributed/utils.py, get_pp_indices). */
static uint32_t first_block(uint32_t blocks, uint32_t stages, uint32_t stage)
{
	uint32_t each = blocks / stages, remain = blocks % stages, first = stage * each;
	uint32_t from = stages - 1 - remain; /* from here on one more, but the last */

	if (stage == stages)
		return blocks;
	return stage > from ? first + stage - from : first;
}

uint32_t vllm_stage__layers(uint16_t *to, const struct model_config *c, uint32_t stages,
			    uint32_t stage)
{
	bool all = c->blocks == MODEL_UNKNOWN || stage >= stages;
	uint32_t first = all ? 0 : first_block(c->blocks, stages, stage), kept = 0;
	uint32_t end = all ? UINT32_MAX : first_block(c->blocks, stages, stage + 1);

	for (uint32_t i = 0; i < c->moe_layers; i++)
		if (c->layer_ids[i] >= first && c->layer_ids[i] < end)
			to[kept++] = c->layer_ids[i];
	return kept;
}
