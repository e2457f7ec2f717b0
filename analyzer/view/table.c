/* SPDX-License-Identifier: BSD-2-Clause */
#include "analyzer/view/table.h"

#include <errno.h>
#include <json-c/json.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "analyzer/view/format.h"
#include "analyzer/view/lines.h"
#include "collector/trace/records.h"

#define NOTES_MAX 16
#define GAP 2       /* spaces before a column */
#define WORD_MAX 24 /* a column that shrinks keeps words up to this whole */

struct cell {
	bool known, hidden;
	char *text;   /* TABLE_TEXT */
	char *marked; /* the same with its mark; NULL: without */
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
	*out = NULL;
	if (columns > TABLE_COLUMNS_MAX)
		return -EINVAL;
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

void table__mark(struct table *t, size_t column, const char *mark)
{
	struct cell *c = cell_of(t, column);

	if (!c || !c->known || !c->text)
		return;
	free(c->marked);
	if (asprintf(&c->marked, "%s%s", mark, c->text) >= 0)
		return;
	c->marked = NULL;
	t->short_of_memory = true;
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

void table__hide_cell(struct table *t, size_t column)
{
	struct cell *c = cell_of(t, column);

	if (c)
		c->hidden = true;
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
		return c->marked ? c->marked : c->text;
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

static void print_padded(FILE *out, const char *text, size_t width, bool right, bool last)
{
	size_t own = lines__width(text), pad = own < width ? width - own : 0;

	if (right)
		fprintf(out, "%*s%s", (int)pad, "", text);
	else
		fprintf(out, "%s%*s", text, last ? 0 : (int)pad, "");
}

static bool is_hidden(const struct table *t, size_t column)
{
	return column < 64 && t->hidden & (1ull << column);
}

static bool is_below(const struct table *t, size_t column)
{
	return t->column[column].place == TABLE_BELOW && !is_hidden(t, column);
}

static bool is_key(const struct table *t, size_t column)
{
	return t->column[column].place == TABLE_KEY && !is_hidden(t, column);
}

static bool is_cell(const struct table *t, size_t column)
{
	return (t->column[column].place == TABLE_CELL && !is_hidden(t, column)) ||
	       is_key(t, column);
}

/* Numbers are aligned right, so that their digits can be compared. */
static bool is_number(const struct table_column *c)
{
	return c->kind != TABLE_TEXT && c->kind != TABLE_ID;
}

/* The title, or the cell in @row. */
static const char *text_at(const struct table *t, long row, size_t column, char *out, size_t size)
{
	const struct table_column *c = &t->column[column];

	return row < 0 ? c->title
		       : cell_text(c, &t->cell[(size_t)row * t->columns + column], out, size);
}

/* The widest cell of a column, by @measure. */
static size_t widest(const struct table *t, size_t column, size_t (*measure)(const char *))
{
	size_t width = lines__width(t->column[column].title), own;
	char text[64];

	for (size_t r = 0; r < t->rows; r++) {
		if (t->quiet[r])
			continue;
		own = measure(text_at(t, (long)r, column, text, sizeof(text)));
		width = own > width ? own : width;
	}
	return width;
}

/* Columns that the cells from @from to before @end take beside the key. */
static size_t sum_widths(const struct table *t, const size_t *width, size_t from, size_t end)
{
	size_t sum = 0;

	for (size_t i = 0; i < t->columns; i++)
		if (is_key(t, i) || (is_cell(t, i) && i >= from && i < end))
			sum += GAP + width[i];
	return sum;
}

/* To what a column may shrink: its words stay whole, but for the odd one that is very long. */
static size_t least_width(const struct table *t, size_t column, size_t width)
{
	size_t least;

	if (t->column[column].kind != TABLE_TEXT)
		return width;
	least = widest(t, column, lines__word_width);
	return least < WORD_MAX ? least : WORD_MAX;
}

/* Make texts narrower, the widest first, if all fits then. */
static void shrink(const struct table *t, size_t *width)
{
	size_t sum = sum_widths(t, width, 0, t->columns), most, least[TABLE_COLUMNS_MAX] = { 0 };

	for (size_t i = 0; i < t->columns; i++)
		least[i] = least_width(t, i, width[i]);
	if (sum <= LINES_WIDTH || sum_widths(t, least, 0, t->columns) > LINES_WIDTH)
		return;
	for (; sum > LINES_WIDTH; sum--) {
		most = t->columns;
		for (size_t i = 0; i < t->columns; i++)
			if (is_cell(t, i) && width[i] > least[i] &&
			    (most == t->columns || width[i] > width[most]))
				most = i;
		width[most]--;
	}
}

/* A line of what is left of the cells in @rest (NULL: not in this part); true: something is left
 * for a further line. Spaces at its end are left out. */
static bool print_line(const struct table *t, const size_t *width, const char **rest, FILE *out)
{
	char piece[1024];
	bool more = false;
	size_t pad = 0;

	for (size_t i = 0; i < t->columns; i++) {
		size_t fits = rest[i] ? lines__fit(rest[i], width[i]) : 0;

		if (!rest[i])
			continue;
		snprintf(piece, sizeof(piece), "%.*s", (int)fits, rest[i]);
		if (*piece) {
			fprintf(out, "%*s", (int)(pad + GAP), "");
			print_padded(out, piece, width[i], is_number(&t->column[i]), true);
			pad = is_number(&t->column[i]) ? 0 : width[i] - lines__width(piece);
		} else {
			pad += GAP + width[i];
		}
		rest[i] = lines__rest(rest[i], fits);
		more |= *rest[i] != '\0';
	}
	fputc('\n', out);
	return more;
}

/*
 * The key's cells and those from @from to before @end; row -1: their titles. Texts go on below
 * themselves; one with a word that its column cannot hold has lines of its own.
 */
static void print_row(const struct table *t, const size_t *width, long row, size_t from, size_t end,
		      FILE *out)
{
	const char *rest[TABLE_COLUMNS_MAX] = { NULL }, *own[TABLE_COLUMNS_MAX] = { NULL };
	char text[TABLE_COLUMNS_MAX][FORMAT_SIZE];

	for (size_t i = 0; i < t->columns; i++) {
		if (!is_key(t, i) && (!is_cell(t, i) || i < from || i >= end))
			continue;
		rest[i] = text_at(t, row, i, text[i], sizeof(text[i]));
		if (lines__word_width(rest[i]) > width[i]) {
			own[i] = rest[i];
			rest[i] = "";
		}
	}
	while (print_line(t, width, rest, out))
		;
	for (size_t i = 0; i < t->columns; i++)
		if (own[i])
			lines__print(out, 8, "      %s", own[i]);
}

static void print_below(const struct table *t, size_t row, FILE *out)
{
	char text[64];

	for (size_t i = 0; i < t->columns; i++) {
		const struct cell *c = &t->cell[row * t->columns + i];

		if (c->known && !c->hidden && is_below(t, i))
			lines__print(out, 8, "      %s: %s", t->column[i].title,
				     cell_text(&t->column[i], c, text, sizeof(text)));
	}
}

/* As many columns at a time as fit, each time beside the key. */
static void print_rows(const struct table *t, FILE *out)
{
	size_t width[TABLE_COLUMNS_MAX] = { 0 }, end;

	for (size_t i = 0; i < t->columns; i++)
		width[i] = widest(t, i, lines__width);
	shrink(t, width);
	for (size_t from = 0; from < t->columns; from = end) {
		end = from + 1;
		while (end < t->columns && sum_widths(t, width, from, end + 1) <= LINES_WIDTH)
			end++;
		if (from)
			fputc('\n', out);
		print_row(t, width, -1, from, end, out);
		for (size_t r = 0; r < t->rows; r++) {
			if (t->quiet[r])
				continue;
			print_row(t, width, (long)r, from, end, out);
			if (!from)
				print_below(t, r, out);
		}
	}
}

/* A line a column. */
static void print_facts(const struct table *t, FILE *out)
{
	char text[64];
	size_t width = 0;

	for (size_t i = 0; i < t->columns; i++) {
		size_t own = is_cell(t, i) ? lines__width(t->column[i].title) : 0;

		width = own > width ? own : width;
	}
	for (size_t i = 0; i < t->rows * t->columns; i++) {
		const struct table_column *c = &t->column[i % t->columns];

		if (i && i % t->columns == 0)
			fputc('\n', out);
		if (is_cell(t, i % t->columns))
			lines__print(out, (unsigned)(2 * GAP + width), "  %s%*s  %s", c->title,
				     (int)(width - lines__width(c->title)), "",
				     cell_text(c, &t->cell[i], text, sizeof(text)));
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
		lines__print(out, GAP, "  %s", t->note[i]);
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
	for (size_t i = 0; i < t->rows * t->columns; i++) {
		free(t->cell[i].text);
		free(t->cell[i].marked);
	}
	for (size_t i = 0; i < t->notes; i++)
		free(t->note[i]);
	free(t->cell);
	free(t->quiet);
	free(t);
}
