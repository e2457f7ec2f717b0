/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/engine/wire/answer_internal.h"

#include <string.h>

enum state {
	VALUE,       /* before a value */
	FIRST_VALUE, /* the same, or the end of an empty array */
	FIRST_KEY,   /* before a key, or the end of an empty object */
	NEXT_KEY,
	COLON,
	AFTER, /* behind a value of a container: a comma or its end */
	STRING,
	NUMBER,
	WORD, /* true, false, null */
	SKIP, /* in a container without interest */
	WHOLE,
	BAD,
	CUT, /* behind a gap */
};

enum string_use { USE_NOTHING, USE_SKIPPED, USE_KEY, USE_VALUE };

static const struct key {
	uint8_t node, child;
	const char *name;
} KEYS[] = {
	{ NODE_ROOT, NODE_ID, "id" },
	{ NODE_ROOT, NODE_OBJECT, "object" },
	{ NODE_ROOT, NODE_CHOICES, "choices" },
	{ NODE_ROOT, NODE_USAGE, "usage" },
	{ NODE_ROOT, NODE_STATUS, "status" },
	{ NODE_ROOT, NODE_FINISH, "stop_reason" },
	{ NODE_ROOT, NODE_ERROR, "error" },
	{ NODE_ROOT, NODE_INNER, "response" },
	{ NODE_ROOT, NODE_INNER, "message" },
	{ NODE_ROOT, NODE_DELTA, "delta" },
	{ NODE_INNER, NODE_ID, "id" },
	{ NODE_INNER, NODE_OBJECT, "object" },
	{ NODE_INNER, NODE_USAGE, "usage" },
	{ NODE_INNER, NODE_STATUS, "status" },
	{ NODE_INNER, NODE_FINISH, "stop_reason" },
	{ NODE_INNER, NODE_ERROR, "error" },
	{ NODE_DELTA, NODE_FINISH, "stop_reason" },
	{ NODE_CHOICE, NODE_FINISH, "finish_reason" },
	{ NODE_USAGE, NODE_PROMPT, "prompt_tokens" },
	{ NODE_USAGE, NODE_PROMPT, "input_tokens" },
	{ NODE_USAGE, NODE_COMPLETION, "completion_tokens" },
	{ NODE_USAGE, NODE_COMPLETION, "output_tokens" },
	{ NODE_USAGE, NODE_TOTAL, "total_tokens" },
	{ NODE_USAGE, NODE_DETAILS, "prompt_tokens_details" },
	{ NODE_USAGE, NODE_DETAILS, "input_tokens_details" },
	{ NODE_DETAILS, NODE_CACHED, "cached_tokens" },
};

enum answer_node answer__child(enum answer_node node, const char *key, size_t size)
{
	for (size_t i = 0; i < sizeof(KEYS) / sizeof(KEYS[0]); i++)
		if (KEYS[i].node == node && strlen(KEYS[i].name) == size &&
		    !memcmp(KEYS[i].name, key, size))
			return KEYS[i].child;
	return NODE_NONE;
}

void answer__begin_at(struct answer_scan *s, enum answer_node node)
{
	bool stop = s->stop_at_other_id;

	memset(s, 0, sizeof(*s));
	s->stop_at_other_id = stop;
	s->state = VALUE;
	s->node = node;
}

void answer__begin(struct answer_scan *s)
{
	answer__begin_at(s, NODE_ROOT);
}

bool answer__over(const struct answer_scan *s)
{
	return s->state == WHOLE || s->state == BAD;
}

bool answer__is_cut(const struct answer_scan *s)
{
	return s->state == CUT;
}

void answer__gap(struct answer_scan *s)
{
	if (s->state != WHOLE && s->state != BAD)
		s->state = CUT;
}

/* --- one byte of a string ------------------------------------------------------------------- */

