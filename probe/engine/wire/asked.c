/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/engine/wire/asked.h"

#include <stdio.h>
#include <string.h>

#include "probe/abi/event.h"

enum { LENGTH_DIGITS = 15 };

static void spoil(struct wire_asked *a)
{
	memset(a, 0, sizeof(*a));
	a->spoiled = true;
}

bool asked_part__read(struct asked_part *out, const struct mp_event_bytes *head,
		      const uint8_t *bytes)
{
	*out = (struct asked_part){
		.position = head->event.object,
		.length = head->length,
		.head = bytes,
		.head_size = head->event.count,
		.opens = head->flags & MP_BYTES_OPENED,
		.begins = head->flags & MP_BYTES_BEGINS,
		.ends = head->flags & MP_BYTES_ENDS,
		.lost = head->flags & MP_BYTES_LOST,
	};
	return head->event.chunks == 1 && head->event.count == head->event.total &&
	       head->event.count <= head->length;
}

/* --- one header ------------------------------------------------------------------------------- */

static char lower(uint8_t c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c + 32) : (char)c;
}

static bool name_is(const struct wire_asked *a, const char *name)
{
	return !a->line.too_long && strlen(name) == a->line.name_size &&
	       !memcmp(name, a->line.name, a->line.name_size);
}

/* False if the length is none, or a second one that differs. */
static bool take_length(struct wire_asked *a)
{
	uint64_t n = 0;

	if (!a->line.value_size || a->line.value_size > LENGTH_DIGITS)
		return false;
	for (size_t i = 0; i < a->line.value_size; i++) {
		if (a->line.value[i] < '0' || a->line.value[i] > '9')
			return false;
		n = n * 10 + (uint64_t)(a->line.value[i] - '0');
	}
	if (a->has_length && a->length != n)
		return false;
	a->has_length = true;
	a->length = n;
	return true;
}

static void take_value(struct wire_asked *a, uint32_t number)
{
	size_t size = a->line.value_size < ASKED_VALUE_BYTES - 1 ? a->line.value_size
								 : ASKED_VALUE_BYTES - 1;

	a->value[number].twice = a->value[number].there;
	a->value[number].there = true;
	memcpy(a->value[number].text, a->line.value, size);
	a->value[number].text[size] = '\0';
}

static bool take_header(struct wire_asked *a, const struct header_names *names)
{
	while (a->line.value_size && a->line.value_size < ASKED_VALUE_BYTES &&
	       (a->line.value[a->line.value_size - 1] == ' ' ||
		a->line.value[a->line.value_size - 1] == '\t'))
		a->line.value_size--;
	for (uint32_t i = 0; i < names->count; i++)
		if (name_is(a, names->name[i]))
			take_value(a, i);
	if (name_is(a, "transfer-encoding"))
		a->is_chunked = true;
	return !name_is(a, "content-length") || take_length(a);
}

/* --- the head --------------------------------------------------------------------------------- */

/* False if it is no line of a head. An empty one is its end. */
static bool end_line(struct wire_asked *a, const struct header_names *names)
{
	bool is_good = a->line.is_first || a->line.in_value || !a->line.name_size;

	if (a->line.in_value)
		is_good = take_header(a, names);
	memset(&a->line, 0, sizeof(a->line));
	return is_good;
}

static void feed_value(struct wire_asked *a, uint8_t c)
{
	if (!a->line.value_size && (c == ' ' || c == '\t'))
		return;
	if (a->line.value_size < ASKED_VALUE_BYTES)
		a->line.value[a->line.value_size++] = c == '\t'               ? ' '
						      : c < 0x20 || c >= 0x7f ? '?'
									      : (char)c;
}

/* False: this is no head, or one that goes on with a folded line. */
static bool feed(struct wire_asked *a, const struct header_names *names, uint8_t c)
{
	if (c == '\n')
		return end_line(a, names);
	if (c == '\r' || a->line.is_first)
		return true;
	if (a->line.in_value) {
		feed_value(a, c);
		return true;
	}
	if (c == ':' && (a->line.name_size || a->line.too_long)) {
		a->line.in_value = true;
		return true;
	}
	if (c <= ' ' || c >= 0x7f || c == ':')
		return false;
	if (a->line.name_size < HEADER_NAME_BYTES)
		a->line.name[a->line.name_size++] = lower(c);
	else
		a->line.too_long = true;
	return true;
}

/* --- the connection --------------------------------------------------------------------------- */

static void begin(struct wire_asked *a, uint64_t position, bool answering)
{
	bool is_next = a->is_known && position == a->next;

	/* Inside a body: what looks like a request is none. */
	if (a->is_known && !a->reading && position && position < a->next)
		return;
	/* Position 0: the connection is seen for the first time, or again after it was forgotten.
	 */
	if (a->reading || a->waiting || answering || (position && !is_next)) {
		spoil(a);
		return;
	}
	memset(a, 0, sizeof(*a));
	a->reading = a->line.is_first = true;
	a->next = a->at = position;
}

static void end(struct wire_asked *a)
{
	a->reading = false;
	a->waiting = true;
	/* Both: two servers may read it in two ways. */
	if (a->is_chunked && a->has_length) {
		spoil(a);
		return;
	}
	a->is_known = !a->is_chunked;
	a->next += a->length;
}

void wire_asked__part(struct wire_asked *a, const struct header_names *names,
		      const struct asked_part *p, bool answering)
{
	if (p->opens)
		memset(a, 0, sizeof(*a));
	/* A connection that began with something else. */
	if (p->opens ? p->position != 0 : p->lost)
		spoil(a);
	if (a->spoiled)
		return;
	if (p->begins)
		begin(a, p->position, answering);
	else if (a->reading && p->position != a->at)
		spoil(a);
	if (!a->reading)
		return;
	for (size_t i = 0; i < p->head_size; i++) {
		if (!feed(a, names, p->head[i])) {
			spoil(a);
			return;
		}
	}
	a->at = p->position + p->length;
	a->next += p->head_size;
	if (p->ends)
		end(a);
}

void wire_asked__answer(struct wire_asked *a, const struct header_names *names, char *labels)
{
	size_t used = 0;

	labels[0] = '\0';
	if (a->waiting) {
		for (uint32_t i = 0; i < names->count; i++) {
			const char *text = a->value[i].text;
			size_t more = strlen(names->name[i]) + strlen(text) + 2;

			if (!a->value[i].there || a->value[i].twice || !*text ||
			    used + more >= ASKED_LABELS_BYTES)
				continue;
			snprintf(labels + used, ASKED_LABELS_BYTES - used, "%s=%s\n",
				 names->name[i], text);
			used += more;
		}
	} else if (a->reading) {
		spoil(a); /* answered before all of it was seen */
	}
	a->waiting = false;
}

void wire_asked__lost(struct wire_asked *a)
{
	if (a->waiting || a->reading)
		spoil(a);
}
