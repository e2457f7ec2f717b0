/* SPDX-License-Identifier: BSD-2-Clause */
/* A step of transformers, cut into runs of rows at consecutive positions. */
#ifndef MP_TRANSFORMERS_RUNS_H
#define MP_TRANSFORMERS_RUNS_H

#include <stdbool.h>
#include <stdint.h>

#include "probe/engine/aten/step.h"

#define PAGE_UNIT 8 /* tokens of a cache page: a multiple of this */

struct run {
	uint32_t first, rows; /* in the step */
	uint32_t batch_row;
	uint32_t position; /* of its first row */
	int64_t slot;      /* in the cache, of its first row and of its last; -1: not captured */
	int64_t last_slot;
	bool packed;       /* several sequences share a batch row */
	bool padding;      /* no token of anybody */
	bool unplaced;     /* @position is not known: 0 */
	bool more;         /* the next run goes on with it: its last row is not the sequence's */
	bool cut;          /* the rest of its prompt may be in a later step */
	bool behind;       /* goes on with the run before it, or is another's: a page begins */
	uint32_t guessed;  /* position from which on it is a guess whose it is; 0: none */
	uint32_t sequence; /* for whoever assigns it; 0: not yet */
};

/* Rows of the step, and with that runs at most; 0: nothing says how many. */
uint32_t transformers_runs__most(const struct aten_step *s);
/* Fill @out[transformers_runs__most()]; returns how many there are. They cover all rows, in order.
 */
uint32_t transformers_runs__cut(struct run *out, const struct aten_step *s);

#endif
