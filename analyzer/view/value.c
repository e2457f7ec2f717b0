/* SPDX-License-Identifier: BSD-2-Clause */
#include "analyzer/view/value.h"

#include <ctype.h>
#include <json-c/json.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "analyzer/state/printable.h"
#include "collector/trace/reader.h"

const char *value__small(char out[VALUE_NAME_SIZE], const char *name)
{
	size_t i;

	for (i = 0; name[i] && i < VALUE_NAME_SIZE - 1; i++)
		out[i] = (char)tolower((unsigned char)name[i]);
	out[i] = '\0';
	return out;
}

/* The name of @value, null for the one that means unknown, or the number where a later writer
 * knows more. */
struct json_object *value__name(const char *const *names, size_t count, uint32_t value)
{
	char text[VALUE_NAME_SIZE];

	if (value >= count || !names[value])
		return json_object_new_uint64(value);
	if (!strcasecmp(names[value], "unknown"))
		return NULL;
	return json_object_new_string(value__small(text, names[value]));
}

/* Untrusted bytes as text, malloc'd: what is no harmless character becomes \xNN byte by byte. */
char *value__escape(const void *bytes, size_t size)
{
	const unsigned char *p = bytes;
	char *text = malloc(size * 4 + 1), *to = text;
	size_t n;

	if (!text)
		return NULL;
	while (size) {
		n = printable__length(p, size);
		if (n) {
			memcpy(to, p, n);
			to += n;
		} else {
			n = 1;
			to += sprintf(to, "\\x%02x", *p);
		}
		p += n;
		size -= n;
	}
	*to = '\0';
	return text;
}

/* Adding to an object or list; json-c copies keys, and takes the value. A NULL value is null. */
void value__add(struct json_object *o, const char *key, struct json_object *value)
{
	json_object_object_add(o, key, value);
}

/* Column @i as text; empty is unknown. */
void value__add_text(struct json_object *o, const char *key, const struct trace_item *item,
		     size_t i)
{
	char *text;

	if (!item->column[i].size) {
		value__add(o, key, NULL);
		return;
	}
	text = value__escape(item->column[i].bytes, item->column[i].size);
	value__add(o, key, text ? json_object_new_string(text) : NULL);
	free(text);
}

struct json_object *value__maybe(uint32_t value)
{
	return value == TRACE_UNKNOWN ? NULL : json_object_new_uint64(value);
}

/* The shortest text that gives the same binary32 again. */
struct json_object *value__real(float value)
{
	char text[32];

	if (!isfinite(value))
		return NULL;
	snprintf(text, sizeof(text), "%.9g", (double)value);
	return json_object_new_double_s((double)value, text);
}

/* Entries of a column; @width in bytes; @as_float for f32. */
struct json_object *value__list(const void *bytes, size_t from, size_t count, unsigned width,
				bool as_float)
{
	struct json_object *l = json_object_new_array_ext((int)count), *value;
	size_t i;

	for (i = from; l && i < from + count; i++) {
		if (as_float)
			value = value__real(((const float *)bytes)[i]);
		else if (width == 1)
			value = json_object_new_uint64(((const uint8_t *)bytes)[i]);
		else if (width == 2)
			value = json_object_new_uint64(((const uint16_t *)bytes)[i]);
		else
			value = json_object_new_uint64(((const uint32_t *)bytes)[i]);
		json_object_array_add(l, value);
	}
	return l;
}

static struct json_object *address(uint64_t value)
{
	char text[32];

	snprintf(text, sizeof(text), "0x%llx", (unsigned long long)value);
	return json_object_new_string(text);
}

struct json_object *value__of_field(const struct value_field *f, const void *record)
{
	const uint8_t *at = (const uint8_t *)record + f->offset;
	uint32_t number;
	uint64_t big;

	memcpy(&number, at, sizeof(number));
	switch (f->kind) {
	case NUMBER:
		return json_object_new_uint64(number);
	case MAYBE:
		return value__maybe(number);
	case ZERO_UNKNOWN:
		return number ? json_object_new_uint64(number) : NULL;
	case TRUTH:
		return number > 1 ? NULL : json_object_new_boolean((int)number);
	case FLOAT: {
		float real;

		memcpy(&real, at, sizeof(real));
		return value__real(real);
	}
	case NAME:
		return value__name(f->names, f->name_count, number);
	default:
		break;
	}
	memcpy(&big, at, sizeof(big));
	if (f->kind == DOUBLE) {
		double real;

		memcpy(&real, at, sizeof(real));
		return isfinite(real) ? json_object_new_double(real) : NULL;
	}
	if (f->kind == ADDRESS)
		return address(big);
	if ((f->kind == LONG_MAYBE && big == UINT64_MAX) || (f->kind == LONG_ZERO_UNKNOWN && !big))
		return NULL;
	return json_object_new_uint64(big);
}

struct json_object *value__digest(const uint8_t *bytes, size_t size)
{
	char text[2 * VALUE_DIGEST_MAX + 1];
	uint8_t any = 0;

	for (size_t i = 0; i < size && i < VALUE_DIGEST_MAX; i++) {
		sprintf(text + 2 * i, "%02x", bytes[i]);
		any |= bytes[i];
	}
	return any ? json_object_new_string(text) : NULL;
}
