/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A string or number is a token only once it is known what follows: a colon makes it a key. So
 * every token is told by the structural character behind it.
 */
#include "probe/target/json_stream.h"

static void emit(struct json_stream *s, enum json_token kind)
{
	s->text[s->length] = '\0';
	s->token(s->ctx, kind, s->text);
	s->length = 0;
	s->has_text = s->is_string = s->cut = false;
}

static void emit_value(struct json_stream *s)
{
	if (s->has_text)
		emit(s, s->is_string ? JSON_STRING : JSON_BARE);
}

static void add(struct json_stream *s, char c)
{
	s->has_text = true;
	if (s->length + 1 < sizeof(s->text))
		s->text[s->length++] = c;
	else
		s->cut = true;
}

static void feed_string(struct json_stream *s, char c)
{
	if (s->escaped) {
		s->escaped = false;
	} else if (c == '"') {
		s->in_string = false;
		return;
	} else {
		s->escaped = c == '\\';
	}
	add(s, c);
}

static void begin(struct json_stream *s)
{
	emit_value(s);
	if (s->depth == JSON_DEPTH_MAX) {
		s->broken = true;
		return;
	}
	emit(s, JSON_BEGIN);
	s->depth++;
	s->begun = true;
}

static void end(struct json_stream *s)
{
	emit_value(s);
	if (!s->depth) {
		s->broken = true;
		return;
	}
	s->depth--;
	emit(s, JSON_END);
}

static void feed_structure(struct json_stream *s, char c)
{
	switch (c) {
	case '"':
		emit_value(s); /* two texts in a row: no JSON, but not one text either */
		s->in_string = s->is_string = s->has_text = true;
		break;
	case '{':
	case '[':
		begin(s);
		break;
	case '}':
	case ']':
		end(s);
		break;
	case ':':
		if (s->has_text)
			emit(s, JSON_KEY);
		break;
	case ',':
		emit_value(s);
		break;
	case ' ':
	case '\t':
	case '\n':
	case '\r':
		break;
	default:
		add(s, c);
	}
}

void json_stream__feed(struct json_stream *s, const void *bytes, size_t n)
{
	const char *at = bytes;

	for (size_t i = 0; i < n && !s->broken; i++) {
		if (s->in_string)
			feed_string(s, at[i]);
		else
			feed_structure(s, at[i]);
	}
}

bool json_stream__is_whole(const struct json_stream *s)
{
	return s->begun && !s->depth && !s->in_string && !s->broken;
}
