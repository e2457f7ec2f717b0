/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Tables: columns with name and unit, cells that have a value or are unknown. Text and JSON come
 * from the same walk, so they cannot differ. Unknown is "-" in text and null in JSON.
 */
#ifndef MP_VIEW_TABLE_H
#define MP_VIEW_TABLE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct json_object;
struct table;

#define TABLE_COLUMNS_MAX 32

enum table_kind {
	TABLE_TEXT,
	TABLE_COUNT, /* u64 */
	TABLE_ID,    /* u64 that names something: no separators, aligned left */
	TABLE_REAL,  /* double, with the column's decimals in text */
	TABLE_SHARE, /* double 0 .. 1; per cent in text */
};

struct table_column {
	const char *name;  /* key in JSON */
	const char *title; /* in text, with the unit */
	enum table_kind kind;
	int decimals; /* TABLE_REAL */
	enum table_place {
		TABLE_CELL,
		TABLE_KEY,       /* a cell that is repeated where the table is too wide */
		TABLE_BELOW,     /* in text: a line of its own under the row, if it is known */
		TABLE_JSON_ONLY, /* not in text */
	} place;
};

enum table_shape {
	TABLE_ROWS,  /* a line a row; an array of objects in JSON */
	TABLE_FACTS, /* one row, a line a column; one object in JSON */
	TABLE_CARDS, /* rows, each a line a column; an array of objects in JSON */
};

/* Strings of the header are borrowed and must outlive the table. 0, -ENOMEM, or -EINVAL: too many
 * columns. */
int table__new(struct table **out, const char *name, const char *title, enum table_shape shape,
	       const struct table_column *column, size_t columns);
/* A new row, all cells unknown; what is set then belongs to it. After a failure (no memory)
 * setting does nothing, and printing says that rows are missing. */
void table__row(struct table *t);
void table__text(struct table *t, size_t column, const char *value); /* copied; "" is unknown */
/* Something before a text that is known: what is to be thought of it. In text only: JSON says it in
 * a column of its own. Copied. */
void table__mark(struct table *t, size_t column, const char *mark);
void table__count(struct table *t, size_t column, uint64_t value);
/* TRACE_UNKNOWN stays unknown. */
void table__known(struct table *t, size_t column, uint32_t value);
/* TABLE_REAL and TABLE_SHARE; not a number or negative stays unknown. */
void table__real(struct table *t, size_t column, double value);
/* Keep the row out of the text: JSON is complete, people read what is not nothing. */
void table__quiet(struct table *t);
/* Keep one cell out of the line of its own that it would have (TABLE_BELOW). */
void table__hide_cell(struct table *t, size_t column);
/* Keep a column out of the text, if it says the same in every row. */
void table__hide(struct table *t, size_t column);
/* What the rows come to, beside the title; text only. */
void table__total(struct table *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A line of text under the table: what it means, or what it cannot say. Copied. */
void table__note(struct table *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

size_t table__rows(const struct table *t);
const char *table__name(const struct table *t);
/* Title, header, rows, notes, in 80 columns; an empty table of rows prints "none". */
void table__print(const struct table *t, FILE *out);
/* Owned by the caller; NULL without memory. */
struct json_object *table__json(const struct table *t);
/* Accepts NULL. */
void table__free(struct table *t);

#endif
