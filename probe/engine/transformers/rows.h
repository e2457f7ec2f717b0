/* SPDX-License-Identifier: BSD-2-Clause */
/* Runs whose sequences are known, as the rows of a step that is said. */
#ifndef MP_TRANSFORMERS_ROWS_H
#define MP_TRANSFORMERS_ROWS_H

#include <stdint.h>

#include "probe/engine/aten/step.h"
#include "probe/engine/sink.h"
#include "probe/engine/transformers/sequences_internal.h"

/* The rows of @r, of the step @s, to @to; @own goes on with them. @own NULL: they are nobody's.
 * Returns how many. */
uint32_t transformers_rows__say(struct engine_row *to, const struct aten_step *s,
				const struct aten_context *c, const struct run *r,
				struct sequence *own);
void transformers_rows__route(struct engine_route *out, const struct aten_layer *l,
			      const struct aten_context *c);

#endif
