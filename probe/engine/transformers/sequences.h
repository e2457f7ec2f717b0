/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Whose rows these are. A forward computation of transformers names no request: there is a batch of
 * tokens with their positions, and for a paged cache where each row's keys and values go. So a step
 * is cut into runs of consecutive positions, and each run goes on with the sequence that it
 * continues:
 *
 *   a plain batch [batch][length]: a run is a batch row, left padding before it said to be
 *     padding; the sequence is that of the batch row, if the position is its next one
 *   a packed batch [1][rows] of continuous batching: a run goes on where its first cache slot is
 *     the one behind the last of a sequence. Only where a sequence begins a new block of the cache
 *     this says nothing; then the position decides, and what several could continue is said to be
 *     inferred.
 *
 * A run that continues nothing is a new sequence. To transformers a sequence is a request.
 */
#ifndef MP_TRANSFORMERS_SEQUENCES_H
#define MP_TRANSFORMERS_SEQUENCES_H

#include <stdbool.h>
#include <stdint.h>

#include "probe/engine/aten/step.h"
#include "probe/engine/sink.h"

struct transformers_sequences;

/* 0 or -ENOMEM. */
int transformers_sequences__new(struct transformers_sequences **out);
/* Accepts NULL. */
void transformers_sequences__free(struct transformers_sequences *q);

/* Say the step @s of context @c, its requests before it. 0, -ENOMEM, or the sink's error. */
int transformers_sequences__step(struct transformers_sequences *q, struct aten_step *s,
				 struct aten_context *c, const struct engine_sink *sink);

/* Computations since we came could not be read: what goes on without a beginning may have begun in
 * them. */
void transformers_sequences__missed(struct transformers_sequences *q);

/* The thread computes at @now_ns, what may have rows of any of its sequences. */
void transformers_sequences__busy(struct transformers_sequences *q, const struct aten_thread *t,
				  uint64_t now_ns);
/* End the requests that had no row since @before_ns, and whose thread was not busy since, and those
 * of process @tgid (0: of any). */
int transformers_sequences__end(struct transformers_sequences *q, uint64_t before_ns, uint32_t tgid,
				uint64_t now_ns, uint32_t ending, const struct engine_sink *sink);

/* A request as names can be found for it; plain data. */
struct sequence_facts {
	uint32_t request, tgid;
	uint32_t prompt;    /* rows of its prompt, cached ones included; ENGINE_UNKNOWN */
	uint32_t generated; /* rows of generated tokens: the last token of a text has none */
	uint64_t begin_ns, last_ns;
	bool ended, named;
	bool before_attach; /* or at least its beginning was not seen */
	bool inferred;      /* some of its rows are */
};
/* The @at-th request remembered, oldest first; false: there are no more. */
bool transformers_sequences__at(const struct transformers_sequences *q, uint32_t at,
				struct sequence_facts *out);
/* How many steps there were: while it is the same, no request has other rows. */
uint64_t transformers_sequences__steps(const struct transformers_sequences *q);
/* Request @request has its name. */
void transformers_sequences__named(struct transformers_sequences *q, uint32_t request);
/* The server said that @request is over: end it (and what is known of that end goes along). */
int transformers_sequences__finished(struct transformers_sequences *q,
				     const struct engine_request_end *end,
				     const struct engine_sink *sink);

#endif
