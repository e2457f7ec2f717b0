/* SPDX-License-Identifier: BSD-2-Clause */
/* Values of records as JSON: unknown is null (a NULL object), untrusted text is made harmless. All
 * objects are owned by the caller; without memory they are null. */
#ifndef MP_VIEW_VALUE_H
#define MP_VIEW_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json_object;
struct trace_item;

#define VALUE_NAME_SIZE 32
#define VALUE_DIGEST_MAX 32

enum value_kind {
	NUMBER,       /* u32 */
	MAYBE,        /* u32 or unknown */
	ZERO_UNKNOWN, /* u32, 0 is unknown */
	LONG,         /* u64 */
	LONG_MAYBE,   /* u64 or unknown */
	LONG_ZERO_UNKNOWN,
	ADDRESS, /* u64 as hexadecimal text: above 2^53 numbers are not safe in JSON */
	TRUTH,   /* u32: 0, 1 or unknown */
	NAME,    /* u32 of an enumeration */
	FLOAT,   /* f32, NaN is unknown */
	DOUBLE,  /* f64, likewise */
};

struct value_field {
	const char *name; /* NULL ends the list */
	uint16_t offset;
	enum value_kind kind;
	const char *const *names; /* NAME: by value; shown in small letters */
	uint32_t name_count;
};

/* The field of @record. */
struct json_object *value__of_field(const struct value_field *f, const void *record);

/* @name in small letters, in @out. */
const char *value__small(char out[VALUE_NAME_SIZE], const char *name);
/* The name of @value, null for the one that means unknown, or the number where a later writer knows
 * more. */
struct json_object *value__name(const char *const *names, size_t count, uint32_t value);
/* Untrusted bytes as text, malloc'd: what is no harmless character becomes \xNN byte by byte. */
char *value__escape(const void *bytes, size_t size);
/* Null if TRACE_UNKNOWN. */
struct json_object *value__maybe(uint32_t value);
/* The shortest text that gives the same binary32 again; null if it is not finite. */
struct json_object *value__real(float value);
/* Hexadecimal; null if all zero. At most VALUE_DIGEST_MAX bytes. */
struct json_object *value__digest(const uint8_t *bytes, size_t size);
/* Entries of a column; @width in bytes; @as_float for f32. */
struct json_object *value__list(const void *bytes, size_t from, size_t count, unsigned width,
				bool as_float);

/* Add to object @o; json-c copies @key, and takes @value. */
void value__add(struct json_object *o, const char *key, struct json_object *value);
/* Column @i as text; empty is unknown. */
void value__add_text(struct json_object *o, const char *key, const struct trace_item *item,
		     size_t i);

#endif
