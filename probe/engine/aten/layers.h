/* SPDX-License-Identifier: BSD-2-Clause */
/* Room for the results of a step (step.h), which is used for the next one again. */
#ifndef MP_ATEN_LAYERS_H
#define MP_ATEN_LAYERS_H

#include <stdbool.h>
#include <stdint.h>

struct aten_layer;
struct aten_step;

/* In *@out the place of the next result, of @rows x @k choices; it counts once @s->layers says so.
 * 0 or -ENOMEM. */
int aten_layers__next(struct aten_step *s, uint32_t rows, uint32_t k, struct aten_layer **out);
/* True if a row of @l has flags. */
bool aten_layer__has_flags(const struct aten_layer *l);
void aten_layers__free(struct aten_step *s);

#endif