static void put_byte(struct answer_scan *s, uint8_t byte)
{
	if (s->in_string != USE_KEY && s->in_string != USE_VALUE)
		return;
	if (s->text_size < sizeof(s->text) - 1)
		s->text[s->text_size] = byte < 0x20 || byte == 0x7f ? '?' : (char)byte;
	if (s->text_size < UINT16_MAX)
		s->text_size++;
}

static void put_code_point(struct answer_scan *s, uint32_t c)
{
	if (c < 0x80) {
		put_byte(s, c);
		return;
	}
	if (c < 0x800) {
		put_byte(s, 0xc0 | c >> 6);
	} else if (c < 0x10000) {
		put_byte(s, 0xe0 | c >> 12);
		put_byte(s, 0x80 | (c >> 6 & 0x3f));
	} else {
		put_byte(s, 0xf0 | c >> 18);
		put_byte(s, 0x80 | (c >> 12 & 0x3f));
		put_byte(s, 0x80 | (c >> 6 & 0x3f));
	}
	put_byte(s, 0x80 | (c & 0x3f));
}

/* The half of a pair that was read, if any, stays alone. */
static void put_half(struct answer_scan *s)
{
	if (s->high)
		put_byte(s, '?');
	s->high = 0;
}

/* One UTF-16 unit of a \u escape: a lone half of a pair becomes '?'. */
static void put_unit(struct answer_scan *s, uint16_t unit)
{
	if (unit >= 0xdc00 && unit <= 0xdfff && s->high) {
		put_code_point(s, 0x10000 + ((uint32_t)(s->high - 0xd800) << 10) + (unit - 0xdc00));
		s->high = 0;
		return;
	}
	put_half(s);
	if (unit >= 0xd800 && unit <= 0xdbff)
		s->high = unit;
	else if (unit >= 0xdc00 && unit <= 0xdfff)
		put_byte(s, '?');
	else
		put_code_point(s, unit);
}

/* @escape: 1 behind a backslash, 2 to 5 in the four digits of \u. False: no such escape. */
static bool feed_escape(struct answer_scan *s, uint8_t c)
{
	uint8_t lower = c | 0x20;

	if (s->escape == 1) {
		s->escape = 0;
		if (c == 'u') {
			s->escape = 2;
			s->unicode = 0;
			return true;
		}
		if (!strchr("\"\\/bfnrt", c) || !c)
			return false;
		put_unit(s, strchr("bfnrt", c) ? '?' : c);
		return true;
	}
	if (c >= '0' && c <= '9')
		s->unicode = s->unicode << 4 | (c - '0');
	else if (lower >= 'a' && lower <= 'f')
		s->unicode = s->unicode << 4 | (lower - 'a' + 10);
	else
		return false;
	if (s->escape++ < 5)
		return true;
	s->escape = 0;
	put_unit(s, s->unicode);
	return true;
}

/* --- a value has ended ---------------------------------------------------------------------- */

static void copy_text(const struct answer_scan *s, char *out, size_t room)
{
	size_t size = s->text_size < sizeof(s->text) - 1 ? s->text_size : sizeof(s->text) - 1;

	if (size > room - 1)
		size = room - 1;
	memcpy(out, s->text, size);
	out[size] = '\0';
}

static void know(struct answer_facts *f, uint16_t fact)
{
	f->known |= fact;
	f->inferred &= ~fact;
}

static void take_id(struct answer_scan *s, struct answer_facts *f)
{
	char id[ANSWER_ID_BYTES];

	copy_text(s, id, sizeof(id));
	if (f->known & ANSWER_ID) {
		s->other_id = s->stop_at_other_id && strcmp(id, f->id) != 0;
		return;
	}
	memcpy(f->id, id, sizeof(id));
	know(f, ANSWER_ID | (s->text_size >= sizeof(id) ? ANSWER_ID_CUT : 0));
}

static void take_finish(const struct answer_scan *s, struct answer_facts *f)
{
	copy_text(s, f->finish_reason, sizeof(f->finish_reason));
	know(f, ANSWER_FINISH);
}

