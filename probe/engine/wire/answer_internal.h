/* SPDX-License-Identifier: BSD-2-Clause */
/* The keys of an answer, as a tree; shared by the readers forwards and backwards. */
#ifndef MP_ENGINE_WIRE_ANSWER_INTERNAL_H
#define MP_ENGINE_WIRE_ANSWER_INTERNAL_H

#include "probe/engine/wire/answer.h"

enum answer_node {
	NODE_NONE, /* without interest */
	NODE_ROOT,
	NODE_INNER, /* "response" or "message" of an event: as the root */
	NODE_CHOICES,
	NODE_CHOICE,
	NODE_DELTA,
	NODE_USAGE,
	NODE_DETAILS,
	NODE_FIRST_LEAF,
	NODE_ID = NODE_FIRST_LEAF,
	NODE_OBJECT,
	NODE_FINISH,
	NODE_STATUS,
	NODE_ERROR,
	NODE_PROMPT,
	NODE_COMPLETION,
	NODE_TOTAL,
	NODE_CACHED,
};

/* What @key of @size bytes leads to in an object that is @node. */
enum answer_node answer__child(enum answer_node node, const char *key, size_t size);
/* A value begins that is what @node says. */
void answer__begin_at(struct answer_scan *s, enum answer_node node);

#endif
