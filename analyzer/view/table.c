/* SPDX-License-Identifier: BSD-2-Clause */
#include "analyzer/view/table.h"

#include <errno.h>
#include <json-c/json.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include "analyzer/view/format.h"
#include "collector/trace/records.h"

#define NOTES_MAX 16

struct cell {
	bool known;
	char *text; /* TABLE_TEXT */
	uint64_t count;
	double real;
};

struct table {
	const char *name, *title;
	enum table_shape shape;
	const struct table_column *column;
	size_t columns;
	uint64_t hidden;   /* columns, one bit each */
	struct cell *cell; /* [rows][columns] */
	bool *quiet;       /* [rows] */
	size_t rows, capacity;
	bool short_of_memory;
	char total[96];
	char *note[NOTES_MAX];
	size_t notes;
};

int table__new(struct table **out, const char *name, const char *title, enum table_shape shape,
	       const struct table_column *column, size_t columns)
{
	*out = calloc(1, sizeof(**out));
	if (!*out)
		return -ENOMEM;
	(*out)->name = name;
	(*out)->title = title;
	(*out)->shape = shape;
	(*out)->column = column;
	(*out)->columns = columns;
	return 0;
}

void table__row(struct table *t)
{
	size_t capacity = t->capacity ? t->capacity * 2 : 16;
	struct cell *cell;
	bool *quiet;

	if (t->short_of_memory)
		return;
	if (t->rows == t->capacity) {
		cell = reallocarray(t->cell, capacity, t->columns * sizeof(*cell));
		t->cell = cell ? cell : t->cell;
		quiet = reallocarray(t->quiet, capacity, sizeof(*quiet));
		t->quiet = quiet ? quiet : t->quiet;
		if (!cell || !quiet) {
			t->short_of_memory = true;
			return;
		}
		t->capacity = capacity;
	}
	t->quiet[t->rows] = false;
	memset(&t->cell[t->rows * t->columns], 0, t->columns * sizeof(*t->cell));
	t->rows++;
}

static struct cell *cell_of(struct table *t, size_t column)
{
	if (!t->rows || t->short_of_memory || column >= t->columns)
		return NULL;
	return &t->cell[(t->rows - 1) * t->columns + column];
}

void table__text(struct table *t, size_t column, const char *value)
{
	struct cell *c = cell_of(t, column);

	if (!c || !value || !*value)
		return;
	free(c->text);
	c->text = strdup(value);
	c->known = c->text;
}

void table__count(struct table *t, size_t column, uint64_t value)
{
	struct cell *c = cell_of(t, column);

	if (!c)
		return;
	c->known = true;
	c->count = value;
}

void table__known(struct table *t, size_t column, uint32_t value)
{
	if (value != TRACE_UNKNOWN)
		table__count(t, column, value);
}

void table__real(struct table *t, size_t column, double value)
{
	struct cell *c = cell_of(t, column);

	if (!c || !isfinite(value) || value < 0)
		return;
	c->known = true;
	c->real = value;
}

void table__quiet(struct table *t)
{
	if (t->rows && !t->short_of_memory)
		t->quiet[t->rows - 1] = true;
}

void table__hide(struct table *t, size_t column)
{
	if (column < 64)
		t->hidden |= 1ull << column;
}

void table__total(struct table *t, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(t->total, sizeof(t->total), fmt, ap);
	va_end(ap);
}

void table__note(struct table *t, const char *fmt, ...)
{
	va_list ap;

	if (t->notes == NOTES_MAX)
		return;
	va_start(ap, fmt);
	if (vasprintf(&t->note[t->notes], fmt, ap) >= 0)
		t->notes++;
	va_end(ap);
}

size_t table__rows(const struct table *t)
{
	return t->rows;
}

const char *table__name(const struct table *t)
{
	return t->name;
}

/* The cell as text: borrowed from it or written into @out. */
static const char *cell_text(const struct table_column *column, const struct cell *c, char *out,
			     size_t size)
{
	if (!c->known)
		return "-";
	switch (column->kind) {
	case TABLE_TEXT:
		return c->text;
	case TABLE_COUNT:
		return format__count(out, size, c->count);
	case TABLE_ID:
		snprintf(out, size, "%llu", (unsigned long long)c->count);
		return out;
	case TABLE_REAL:
		snprintf(out, size, "%.*f", column->decimals, c->real);
		return out;
	case TABLE_SHARE:
		return format__share(out, size, c->real);
	}
	return "-";
}

/* Columns on a terminal; bytes where the locale cannot say. */
static size_t width_of(const char *text)
{
	wchar_t wide[512];
	size_t n = mbstowcs(wide, text, sizeof(wide) / sizeof(*wide));
	int width;

	if (n == (size_t)-1 || n == sizeof(wide) / sizeof(*wide))
		return strlen(text);
	width = wcswidth(wide, n);
	return width < 0 ? strlen(text) : (size_t)width;
}

static void print_padded(FILE *out, const char *text, size_t width, bool right, bool last)
{
	size_t own = width_of(text), pad = own < width ? width - own : 0;

	if (right)
		fprintf(out, "%*s%s", (int)pad, "", text);
	else
		fprintf(out, "%s%*s", text, last ? 0 : (int)pad, "");
}