static void take_string(struct answer_scan *s, struct answer_facts *f)
{
	s->text[s->text_size < sizeof(s->text) - 1 ? s->text_size : sizeof(s->text) - 1] = '\0';
	if (s->node == NODE_ID) {
		take_id(s, f);
	} else if (s->node == NODE_OBJECT) {
		copy_text(s, f->object, sizeof(f->object));
		know(f, ANSWER_OBJECT);
	} else if (s->node == NODE_FINISH) {
		take_finish(s, f);
	} else if (s->node == NODE_STATUS) {
		if (!strcmp(s->text, "completed") || !strcmp(s->text, "incomplete") ||
		    !strcmp(s->text, "failed") || !strcmp(s->text, "cancelled"))
			take_finish(s, f);
	} else if (s->node == NODE_ERROR) {
		know(f, ANSWER_ERROR);
	}
}

static void take_number(const struct answer_scan *s, struct answer_facts *f)
{
	if (!s->digits || s->digits > 15)
		return; /* a fraction, a sign, or no count of tokens */
	if (s->node == NODE_PROMPT) {
		f->prompt_tokens = s->number;
		know(f, ANSWER_PROMPT);
	} else if (s->node == NODE_COMPLETION) {
		f->completion_tokens = s->number;
		know(f, ANSWER_COMPLETION);
	} else if (s->node == NODE_TOTAL) {
		f->total_tokens = s->number;
		know(f, ANSWER_TOTAL);
	} else if (s->node == NODE_CACHED) {
		f->cached_tokens = s->number;
		know(f, ANSWER_CACHED);
	}
}

static void end_value(struct answer_scan *s)
{
	s->state = s->depth ? AFTER : WHOLE;
}

static void end_string(struct answer_scan *s, struct answer_facts *f)
{
	uint8_t use = s->in_string;

	put_half(s);
	s->in_string = USE_NOTHING;
	if (use == USE_KEY) {
		s->node = s->text_size < ANSWER_KEY_BYTES
				  ? answer__child(s->nodes[s->depth - 1], s->text, s->text_size)
				  : NODE_NONE;
		s->state = COLON;
	} else if (use == USE_VALUE) {
		take_string(s, f);
		end_value(s);
	}
}

static void begin_string(struct answer_scan *s, enum string_use use)
{
	if (use != USE_SKIPPED || s->state != SKIP)
		s->state = STRING;
	s->in_string = use;
	s->escape = 0;
	s->high = 0;
	s->text_size = 0;
}

/* --- structure ------------------------------------------------------------------------------ */

