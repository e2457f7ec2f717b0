/* SPDX-License-Identifier: BSD-2-Clause */
/* Which layers of a model have a router, by the rules that its config.json states. */
#ifndef MP_TARGET_MODEL_LAYERS_H
#define MP_TARGET_MODEL_LAYERS_H

#include <stddef.h>
#include <stdint.h>

struct json_object;

/* Write the numbers of those of @blocks <= MODEL_LAYERS_MAX layers that have one to @ids,
 * ascending; how many. Rules are looked for in @count sections of the file, in order. */
uint32_t model_layers__find(uint16_t *ids, uint32_t blocks, struct json_object *const *section,
			    size_t count);

#endif
