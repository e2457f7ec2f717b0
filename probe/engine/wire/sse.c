/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/engine/wire/sse.h"

#include <string.h>

enum state {
	LINE,  /* at the beginning of a line, or in the name of its field */
	SPACE, /* behind "data:" */
	DATA,
	DONE,  /* in what may be "[DONE]" */
	OTHER, /* a line without interest */
	CUT,   /* behind a gap, in a line of which the beginning is not known */
};

static const char FIELD[] = "data:", END[] = "[DONE]";

static void end_line(struct sse_scan *s)
{
	if ((s->state == LINE && !s->matched) || s->state == CUT)
		s->in_event = false; /* a blank line, or nobody knows */
	if (s->state == DONE && s->matched == sizeof(END) - 1)
		s->done = true;
	s->state = LINE;
	s->matched = 0;
}

/* The first byte of a line's data. */
static void begin_data(struct sse_scan *s, uint8_t c)
{
	if (c == '[') {
		s->state = DONE;
		s->matched = 1;
		return;
	}
	s->state = DATA;
	if (s->in_event)
		return; /* a further line of the same JSON */
	s->in_event = true;
	if (s->events < UINT32_MAX)
		s->events++;
	answer__begin(&s->json);
}

static void feed_byte(struct sse_scan *s, uint8_t c)
{
	if (s->state == LINE) {
		if (c == (uint8_t)FIELD[s->matched])
			s->matched++;
		else
			s->state = OTHER;
		if (s->state == LINE && s->matched == sizeof(FIELD) - 1)
			s->state = SPACE;
	} else if (s->state == DONE) {
		if (s->matched >= sizeof(END) - 1 || c != (uint8_t)END[s->matched])
			s->state = OTHER;
		else
			s->matched++;
	}
}

void sse__gap(struct sse_scan *s)
{
	if (s->in_event && s->state == DATA)
		answer__gap(&s->json);
	s->state = CUT;
	s->has_newline = false;
}

static size_t line_length(const uint8_t *bytes, size_t size)
{
	size_t n = 0;

	while (n < size && bytes[n] != '\n' && bytes[n] != '\r')
		n++;
	return n;
}

/* The rest of a line, or of what there is of it. */
static size_t feed_line(struct sse_scan *s, struct answer_facts *f, const uint8_t *bytes,
			size_t size)
{
	size_t n = 0;

	while (n < size && s->state != DATA && s->state != OTHER && s->state != CUT) {
		if (s->state == SPACE && bytes[n] != ' ')
			begin_data(s, bytes[n]);
		else
			feed_byte(s, bytes[n]);
		if (s->state != DATA)
			n++;
	}
	if (n == size)
		return n;
	if (s->state == DATA)
		return n + answer__feed(&s->json, f, bytes + n, size - n);
	if (s->state == CUT && s->in_event && answer__is_cut(&s->json))
		answer__tail(&s->json, f, bytes + n, size - n);
	return size;
}

size_t sse__feed(struct sse_scan *s, struct answer_facts *f, const uint8_t *bytes, size_t size)
{
	size_t at = 0;

	while (at < size) {
		size_t n = line_length(bytes + at, size - at);

		if (n) {
			s->has_newline = false;
			at += feed_line(s, f, bytes + at, n);
			if (s->json.other_id)
				return at;
			continue;
		}
		if (!s->has_newline || bytes[at] != '\n')
			end_line(s);
		s->has_newline = bytes[at] == '\r';
		at++;
	}
	return size;
}
