/* SPDX-License-Identifier: BSD-2-Clause */
/* One router result: from captured scores, or ids and weights, to checked choices in gate order. */
#ifndef MP_ATEN_CHOICE_H
#define MP_ATEN_CHOICE_H

#include <stdint.h>

#include "probe/engine/aten/gate.h"
#include "probe/engine/aten/tensor.h"

/* Where the choices go, the caller's: [rows][k], and a flag a row (ENGINE_ROUTE_ROW_TIE). */
struct aten_choices {
	uint16_t *ids;
	float *weights;
	uint8_t *flags;
	uint32_t k;
	uint32_t experts;
	uint8_t dtype; /* enum aten_dtype that the model computes in */
};

/* All return 0, or the cause (ENGINE_INVALID_*) why the result is not taken. */

/* torch.topk() of @scores [rows][experts], redone. */
uint32_t aten_choice__select(struct aten_choices *out, const struct aten_tensor *scores,
			     const struct aten_gate *gate);
/* @ids [rows][k], of which the weights are gathered from @scores: [rows][experts] where it is that
 * wide, else [rows][k], the final weights themselves. */
uint32_t aten_choice__gather(struct aten_choices *out, const int64_t *ids,
			     const struct aten_tensor *scores, const struct aten_gate *gate);

#endif
