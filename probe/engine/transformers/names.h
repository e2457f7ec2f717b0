/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Names for requests: from the responses that the server sends. A response says which id its client
 * sees, and at its end how many tokens the prompt and the text had; a sequence has that many rows.
 * Where exactly one sequence fits a finished response, the name is certain. Where several fit,
 * those without a name are taken in the order in which they began, and said to be inferred; what
 * was inferred excludes nothing: such a sequence still fits the other responses, and what is left
 * over by a guess is a guess. A stream whose first event comes while only one nameless sequence
 * computes is named before its end; that is inferred too.
 */
#ifndef MP_TRANSFORMERS_NAMES_H
#define MP_TRANSFORMERS_NAMES_H

#include <stdint.h>

#include "probe/engine/capture.h"
#include "probe/engine/transformers/sequences.h"

struct transformers_names;

struct header_names;

/* @sequences is borrowed and must outlive it. 0 or -ENOMEM. */
int transformers_names__new(struct transformers_names **out,
			    struct transformers_sequences *sequences);
/* Accepts NULL. */
void transformers_names__free(struct transformers_names *n);

/* Which headers of requests become labels; copied. */
void transformers_names__headers(struct transformers_names *n, const struct header_names *names);

/* Something that was sent, or a request's head that was received. 0, -ENOMEM; -EBADMSG: the capture
 * contradicts itself. */
int transformers_names__bytes(struct transformers_names *n, const struct capture *c);
/* Match responses with sequences, and say what is found. 0 or the sink's error. */
int transformers_names__match(struct transformers_names *n, uint64_t now_ns,
			      const struct engine_sink *sink);
/* Process @tgid is gone, and its connections with it. */
void transformers_names__leave(struct transformers_names *n, uint32_t tgid);

#endif
