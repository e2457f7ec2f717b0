/* SPDX-License-Identifier: BSD-2-Clause */
/* What sequences.c and rows.c know of a sequence. */
#ifndef MP_TRANSFORMERS_SEQUENCES_INTERNAL_H
#define MP_TRANSFORMERS_SEQUENCES_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "probe/engine/sink.h"
#include "probe/engine/transformers/progress.h"
#include "probe/engine/transformers/runs.h"

#define SEQUENCES_MAX 4096 /* remembered, ended ones included: names come late */

/* One sequence, and its request. */
struct sequence {
	uint32_t number; /* of the sequence and of its request: from 1 */
	uint32_t tgid, tid, context;
	uint32_t batch_row; /* plain batches */
	uint32_t epoch;     /* of that; ENGINE_UNKNOWN */
	uint32_t next;      /* position */
	int64_t slot;       /* cache slot of its last row; -1: not captured */
	uint32_t prompt;    /* positions of the prompt that were seen, cached ones included */
	uint32_t generated; /* rows of generated tokens */
	uint64_t begin_ns, last_ns;
	uint64_t busy_ns; /* its thread computed then */
	uint64_t step;    /* in which it last had rows */
	bool packed, before_attach, inferred;
	bool unseen;  /* its beginning was not seen */
	bool cut;     /* its prompt goes on */
	bool gone;    /* another one has its place in the cache: nothing goes on with it */
	bool stopped; /* its text ended, and the batch goes on with it */
	bool ended, named;
};

struct transformers_sequences {
	uint32_t said; /* numbers given */
	bool missed;   /* computations since we came */
	uint64_t steps;
	uint32_t first, count; /* a ring of the last SEQUENCES_MAX */
	uint32_t live_from;    /* no live one is older */
	struct sequence item[SEQUENCES_MAX];
	struct progress progress[PROGRESS_MAX];
	/* Scratch for one step. */
	struct standing standing;
	struct run *run;
	uint32_t run_capacity;
	struct engine_row *row;
	uint32_t row_capacity;
	struct engine_route *route;
	uint32_t route_capacity;
	int32_t *token;
	uint32_t token_capacity;
};

#endif
