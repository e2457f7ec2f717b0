/* SPDX-License-Identifier: BSD-2-Clause */
/* What batches.c, owners.c and doubts.c share. */
#ifndef MP_VLLM_BATCHES_INTERNAL_H
#define MP_VLLM_BATCHES_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "probe/engine/vllm/batches.h"
#include "probe/engine/vllm/held.h"
#include "probe/engine/vllm/requests.h"

#define SEQUENCES_MAX 4096 /* that are computed at the same time, in all workers */
/* Tokens that a sequence remembers: they are told of after they are computed. */
#define RECENT 64

/* A sequence in one context; in a pipeline in the one that showed a pass first, for all. */
struct sequence {
	uint32_t tgid, context;
	struct vllm_asked *asked;
	uint32_t request;     /* its number; another one in @asked: the place was given away */
	uint32_t number;      /* of the sequence */
	uint32_t first;       /* its first position that is this request's */
	uint32_t began;       /* its first position */
	uint32_t next;        /* position */
	int64_t slot;         /* of its last row; -1: not captured, or written by another since */
	uint32_t row;         /* of the batch, in its last step */
	uint64_t step;        /* in which it last had rows */
	uint32_t computation; /* the same, by the number of its thread's */
	uint64_t begin_ns;    /* its first step */
	uint64_t begin_step;
	/* While its request is inferred: tokens from @doubt_from on and before @doubt_end tell; the
	 * first such row is in step @doubt_step. */
	uint32_t doubt_from, doubt_end;
	uint64_t doubt_step;
	bool has_rival;   /* another one in doubt began where it did */
	uint32_t checked; /* positions below: their tokens are @asked's, or were never known */
	int32_t recent[RECENT]; /* tokens of the last rows, by position; -1: not captured */
};

/* Whose rows are. */
struct owner {
	uint32_t sequence; /* number; 0: none */
	uint32_t request;
	uint32_t prefill; /* positions from known tokens; ENGINE_UNKNOWN */
};

/* The rows of one sequence in one step. */
struct run {
	uint32_t first, rows, position;
	int64_t slot, last_slot; /* -1: not captured */
	uint64_t tokens;         /* their hash; 0: not captured, or not needed */
	uint32_t sequence;       /* index + 1; 0: none yet, or there is no room */
	bool is_given, is_several, in_doubt;
	struct owner owner;
};

struct vllm_batches {
	struct vllm_requests *requests;
	struct vllm_passes *passes;
	struct vllm_held *held;
	uint64_t steps;
	uint32_t untold; /* tokens of a request that we may not have heard of, as is assumed now */
	uint64_t trials; /* runs that a request was looked for */
	bool is_distrusted; /* a guess proved wrong: so may be whatever is in doubt with it */
	uint32_t live;      /* of @sequence */
	struct sequence sequence[SEQUENCES_MAX];
	struct run *run;
	uint32_t run_capacity;
	struct engine_row *row;
	uint32_t row_capacity;
	struct engine_route *route;
	uint32_t route_capacity;
};

/* True if @q's request ended. */
bool sequence__is_over(const struct sequence *q);
/* The sequence that is @a in @c; NULL: none. */
struct sequence *batches__sequence(struct vllm_batches *b, const struct aten_context *c,
				   const struct vllm_asked *a);
/* Whose @q is, from its first position on. */
int sequence__say_bind(const struct sequence *q, uint64_t time_ns, const struct engine_sink *sink);

/* Give each of the step's @runs its sequence. 0, -ENOMEM, or the sink's error. */
int batches__assign(struct vllm_batches *b, const struct aten_step *s, struct aten_context *c,
		    uint32_t runs, const struct engine_sink *sink);

/* True if @a can have so many rows there: as many as it has tokens that are known before a step
 * begins, of which we may not have heard of some. @goes_on: it has the rows before them. */
bool batches__has_room(const struct vllm_batches *b, const struct vllm_asked *a,
		       const struct run *r, bool goes_on);
/* What @q is if @r goes on with it: the request that it is taken for, or another one with an equal
 * beginning; NULL: neither has these tokens. */
struct vllm_asked *batches__owner(struct vllm_batches *b, const struct aten_context *c,
				  const struct sequence *q, const struct aten_step *s,
				  const struct run *r);
/* The rows of @r say which of those with an equal beginning @q is, if they can: correct it. */
int batches__tell_apart(struct vllm_batches *b, struct aten_context *c, struct sequence *q,
			const struct aten_step *s, const struct run *r,
			const struct engine_sink *sink);
/* @q's rows from @position on, which it has in the step at hand, may be another one's. */
void batches__doubt(struct vllm_batches *b, struct sequence *q, uint32_t position);
/* @q is new, and may be anybody's: so may others in doubt that began where it does. */
void batches__note_rivals(struct vllm_batches *b, struct sequence *q);
/* @q, in doubt, goes on at @position, or another one begins there. */
void sequence__doubt_link(struct sequence *q, uint32_t position);
/* A guess was wrong, or cannot be told any more: nor can those that are in doubt with it. */
void batches__distrust(struct vllm_batches *b);
/* True if more tokens may tell whose some rows are. */
bool batches__in_doubt(const struct vllm_batches *b);
/* Nothing told in time: say who is taken for whom, and that it is inferred. */
int batches__say_doubts(struct vllm_batches *b, uint64_t time_ns, const struct engine_sink *sink);

#endif
