/* SPDX-License-Identifier: BSD-2-Clause */
/* How far a thread is with a model: whether steps of it were lost on the way. */
#ifndef MP_TRANSFORMERS_PROGRESS_H
#define MP_TRANSFORMERS_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "probe/engine/aten/step.h"

#define PROGRESS_MAX 64

struct progress {
	uint32_t tgid, tid, context; /* context 0: free */
	uint64_t key;                /* of the model */
	uint32_t computation;        /* the last one of which rows and results were seen */
	uint32_t others;             /* computations of other models since */
	uint32_t steps;              /* that were seen */
	uint64_t number;             /* of the last of them, as the caller counts */
};

/* What came before a step. */
struct standing {
	uint32_t seen;     /* steps of its thread and model; 0: it is the first */
	uint32_t lost;     /* computations between it and the last one, of this model for all
			    * that is known */
	uint64_t previous; /* number of the last one; 0: none */
};

/* Step @s, with number @number, is of @context. */
struct standing transformers_progress__step(struct progress *all, const struct aten_step *s,
					    uint32_t context, uint64_t number);
/* Nothing can be said of @s: of a model without routers, or its rows or results were lost. */
void transformers_progress__unsaid(struct progress *all, const struct aten_step *s);

#endif
