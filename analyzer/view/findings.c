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

struct finding {
	uint32_t status, pid;
	char area[32], name[64], value[256], remedy[512];
};

struct findings {
	struct finding *finding;
	size_t count, capacity;
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

/* Negative: the value has none. */
struct numbers {
	double hits, ns;
};

/* A finding is text. "16.2 us a step: 6 hits of 2.71 us", "6 hits (emulated) a step", "2.71 us". */
static struct numbers numbers_of(const struct finding *f)
{
	struct numbers n = { -1, -1 };
	const char *hits = strstr(f->value, ": ");
	double us;
	char unit[8];

	if (f->status == TRACE_STATUS_UNKNOWN)
		return n;
	if (!strcmp(f->name, "predicted cost")) {
		if (sscanf(hits ? hits + 2 : f->value, "%lf hit%1[s]", &n.hits, unit) != 2)
			n.hits = -1;
		if (hits && sscanf(f->value, "%lf us", &us) == 1)
			n.ns = us * 1000;
	} else if (!strcmp(f->area, "machine") && sscanf(f->value, "%lf %7s", &us, unit) == 2 &&
		   !strcmp(unit, "us")) {
		n.ns = us * 1000;
	}
	return n;
}

/* The rights that are missing are several, and one command gives them: it is said once, under the
 * last. */
static bool is_said_later(const struct findings *f, size_t at)
{
	for (size_t i = at + 1; i < f->count && !f->finding[at].pid; i++)
		if (!f->finding[i].pid && !strcmp(f->finding[i].remedy, f->finding[at].remedy))
			return true;
	return false;
}

int findings__doctor_table(struct table **out, const struct findings *f)
{
	enum { AREA, NAME, STATUS, VALUE, REMEDY, PID, HITS, NS, COUNT };
	static const struct table_column column[COUNT] = {
		[AREA] = { "area", "area", TABLE_TEXT, 0, TABLE_CELL },
		[NAME] = { "name", "what", TABLE_TEXT, 0, TABLE_CELL },
		[STATUS] = { "status", "status", TABLE_TEXT, 0, TABLE_CELL },
		[VALUE] = { "value", "value", TABLE_TEXT, 0, TABLE_CELL },
		[REMEDY] = { "remedy", "try", TABLE_TEXT, 0, TABLE_BELOW },
		[PID] = { "pid", "process", TABLE_ID, 0, TABLE_JSON_ONLY },
		[HITS] = { "hits", "", TABLE_REAL, 0, TABLE_JSON_ONLY },
		[NS] = { "ns", "", TABLE_REAL, 0, TABLE_JSON_ONLY },
	};
	struct numbers numbers;

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
		if (is_said_later(f, i))
			table__hide_cell(*out, REMEDY);
		if (n->pid)
			table__count(*out, PID, n->pid);
		numbers = numbers_of(n);
		table__real(*out, HITS, numbers.hits);
		table__real(*out, NS, numbers.ns);
	}
	return 0;
}

void findings__free(struct findings *f)
{
	if (!f)
		return;
	free(f->finding);
	free(f);
}