static bool is_blank(uint8_t c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static void open_container(struct answer_scan *s, struct answer_facts *f, uint8_t c)
{
	bool is_array = s->node == NODE_CHOICES;

	if (s->node == NODE_ERROR)
		know(f, ANSWER_ERROR);
	if (s->node == NODE_NONE || s->node >= NODE_FIRST_LEAF || is_array != (c == '[') ||
	    s->depth >= ANSWER_DEPTH) {
		s->state = SKIP;
		s->skipped = 1;
		return;
	}
	s->nodes[s->depth++] = s->node;
	s->state = is_array ? FIRST_VALUE : FIRST_KEY;
	s->node = is_array ? NODE_CHOICE : NODE_NONE;
}

static void close_container(struct answer_scan *s, uint8_t c)
{
	bool is_array = s->depth && s->nodes[s->depth - 1] == NODE_CHOICES;

	if (!s->depth || is_array != (c == ']')) {
		s->state = BAD;
		return;
	}
	s->depth--;
	end_value(s);
}

static void begin_value(struct answer_scan *s, struct answer_facts *f, uint8_t c)
{
	if (c == '{' || c == '[') {
		open_container(s, f, c);
	} else if (c == ']' && s->state == FIRST_VALUE) {
		close_container(s, c);
	} else if (c == '"') {
		begin_string(s, USE_VALUE);
	} else if (c >= '0' && c <= '9') {
		s->state = NUMBER;
		s->number = c - '0';
		s->digits = 1;
	} else if (c == '-' || c == 't' || c == 'f' || c == 'n' || c == 'N' || c == 'I') {
		s->state = WORD; /* NaN and Infinity are what Python may write */
		if (s->node == NODE_ERROR && c != 'n')
			know(f, ANSWER_ERROR);
	} else {
		s->state = BAD;
	}
}

static void feed_after(struct answer_scan *s, uint8_t c)
{
	bool in_array = s->nodes[s->depth - 1] == NODE_CHOICES;

	if (c == '}' || c == ']') {
		close_container(s, c);
	} else if (c == ',') {
		s->state = in_array ? VALUE : NEXT_KEY;
		s->node = in_array ? NODE_CHOICE : NODE_NONE;
	} else {
		s->state = BAD;
	}
}

static void feed_skip(struct answer_scan *s, uint8_t c)
{
	if (c == '"')
		begin_string(s, USE_SKIPPED);
	else if ((c == '{' || c == '[') && ++s->skipped == UINT32_MAX)
		s->state = BAD;
	else if ((c == '}' || c == ']') && !--s->skipped)
		end_value(s);
}

/* A byte of a number or a word; true if it ended before @c, which is to be looked at again. */
static bool feed_scalar(struct answer_scan *s, struct answer_facts *f, uint8_t c)
{
	if (c >= '0' && c <= '9' && s->state == NUMBER) {
		if (s->digits < 16) {
			s->number = s->number * 10 + (c - '0');
			s->digits++;
		}
		return false;
	}
	if ((c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || c == '.' ||
	    c == '-' || c == '+') {
		s->digits = 0;
		s->state = WORD;
		return false;
	}
	if (s->state == NUMBER)
		take_number(s, f);
	end_value(s);
	return true;
}

static void feed_string(struct answer_scan *s, struct answer_facts *f, uint8_t c)
{
	if (s->escape) {
		if (!feed_escape(s, c))
			s->state = BAD;
		return;
	}
	if (c == '\\') {
		s->escape = 1;
	} else if (c == '"') {
		end_string(s, f);
	} else {
		put_half(s);
		put_byte(s, c);
	}
}

static void feed_byte(struct answer_scan *s, struct answer_facts *f, uint8_t c)
{
	if ((s->state == NUMBER || s->state == WORD) && !feed_scalar(s, f, c))
		return;
	if (s->state == STRING || s->in_string) {
		feed_string(s, f, c);
	} else if (s->state == SKIP) {
		feed_skip(s, c);
	} else if (is_blank(c) || s->state >= WHOLE) {
		return;
	} else if (s->state == VALUE || s->state == FIRST_VALUE) {
		begin_value(s, f, c);
	} else if (s->state == AFTER) {
		feed_after(s, c);
	} else if (s->state == COLON) {
		s->state = c == ':' ? VALUE : BAD;
	} else if (c == '"') {
		begin_string(s, USE_KEY);
	} else if (c == '}' && s->state == FIRST_KEY) {
		close_container(s, c);
	} else {
		s->state = BAD;
	}
}

/* Inside a long string without interest: how many bytes say nothing. */
static size_t dull_bytes(const struct answer_scan *s, const uint8_t *bytes, size_t size)
{
	size_t n = 0;

	if (!s->in_string || s->in_string == USE_KEY || s->escape || s->high)
		return 0;
	if (s->in_string == USE_VALUE && s->node >= NODE_FIRST_LEAF)
		return 0;
	while (n < size && bytes[n] != '"' && bytes[n] != '\\')
		n++;
	return n;
}

size_t answer__feed(struct answer_scan *s, struct answer_facts *f, const uint8_t *bytes,
		    size_t size)
{
	for (size_t i = 0; i < size; i++) {
		if (s->state >= WHOLE)
			return size;
		i += dull_bytes(s, bytes + i, size - i);
		if (i == size)
			return size;
		feed_byte(s, f, bytes[i]);
		if (s->other_id)
			return i + 1;
	}
	return size;
}
