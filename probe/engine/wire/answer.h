/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The few facts of one answer of an OpenAI-style server, read from its JSON as the bytes pass:
 * nothing of the text is kept. A tokenizer, so that no generated string passes for a key:
 *
 *   {"id", "object", "choices": [{"finish_reason"}], "usage": {"prompt_tokens",
 *    "completion_tokens", "total_tokens", "prompt_tokens_details": {"cached_tokens"}}, "error"}
 *
 * and the same under other names: "response" and "message" hold these keys one level down in
 * events of the responses and messages interfaces, which say "status" or "stop_reason", and
 * "input_tokens" and "output_tokens". Grammar is checked only where it matters.
 */
#ifndef MP_ENGINE_WIRE_ANSWER_H
#define MP_ENGINE_WIRE_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	ANSWER_ID_BYTES = 128, /* with the final NUL, as the others */
	ANSWER_OBJECT_BYTES = 32,
	ANSWER_FINISH_BYTES = 24,
	ANSWER_KEY_BYTES = 24,
	ANSWER_DEPTH = 6, /* response, choices, choice, or response, usage, details, and the root */
};

/* Which facts are known: bits of answer_facts. */
enum answer_fact {
	ANSWER_ID = 1 << 0,
	ANSWER_OBJECT = 1 << 1,
	ANSWER_FINISH = 1 << 2,
	ANSWER_PROMPT = 1 << 3,
	ANSWER_COMPLETION = 1 << 4,
	ANSWER_TOTAL = 1 << 5,
	ANSWER_CACHED = 1 << 6,
	ANSWER_ERROR = 1 << 7,  /* an "error" that is not null was there */
	ANSWER_ID_CUT = 1 << 8, /* @id holds only the first bytes of a longer one */
};

/*
 * Strings are bytes of the process: UTF-8 only if it sends that; control characters are '?'.
 * Each fact is the last that was said, but the id is the first.
 */
struct answer_facts {
	uint16_t known;    /* answer_fact */
	uint16_t inferred; /* of these, what was read backwards from behind a gap (answer__tail) */
	uint64_t prompt_tokens, completion_tokens, total_tokens;
	uint64_t cached_tokens; /* of the prompt's */
	char id[ANSWER_ID_BYTES];
	char object[ANSWER_OBJECT_BYTES];        /* "chat.completion", "text_completion", ... */
	char finish_reason[ANSWER_FINISH_BYTES]; /* "stop", "length", "tool_calls", ... */
};

/* Where the tokenizer stands in one JSON value. Opaque; zero it, then answer__begin(). */
struct answer_scan {
	uint8_t state, in_string; /* in_string: what a string is for */
	uint8_t depth;            /* containers of interest that are open: nodes[] */
	uint8_t nodes[ANSWER_DEPTH];
	uint8_t node; /* of the value that comes next */
	uint8_t escape, digits;
	bool stop_at_other_id, other_id;
	bool tail_read; /* answer__tail() was called for this value */
	uint16_t unicode, high;
	uint16_t text_size; /* before it was cut */
	uint32_t skipped;   /* containers open below one without interest */
	uint64_t number;
	char text[ANSWER_ID_BYTES];
};

/* A JSON value begins. */
void answer__begin(struct answer_scan *s);
/* True when the value is over: whole, or not JSON. */
bool answer__over(const struct answer_scan *s);
/*
 * The next @size bytes of it. Returns @size, but where @s->stop_at_other_id is set and the value
 * has another id than @f: the bytes up to that id, with @s->other_id set and the id in @s->text.
 */
size_t answer__feed(struct answer_scan *s, struct answer_facts *f, const uint8_t *bytes,
		    size_t size);
/* Bytes are missing: nothing more is read forwards of this value. */
void answer__gap(struct answer_scan *s);
/* True if answer__gap() cut this value. */
bool answer__is_cut(const struct answer_scan *s);
/* After it: which bytes end the value. Reads the facts but the id that stand there backwards from
 * @bytes + @size (answer_tail.c), marks them inferred, and takes back what an earlier call for
 * the same value said. */
void answer__tail(struct answer_scan *s, struct answer_facts *f, const uint8_t *bytes, size_t size);

#endif
