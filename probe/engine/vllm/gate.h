/* SPDX-License-Identifier: BSD-2-Clause */
/* What vLLM's routers make of their logits. */
#ifndef MP_VLLM_GATE_H
#define MP_VLLM_GATE_H

#include "probe/engine/aten/gate.h"

struct model_config;

/* Where vLLM chooses among logits, and makes weights of those that it chose (cpu_router.py). Of
 * other families than are known (or @c NULL) the scores say nothing of the weights. */
struct aten_gate vllm_gate__of_logits(const struct model_config *c);

#endif
