/* SPDX-License-Identifier: BSD-2-Clause */
/* Which columns a record has and how long they are, as one table for writer and reader. */
#ifndef MP_TRACE_LAYOUT_H
#define MP_TRACE_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#include "collector/trace/records.h"

/* An unsigned field of the fixed part: where and how wide (2 or 4 bytes; 0: none, counts as 1). */
struct trace_field {
	uint16_t offset;
	uint16_t bytes;
};

/* A column of width x rows x columns bytes. */
struct trace_column_layout {
	const char *name;         /* NULL: no further column */
	uint32_t width;           /* bytes of an entry */
	struct trace_field count; /* entries */
	struct trace_field times; /* multiplied with */
	uint32_t if_set;          /* there only with this flag; 0: always */
	uint32_t if_clear;        /* there only without this flag; 0: always */
	uint32_t if_wide;         /* this flag doubles the width; 0: never */
};

struct trace_layout {
	const char *name;    /* "request_begin" */
	uint16_t first_size; /* bytes of the fixed part in version 1 */
	uint16_t size;       /* bytes in this build */
	uint32_t flags;      /* that this build knows */
	struct trace_column_layout column[TRACE_COLUMNS_MAX];
};

/* The layout of @type, or NULL for a type that this build does not know. */
const struct trace_layout *trace_layout__find(unsigned type);

/*
 * The bytes of each column of the record whose fixed part (this build's size) is @fixed, without
 * padding; absent ones are 0. Returns the sum with padding, or UINT64_MAX if that is more than any
 * block holds. @columns is set to how many columns the type has.
 */
uint64_t trace_layout__measure(const struct trace_layout *l, const void *fixed,
			       uint64_t size[TRACE_COLUMNS_MAX], size_t *columns);

/* Bytes up to the next multiple of 8. */
static inline uint64_t trace_pad(uint64_t bytes)
{
	return (bytes + 7) & ~(uint64_t)7;
}

#endif
