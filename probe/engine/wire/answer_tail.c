/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What stands at the end of an answer whose middle was not captured.
 *
 * Backwards from the end of a JSON object everything is decided again: the end is outside of
 * strings, a quote is the end of a string, and that string begins behind the nearest quote to the
 * left that an even number of backslashes precedes. So generated text, which is inside strings,
 * cannot pass for a key, and depth counts from the root. What cannot be decided (backslashes up
 * to the gap, no quote before it) ends the reading. It trusts that the bytes end the value, and
 * that the list two levels above a "finish_reason" is that of the choices: thus "inferred".
 */
#include "probe/engine/wire/answer_internal.h"

#include <string.h>

enum { LEVELS = 5 }; /* of which the kind of container is remembered */

struct backwards {
	const uint8_t *bytes;
	size_t size, at; /* bytes[at - 1] is next */
	size_t colon;    /* offset of the last ':', while it is the nearest token to the right */
	bool key_next;   /* ... it is */
	uint32_t depth;  /* containers open, the root's is 1 */
	uint32_t base;   /* depth of the object that has the facts */
	uint8_t closers[LEVELS + 1];
	uint16_t found;
	struct answer_facts *facts;
};

/* The string that ends at b->at - 1: its first byte and size. False if it cannot be found. */
static bool take_string(struct backwards *b, size_t *start, size_t *size)
{
	size_t end = b->at - 1, at = end;

	while (at > 0) {
		size_t slashes = 0;

		if (b->bytes[--at] != '"')
			continue;
		while (slashes < at && b->bytes[at - 1 - slashes] == '\\')
			slashes++;
		if (slashes == at)
			return false; /* more of them may be in the gap */
		if (slashes % 2) {
			at -= slashes;
			continue;
		}
		*start = at + 1;
		*size = end - at - 1;
		b->at = at;
		return true;
	}
	return false;
}

/* What the key means at this depth. */
static enum answer_node node_of(const struct backwards *b, const uint8_t *key, size_t size)
{
	enum answer_node parent, node;

	if (b->depth == b->base)
		parent = b->base == 1 ? NODE_ROOT : NODE_INNER;
	else if (b->depth == b->base + 2 && b->base == 1 && b->closers[b->base + 1] == ']')
		parent = NODE_CHOICE;
	else
		return NODE_NONE;
	node = answer__child(parent, (const char *)key, size);
	switch (node) {
	case NODE_OBJECT:
	case NODE_FINISH:
	case NODE_STATUS:
	case NODE_ERROR:
	case NODE_USAGE:
		return node;
	default:
		return NODE_NONE; /* an id in the tail is not the first one */
	}
}

static void take_value(struct backwards *b, enum answer_node node)
{
	struct answer_facts facts = { 0 };
	struct answer_scan scan = { 0 };
	uint16_t news;

	answer__begin_at(&scan, node);
	for (size_t i = b->colon + 1; i < b->size && !answer__over(&scan); i++)
		answer__feed(&scan, &facts, b->bytes + i, 1);
	news = facts.known & ~b->found;
	b->found |= facts.known;
	if (news & ANSWER_OBJECT)
		memcpy(b->facts->object, facts.object, sizeof(facts.object));
	if (news & ANSWER_FINISH)
		memcpy(b->facts->finish_reason, facts.finish_reason, sizeof(facts.finish_reason));
	if (news & ANSWER_PROMPT)
		b->facts->prompt_tokens = facts.prompt_tokens;
	if (news & ANSWER_COMPLETION)
		b->facts->completion_tokens = facts.completion_tokens;
	if (news & ANSWER_TOTAL)
		b->facts->total_tokens = facts.total_tokens;
	if (news & ANSWER_CACHED)
		b->facts->cached_tokens = facts.cached_tokens;
}

static bool step(struct backwards *b)
{
	uint8_t c = b->bytes[b->at - 1];
	size_t start, size;

	if (c == '"') {
		enum answer_node node;

		if (!take_string(b, &start, &size))
			return false;
		node = b->key_next ? node_of(b, b->bytes + start, size) : NODE_NONE;
		if (node != NODE_NONE)
			take_value(b, node);
		b->key_next = false;
		return true;
	}
	b->at--;
	if (c == ':') {
		b->colon = b->at;
		b->key_next = true;
	} else if (c != ' ' && c != '\t' && c != '\n' && c != '\r') {
		b->key_next = false;
	}
	if (c == '}' || c == ']') {
		if (++b->depth <= LEVELS)
			b->closers[b->depth] = c;
	} else if (c == '{' || c == '[') {
		return --b->depth > 0;
	}
	return true;
}

void answer__tail(struct answer_scan *s, struct answer_facts *f, const uint8_t *bytes, size_t size)
{
	struct backwards b = { .bytes = bytes, .size = size, .at = size, .facts = f };

	if (s->tail_read) {
		f->known &= ~f->inferred;
		f->inferred = 0;
	}
	s->tail_read = true;
	b.base = s->depth >= 2 && s->nodes[1] == NODE_INNER ? 2 : 1;
	while (b.at && strchr(" \t\r\n", b.bytes[b.at - 1]) && b.bytes[b.at - 1])
		b.at--;
	if (!b.at || b.bytes[b.at - 1] != '}')
		return;
	while (b.at && step(&b))
		;
	f->known |= b.found;
	f->inferred |= b.found;
}
