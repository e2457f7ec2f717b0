/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Whose rows a sequence has. A binding may come after the rows that it is about: for each sequence
 * the rows that were counted last, for one owner, are remembered as sums, so that they can be moved
 * to the right one. Rows of a sequence follow each other: how many lie behind a position is known
 * from the last one. Older owners' rows stay where they are.
 */
#ifndef MP_STATE_SEQUENCES_H
#define MP_STATE_SEQUENCES_H

#include <stdbool.h>
#include <stdint.h>

#include "analyzer/state/grid.h"

#define STATE_SEQUENCES_MAX 8192 /* remembered; the oldest is forgotten first */

/* Rows that followed each other; @request 0: of none that is known. */
struct sequence_rows {
	uint32_t sequence, request, context;
	uint32_t first, last; /* positions */
	uint64_t rows[STATE_BOTH];
	enum state_phase phase; /* of the last */
	uint64_t first_ns, last_ns;
};

struct sequences;

/* NULL: no memory. */
struct sequences *sequences__new(void);
/* Accepts NULL. */
void sequences__free(struct sequences *s);

/* Remember @more rows, and say in its @request to whom they go, if it was 0. 0, -ENOMEM. */
int sequences__add(struct sequences *s, struct sequence_rows *more);
/*
 * From @position on, @sequence belongs to @request (0: to none). @moved: the rows that were counted
 * for @from before and change hands. 1: some do; 0: none; -ENOMEM.
 */
int sequences__bind(struct sequences *s, uint32_t sequence, uint32_t request, uint32_t position,
		    struct sequence_rows *moved, uint32_t *from);

#endif