static bool is_shown(const struct table *t, size_t column, enum table_place place)
{
	if (column < 64 && t->hidden & (1ull << column))
		return false;
	return t->column[column].place == place;
}

/* Numbers are aligned right, so that their digits can be compared. */
static bool is_number(const struct table_column *c)
{
	return c->kind != TABLE_TEXT && c->kind != TABLE_ID;
}

static size_t column_width(const struct table *t, size_t column)
{
	const struct table_column *c = &t->column[column];
	size_t width = width_of(c->title), own;
	char text[64];

	for (size_t r = 0; r < t->rows; r++) {
		if (t->quiet[r])
			continue;
		own = width_of(cell_text(c, &t->cell[r * t->columns + column], text, sizeof(text)));
		width = own > width ? own : width;
	}
	return width;
}

/* One line of cells, spaces at its end left out; row -1 is the header. */
static void print_line(const struct table *t, const size_t *width, long row, FILE *out)
{
	size_t last = 0;
	char text[64];

	for (size_t i = 0; i < t->columns; i++)
		if (is_shown(t, i, TABLE_CELL))
			last = i;
	for (size_t i = 0; i <= last; i++) {
		const struct table_column *c = &t->column[i];

		if (!is_shown(t, i, TABLE_CELL))
			continue;
		fputs("  ", out);
		print_padded(out,
			     row < 0 ? c->title
				     : cell_text(c, &t->cell[(size_t)row * t->columns + i], text,
						 sizeof(text)),
			     width[i], is_number(c), i == last);
	}
	fputc('\n', out);
}

static void print_below(const struct table *t, size_t row, FILE *out)
{
	char text[64];

	for (size_t i = 0; i < t->columns; i++) {
		const struct cell *c = &t->cell[row * t->columns + i];

		if (c->known && is_shown(t, i, TABLE_BELOW))
			fprintf(out, "      %s: %s\n", t->column[i].title,
				cell_text(&t->column[i], c, text, sizeof(text)));
	}
}

static void print_rows(const struct table *t, FILE *out)
{
	size_t *width = calloc(t->columns, sizeof(*width));

	if (!width)
		return;
	for (size_t i = 0; i < t->columns; i++)
		width[i] = column_width(t, i);
	print_line(t, width, -1, out);
	for (size_t r = 0; r < t->rows; r++) {
		if (t->quiet[r])
			continue;
		print_line(t, width, (long)r, out);
		print_below(t, r, out);
	}
	free(width);
}

/* A line a column. */
static void print_facts(const struct table *t, FILE *out)
{
	char text[64];
	size_t width = 0;

	for (size_t i = 0; i < t->columns; i++) {
		size_t own = width_of(t->column[i].title);

		width = own > width ? own : width;
	}
	for (size_t i = 0; i < t->rows * t->columns; i++) {
		const struct table_column *c = &t->column[i % t->columns];

		if (i && i % t->columns == 0)
			fputc('\n', out);
		if (!is_shown(t, i % t->columns, TABLE_CELL))
			continue;
		fputs("  ", out);
		print_padded(out, c->title, width, false, false);
		fprintf(out, "  %s\n", cell_text(c, &t->cell[i], text, sizeof(text)));
	}
}

void table__print(const struct table *t, FILE *out)
{
	size_t quiet = 0;

	for (size_t r = 0; r < t->rows; r++)
		quiet += t->quiet[r];
	fprintf(out, "%s%s%s\n", t->title, *t->total ? ": " : "", t->total);
	if (t->rows && quiet == t->rows)
		; /* the total says it */
	else if (!t->rows)
		fputs("  none\n", out);
	else if (t->shape != TABLE_ROWS)
		print_facts(t, out);
	else
		print_rows(t, out);
	if (t->short_of_memory)
		fputs("  (rows are missing: out of memory)\n", out);
	for (size_t i = 0; i < t->notes; i++)
		fprintf(out, "  %s\n", t->note[i]);
}

static struct json_object *cell_json(const struct table_column *column, const struct cell *c)
{
	if (!c->known)
		return NULL; /* null */
	switch (column->kind) {
	case TABLE_TEXT:
		return json_object_new_string(c->text);
	case TABLE_COUNT:
	case TABLE_ID:
		return json_object_new_uint64(c->count);
	case TABLE_REAL:
	case TABLE_SHARE:
		return json_object_new_double(c->real);
	}
	return NULL;
}

static struct json_object *row_json(const struct table *t, size_t row)
{
	struct json_object *o = json_object_new_object();

	for (size_t i = 0; o && i < t->columns; i++)
		json_object_object_add(o, t->column[i].name,
				       cell_json(&t->column[i], &t->cell[row * t->columns + i]));
	return o;
}

struct json_object *table__json(const struct table *t)
{
	struct json_object *rows;

	if (t->shape == TABLE_FACTS)
		return t->rows ? row_json(t, 0) : NULL;
	rows = json_object_new_array();
	for (size_t r = 0; rows && r < t->rows; r++)
		json_object_array_add(rows, row_json(t, r));
	return rows;
}

void table__free(struct table *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < t->rows * t->columns; i++)
		free(t->cell[i].text);
	for (size_t i = 0; i < t->notes; i++)
		free(t->note[i]);
	free(t->cell);
	free(t->quiet);
	free(t);
}
