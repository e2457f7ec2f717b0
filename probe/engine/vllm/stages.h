/* SPDX-License-Identifier: BSD-2-Clause */
/* Which layers a stage of a pipeline has, as vLLM shares them out where its operator does not say
 * otherwise (VLLM_PP_LAYER_PARTITION, which nothing shows). */
#ifndef MP_VLLM_STAGES_H
#define MP_VLLM_STAGES_H

#include <stdint.h>

struct model_config;

/* The MoE layers of @c that @stage of @stages has, into @to[c->moe_layers]: how many. All of them
 * where the number of blocks is not known. */
uint32_t vllm_stage__layers(uint16_t *to, const struct model_config *c, uint32_t stages,
			    uint32_t stage);

#endif
