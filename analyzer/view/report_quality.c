/* SPDX-License-Identifier: BSD-2-Clause */
/* The tables about how far the numbers can be trusted: coverage, loss, invalid, cost, and what
 * was not recorded. */
#include "analyzer/view/report_tables.h"

#include <stddef.h>

#include "analyzer/metric/coverage.h"
#include "analyzer/state/state.h"
#include "analyzer/view/format.h"
#include "analyzer/view/table.h"

/* Cause, count, and for some a second number. */
enum { CAUSE, CAUSE_COUNT, CAUSE_MORE, CAUSE_COLUMNS };

/* Causes that are zero stay out of the text, where a total stands above them. */
static void add_cause(struct table *t, const char *cause, uint64_t count)
{
	table__row(t);
	if (!count)
		table__quiet(t);
	table__text(t, CAUSE, cause);
	table__count(t, CAUSE_COUNT, count);
}

int report__coverage(struct table **out, const struct state *s, const char *source)
{
	static const struct table_column column[CAUSE_COLUMNS] = {
		[CAUSE] = { "part", "rows x layers", TABLE_TEXT, 0, TABLE_CELL },
		[CAUSE_COUNT] = { "count", "count", TABLE_COUNT, 0, TABLE_CELL },
		[CAUSE_MORE] = { "share", "of expected", TABLE_SHARE, 0, TABLE_CELL },
	};
	const struct state_coverage *c = &state__summary(s)->coverage;
	char share[FORMAT_SIZE];

	if (table__new(out, "coverage", "Coverage of ended requests", TABLE_ROWS, column,
		       CAUSE_COLUMNS))
		return -1;
	if (!state__summary(s)->has_coverage)
		return 0;
	table__total(*out, "%s", format__share(share, sizeof(share), coverage__share(c)));
	add_cause(*out, "expected", c->expected);
	add_cause(*out, "seen", c->seen);
	table__real(*out, CAUSE_MORE, coverage__seen_share(c));
#define X(id, name, text) \
	add_cause(*out, text, c->missing[(id)-1]); \
	table__real(*out, CAUSE_MORE, coverage__missing_share(c, (id)-1));
	TRACE_MISSING(X)
#undef X
	if (c->missing[STATE_MISSING_OTHER]) {
		add_cause(*out, "other causes", c->missing[STATE_MISSING_OTHER]);
		table__real(*out, CAUSE_MORE, coverage__missing_share(c, STATE_MISSING_OTHER));
	}
	table__note(*out,
		    "coverage, here and everywhere: seen / (expected - cached - not computed), "
		    "in rows x layers of ended requests.");
	return 0;
}

int report__loss(struct table **out, const struct state *s, const char *source)
{
	enum { DECISIONS = CAUSE_COLUMNS, COUNT };
	static const struct table_column column[COUNT] = {
		[CAUSE] = { "cause", "cause", TABLE_TEXT, 0, TABLE_CELL },
		[CAUSE_COUNT] = { "count", "count", TABLE_COUNT, 0, TABLE_CELL },
		[CAUSE_MORE] = { "rows", "rows", TABLE_COUNT, 0, TABLE_CELL },
		[DECISIONS] = { "decisions", "rows x layers", TABLE_COUNT, 0, TABLE_CELL },
	};
	const struct state_summary *m = state__summary(s);
	char total[FORMAT_SIZE], share[FORMAT_SIZE];

	if (table__new(out, "loss", "Loss", TABLE_ROWS, column, COUNT))
		return -1;
	format__count(total, sizeof(total), m->lost);
	format__share(share, sizeof(share), state__lost_share(s));
	table__total(*out, "%s (%s of the decisions)", total, share);
#define X(id, name, text) \
	add_cause(*out, text, m->loss[id].count); \
	if (m->loss[id].has_rows) \
		table__count(*out, CAUSE_MORE, m->loss[id].rows); \
	if (m->loss[id].has_decisions) \
		table__count(*out, DECISIONS, m->loss[id].decisions);
	TRACE_LOSSES(X)
#undef X
	if (m->loss[0].count)
		add_cause(*out, "other causes", m->loss[0].count);
	return 0;
}

int report__invalid(struct table **out, const struct state *s, const char *source)
{
	static const struct table_column column[] = {
		[CAUSE] = { "cause", "cause", TABLE_TEXT, 0, TABLE_CELL },
		[CAUSE_COUNT] = { "count", "count", TABLE_COUNT, 0, TABLE_CELL },
	};
	const struct state_summary *m = state__summary(s);
	char total[FORMAT_SIZE];

	if (table__new(out, "invalid", "Invalid: read, but failed its check", TABLE_ROWS, column,
		       2))
		return -1;
	table__total(*out, "%s", format__count(total, sizeof(total), m->invalid));
#define X(id, name, text) add_cause(*out, text, m->invalid_by[id]);
	TRACE_INVALIDS(X)
#undef X
	if (m->invalid_by[0])
		add_cause(*out, "other causes", m->invalid_by[0]);
	add_cause(*out, "recording: ids or rows outside their model or step", m->out_of_range);
	add_cause(*out, "recording: results before their model was described", m->no_model);
	return 0;
}

