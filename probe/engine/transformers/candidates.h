/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The sequences that a response may be of: those that compute, and those that ended a short while
 * ago and have no certain name. There are few of them, where transformers_sequences remembers
 * thousands, and every piece that is sent is compared with them.
 */
#ifndef MP_TRANSFORMERS_CANDIDATES_H
#define MP_TRANSFORMERS_CANDIDATES_H

#include <stdbool.h>
#include <stdint.h>

#include "probe/engine/transformers/sequences.h"

struct candidates;

/* NAMELESS: it may be given a name. GUESSED: it has one that may be another's. */
enum naming { NAMING_NAMELESS, NAMING_GUESSED, NAMING_CERTAIN };

struct candidate {
	struct sequence_facts facts;
	enum naming naming;
};

/* @sequences is borrowed and must outlive it. 0 or -ENOMEM. */
int candidates__new(struct candidates **out, struct transformers_sequences *sequences);
/* Accepts NULL. */
void candidates__free(struct candidates *c);

/* Take in the sequences that began, and drop those that are none any more. */
void candidates__refresh(struct candidates *c, uint64_t now_ns);
/* The @at-th one, oldest first; false: there are no more. */
bool candidates__at(const struct candidates *c, uint32_t at, struct candidate *out);
/* Request @request was given a name, or (NAMELESS) the guess at it was wrong. */
void candidates__name(struct candidates *c, uint32_t request, enum naming naming);

#endif
