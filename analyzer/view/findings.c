/* SPDX-License-Identifier: BSD-2-Clause */
#include "analyzer/view/findings.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "analyzer/state/printable.h"
#include "analyzer/view/table.h"
#include "collector/trace/reader.h"
#include "probe/base/error.h"

#define CANDIDATE_COLUMNS_MAX 12

struct finding {
	uint32_t status, pid;
	char area[32], name[64], value[256], remedy[512];
};

struct findings {
	struct finding *finding;
	size_t count, capacity;
	struct table_column column[CANDIDATE_COLUMNS_MAX]; /* of the candidates: pid, then names */
	size_t columns;
};

int findings__new(struct findings **out)
{
	*out = calloc(1, sizeof(**out));
	return *out ? 0 : -ENOMEM;
}

int findings__take(void *findings, const struct trace_item *item, struct error *e)
{
	struct findings *f = findings;
	size_t capacity = f->capacity ? f->capacity * 2 : 64;
	struct finding *n;

	if (item->type != TRACE_FINDING || f->count == FINDINGS_MAX)
		return 0;
	if (f->count == f->capacity) {
		n = reallocarray(f->finding, capacity, sizeof(*n));
		if (!n)
			return error__set(e, EXIT_FAILED, ENOMEM, NULL, "out of memory");
		f->finding = n;
		f->capacity = capacity;
	}
	n = &f->finding[f->count++];
	n->status = item->finding->status;
	n->pid = item->finding->pid;
	printable__copy(n->area, sizeof(n->area), item->column[0].bytes, item->column[0].size);
	printable__copy(n->name, sizeof(n->name), item->column[1].bytes, item->column[1].size);
	printable__copy(n->value, sizeof(n->value), item->column[2].bytes, item->column[2].size);
	printable__copy(n->remedy, sizeof(n->remedy), item->column[3].bytes, item->column[3].size);
	return 0;
}

static const char *status_text(uint32_t status)
{
	static const char *const text[] = {
		[TRACE_STATUS_OK] = "ok",
		[TRACE_STATUS_WARN] = "warning",
		[TRACE_STATUS_MISSING] = "missing",
		[TRACE_STATUS_UNKNOWN] = "unknown",
	};

	return status < sizeof(text) / sizeof(*text) ? text[status] : "unknown";
}

int findings__doctor_table(struct table **out, const struct findings *f)
{
	enum { AREA, NAME, STATUS, VALUE, REMEDY, PID, COUNT };
	static const struct table_column column[COUNT] = {
		[AREA] = { "area", "area", TABLE_TEXT, 0, TABLE_CELL },
		[NAME] = { "name", "what", TABLE_TEXT, 0, TABLE_CELL },
		[STATUS] = { "status", "status", TABLE_TEXT, 0, TABLE_CELL },
		[VALUE] = { "value", "value", TABLE_TEXT, 0, TABLE_CELL },
		[REMEDY] = { "remedy", "try", TABLE_TEXT, 0, TABLE_BELOW },
		[PID] = { "pid", "process", TABLE_ID, 0, TABLE_JSON_ONLY },
	};

	if (table__new(out, "findings", "What works here", TABLE_ROWS, column, COUNT))
		return -ENOMEM;
	for (size_t i = 0; i < f->count; i++) {
		const struct finding *n = &f->finding[i];

		table__row(*out);
		table__text(*out, AREA, n->area);
		table__text(*out, NAME, n->name);
		table__text(*out, STATUS, status_text(n->status));
		table__text(*out, VALUE, n->value);
		table__text(*out, REMEDY, n->remedy);
		if (n->pid)
			table__count(*out, PID, n->pid);
	}
	return 0;
}

/* The column of @name, made if there is room; 0 (the pid's) if not. */
static size_t column_of(struct findings *f, const char *name)
{
	for (size_t i = 1; i < f->columns; i++)
		if (!strcmp(f->column[i].name, name))
			return i;
	if (f->columns == CANDIDATE_COLUMNS_MAX)
		return 0;
	f->column[f->columns] = (struct table_column){ name, name, TABLE_TEXT, 0, TABLE_CELL };
	return f->columns++;
}

static bool is_first_of_process(const struct findings *f, size_t index)
{
	if (!f->finding[index].pid)
		return false;
	for (size_t i = 0; i < index; i++)
		if (f->finding[i].pid == f->finding[index].pid)
			return false;
	return true;
}

int findings__candidate_table(struct table **out, struct findings *f)
{
	size_t column;

	f->column[0] = (struct table_column){ "pid", "pid", TABLE_ID, 0, TABLE_KEY };
	f->columns = 1;
	for (size_t i = 0; i < f->count; i++)
		if (f->finding[i].pid)
			column_of(f, f->finding[i].name);
	if (table__new(out, "candidates", "Servers that can be attached to", TABLE_ROWS, f->column,
		       f->columns))
		return -ENOMEM;
	for (size_t i = 0; i < f->count; i++) {
		if (!is_first_of_process(f, i))
			continue;
		table__row(*out);
		table__count(*out, 0, f->finding[i].pid);
		for (size_t j = i; j < f->count; j++) {
			if (f->finding[j].pid != f->finding[i].pid)
				continue;
			column = column_of(f, f->finding[j].name);
			if (column)
				table__text(*out, column, f->finding[j].value);
		}
	}
	return 0;
}

/* True if @port stands in @value as a number of its own: "127.0.0.1:8080", "8080, 8081". */
static bool has_port(const char *value, uint16_t port)
{
	const char *p = value;
	char *end;

	while (*p) {
		if (*p < '0' || *p > '9') {
			p++;
			continue;
		}
		if (strtoul(p, &end, 10) == port)
			return true;
		p = end;
	}
	return false;
}

static bool finding_matches(const struct finding *n, const char *name, uint16_t port)
{
	if (!n->pid)
		return false;
	if (name)
		return strcasestr(n->value, name) != NULL;
	return port && strcasestr(n->name, "port") && has_port(n->value, port);
}

size_t findings__match(const struct findings *f, const char *name, uint16_t port, uint32_t *pid,
		       size_t room)
{
	size_t found = 0;

	for (size_t i = 0; i < f->count; i++) {
		bool known = false;

		if (!finding_matches(&f->finding[i], name, port))
			continue;
		for (size_t j = 0; j < found && j < room; j++)
			known |= pid[j] == f->finding[i].pid;
		if (known)
			continue;
		if (found < room)
			pid[found] = f->finding[i].pid;
		found++;
	}
	return found;
}

bool findings__obstacle(const struct findings *f, const char **what, const char **remedy)
{
	for (size_t i = 0; i < f->count; i++) {
		const struct finding *n = &f->finding[i];

		if (n->pid || n->status != TRACE_STATUS_MISSING)
			continue;
		*what = n->value;
		*remedy = n->remedy;
		return true;
	}
	return false;
}

void findings__free(struct findings *f)
{
	if (!f)
		return;
	free(f->finding);
	free(f);
}