int report__cost(struct table **out, const struct state *s, const char *source)
{
	enum { HITS, HIT_NS, THREAD_SHARE, SLOWDOWN, CPU, MEMORY, COUNT };
	static const struct table_column column[COUNT] = {
		[HITS] = { "hits", "probe hits", TABLE_COUNT, 0, TABLE_CELL },
		[HIT_NS] = { "hit_ns", "time a hit, ns (calibrated)", TABLE_REAL, 0, TABLE_CELL },
		[THREAD_SHARE] = { "thread_share", "time in probes, of one thread", TABLE_SHARE, 0,
				   TABLE_CELL },
		[SLOWDOWN] = { "slowdown", "slowdown, estimated", TABLE_SHARE, 0, TABLE_CELL },
		[CPU] = { "collector_cpu", "collector, of one CPU", TABLE_SHARE, 0, TABLE_CELL },
		[MEMORY] = { "collector_bytes", "collector, resident bytes", TABLE_COUNT, 0,
			     TABLE_CELL },
	};
	const struct state_cost *c = &state__summary(s)->cost;
	double interval = (double)c->interval_ns, share;

	if (table__new(out, "cost", "Cost", TABLE_FACTS, column, COUNT))
		return -1;
	table__row(*out);
	if (!c->known)
		return 0;
	table__count(*out, HITS, c->hits);
	if (c->timed_hits)
		table__real(*out, HIT_NS, (double)c->hit_ns / (double)c->timed_hits);
	if (c->resident_bytes)
		table__count(*out, MEMORY, c->resident_bytes);
	if (!c->interval_ns)
		return 0;
	if (c->timed_ns) {
		share = (double)c->hit_ns / (double)c->timed_ns;
		table__real(*out, THREAD_SHARE, share);
		if (c->threads && c->threads != TRACE_UNKNOWN)
			table__real(*out, SLOWDOWN, share / c->threads);
	}
	table__real(*out, CPU, (double)c->collector_cpu_ns / interval);
	return 0;
}

/* "": as it was meant to. */
static const char *early_end(const struct state_summary *m)
{
	if (!m->ended)
		return "ended: cut off: what came after it was never written";
	if (m->end.stop == TRACE_STOP_FAILED)
		return "ended: the collector failed: what came after it is missing";
	if (m->end.stop == TRACE_STOP_OUTPUT)
		return "ended: the output could not be written: what came after it is missing";
	return "";
}

int report__warnings(struct table **out, const struct state *s, const char *source)
{
	static const struct table_column column[] = {
		{ "warning", "warning", TABLE_TEXT, 0, TABLE_CELL },
	};
	const struct state_summary *m = state__summary(s);
	uint32_t first = m->warnings > STATE_WARNINGS_MAX ? m->warnings - STATE_WARNINGS_MAX : 0;

	if (table__new(out, "warnings", "Warnings", TABLE_ROWS, column, 1))
		return -1;
	if (*early_end(m)) {
		table__row(*out);
		table__text(*out, 0, early_end(m));
	}
	for (uint32_t i = first; i < m->warnings; i++) {
		table__row(*out);
		table__text(*out, 0, m->warning[i % STATE_WARNINGS_MAX]);
	}
	return 0;
}

int report__unanswered(struct table **out, const struct state *s, const char *source)
{
	static const struct table_column column[] = {
		{ "question", "question", TABLE_TEXT, 0, TABLE_CELL },
		{ "needs", "needs", TABLE_TEXT, 0, TABLE_CELL },
	};
	static const struct {
		const char *question, *needs;
	} lines[] = {
		{ "which token chose which experts", "--detail routes" },
		{ "steps, and which requests shared one", "--detail routes" },
		{ "what the tokens were", "--detail tokens" },
	};
	const struct state_summary *m = state__summary(s);
	size_t first = m->has_tokens ? 3 : m->has_routes ? 2 : 0;

	if (table__new(out, "unanswered", "What this recording cannot answer", TABLE_ROWS, column,
		       2))
		return -1;
	for (size_t i = first; i < sizeof(lines) / sizeof(*lines); i++) {
		table__row(*out);
		table__text(*out, 0, lines[i].question);
		table__text(*out, 1, lines[i].needs);
	}
	return 0;
}
