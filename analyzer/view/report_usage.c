/* SPDX-License-Identifier: BSD-2-Clause */
/* The tables about what was seen: capture, models, layers, requests. */
#include "analyzer/view/report_tables.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "analyzer/metric/coverage.h"
#include "analyzer/metric/utilisation.h"
#include "analyzer/state/state.h"
#include "analyzer/view/format.h"
#include "analyzer/view/table.h"
#include "analyzer/view/unread.h"

#define COLUMNS(array) (sizeof(array) / sizeof(*(array)))

static const char *stop_text(uint32_t stop)
{
	switch (stop) {
#define X(id, name, text) \
	case id: \
		return text;
		TRACE_STOPS(X)
#undef X
	}
	return "unknown";
}

static const char *ending_text(const struct state_request *r)
{
	if (request__is_open(r))
		return "open";
	switch (r->ending) {
#define X(id, name, text) \
	case id: \
		return text;
		TRACE_ENDINGS(X)
#undef X
	}
	return "unknown";
}

static const char *detail_text(const struct state_summary *m)
{
	if (m->has_tokens)
		return "tokens";
	if (m->has_routes)
		return "routes";
	return m->has_counts ? "requests" : "";
}

enum {
	CAPTURE_SOURCE,
	CAPTURE_DURATION,
	CAPTURE_ENDED,
	CAPTURE_DETAIL,
	CAPTURE_STEPS,
	CAPTURE_PREFILL,
	CAPTURE_DECODE,
	CAPTURE_OTHER,
	CAPTURE_DECISIONS,
	CAPTURE_COVERAGE,
	CAPTURE_LOST,
	CAPTURE_INVALID,
	CAPTURE_FINISHED,
	CAPTURE_LIVE,
	CAPTURE_FORGOTTEN,
	CAPTURE_RAW,
	CAPTURE_OTHER_IDS,
	CAPTURE_TIES,
	CAPTURE_WINDOWS,
	CAPTURE_WATCHED,
	CAPTURE_SKIPPED,
	CAPTURE_SKIPPED_TYPES,
	CAPTURE_DAMAGED_BLOCKS,
	CAPTURE_DAMAGED_BYTES,
	CAPTURE_COLUMNS
};

static const struct table_column capture_column[CAPTURE_COLUMNS] = {
	[CAPTURE_SOURCE] = { "source", "source", TABLE_TEXT, 0, TABLE_CELL },
	[CAPTURE_DURATION] = { "seconds", "duration, s", TABLE_REAL, 1, TABLE_CELL },
	[CAPTURE_ENDED] = { "ended", "ended", TABLE_TEXT, 0, TABLE_CELL },
	[CAPTURE_DETAIL] = { "detail", "detail", TABLE_TEXT, 0, TABLE_CELL },
	[CAPTURE_STEPS] = { "steps", "steps", TABLE_COUNT, 0, TABLE_CELL },
	[CAPTURE_PREFILL] = { "rows_prefill", "rows, prefill", TABLE_COUNT, 0, TABLE_CELL },
	[CAPTURE_DECODE] = { "rows_decode", "rows, decode", TABLE_COUNT, 0, TABLE_CELL },
	[CAPTURE_OTHER] = { "rows_unknown", "rows, phase unknown", TABLE_COUNT, 0, TABLE_CELL },
	[CAPTURE_DECISIONS] = { "decisions", "decisions (rows x layers)", TABLE_COUNT, 0,
				TABLE_CELL },
	[CAPTURE_COVERAGE] = { "coverage", "coverage, ended requests", TABLE_SHARE, 0, TABLE_CELL },
	[CAPTURE_LOST] = { "lost", "lost", TABLE_COUNT, 0, TABLE_CELL },
	[CAPTURE_INVALID] = { "invalid", "invalid", TABLE_COUNT, 0, TABLE_CELL },
	[CAPTURE_FINISHED] = { "requests_finished", "requests, finished", TABLE_COUNT, 0,
			       TABLE_CELL },
	[CAPTURE_LIVE] = { "requests_live", "requests, not finished", TABLE_COUNT, 0, TABLE_CELL },
	[CAPTURE_FORGOTTEN] = { "requests_not_listed", "requests, not listed", TABLE_COUNT, 0,
				TABLE_CELL },
	[CAPTURE_RAW] = { "decisions_raw", "", TABLE_COUNT, 0, TABLE_JSON_ONLY },
	[CAPTURE_OTHER_IDS] = { "decisions_other_ids", "", TABLE_COUNT, 0, TABLE_JSON_ONLY },
	[CAPTURE_TIES] = { "decisions_tied", "", TABLE_COUNT, 0, TABLE_JSON_ONLY },
	[CAPTURE_WINDOWS] = { "windows", "", TABLE_COUNT, 0, TABLE_JSON_ONLY },
	[CAPTURE_WATCHED] = { "windows_seconds", "", TABLE_REAL, 1, TABLE_JSON_ONLY },
	[CAPTURE_SKIPPED] = { "records_skipped", "", TABLE_COUNT, 0, TABLE_JSON_ONLY },
	[CAPTURE_SKIPPED_TYPES] = { "types_skipped", "", TABLE_COUNT, 0, TABLE_JSON_ONLY },
	[CAPTURE_DAMAGED_BLOCKS] = { "damaged_blocks", "", TABLE_COUNT, 0, TABLE_JSON_ONLY },
	[CAPTURE_DAMAGED_BYTES] = { "damaged_bytes", "", TABLE_COUNT, 0, TABLE_JSON_ONLY },
};

/* What was passed over is said when there is something; in JSON always. */
static void add_unread(struct table *t, const struct trace_unread *u)
{
	char text[UNREAD_SIZE];

	table__count(t, CAPTURE_SKIPPED, u->records);
	table__count(t, CAPTURE_SKIPPED_TYPES, u->types);
	table__count(t, CAPTURE_DAMAGED_BLOCKS, u->damaged_blocks);
	table__count(t, CAPTURE_DAMAGED_BYTES, u->damaged_bytes);
	if (u->damaged_blocks)
		table__note(t, "%s", unread__damaged(text, u));
	if (u->records)
		table__note(t, "%s", unread__skipped(text, u));
}

/* Decisions that say less than others do are named when there are any; in JSON always. */
static void add_exceptions(struct table *t, const struct state_summary *m)
{
	char text[FORMAT_SIZE];

	table__count(t, CAPTURE_RAW, m->raw);
	table__count(t, CAPTURE_OTHER_IDS, m->other_ids);
	table__count(t, CAPTURE_TIES, m->ties);
	table__count(t, CAPTURE_WINDOWS, m->windows);
	table__real(t, CAPTURE_WATCHED, (double)m->watched_ns / 1e9);
	if (m->raw)
		table__note(t, "%s decisions have no final weights: they are in no gate mass",
			    format__count(text, sizeof(text), m->raw));
	if (m->other_ids)
		table__note(t, "%s decisions name experts by place: they are in no layer's use",
			    format__count(text, sizeof(text), m->other_ids));
	if (m->ties)
		table__note(t, "%s decisions between equal scores are inferred",
			    format__count(text, sizeof(text), m->ties));
}

int report__capture(struct table **out, const struct state *s, const char *source)
{
	const struct state_summary *m = state__summary(s);
	const struct request_table *requests = state__requests(s);

	if (table__new(out, "capture", "Capture", TABLE_FACTS, capture_column, CAPTURE_COLUMNS))
		return -1;
	table__row(*out);
	table__text(*out, CAPTURE_SOURCE, source);
	table__real(*out, CAPTURE_DURATION, (double)(m->last_ns - m->first_ns) / 1e9);
	table__text(*out, CAPTURE_ENDED,
		    m->ended ? stop_text(m->end.stop) : "cut off: the end is missing");
	table__text(*out, CAPTURE_DETAIL, detail_text(m));
	if (state__steps(s) != UINT64_MAX)
		table__count(*out, CAPTURE_STEPS, state__steps(s));
	table__count(*out, CAPTURE_PREFILL, m->rows[STATE_PREFILL]);
	table__count(*out, CAPTURE_DECODE, m->rows[STATE_DECODE]);
	table__count(*out, CAPTURE_OTHER, m->rows[STATE_OTHER]);
	table__count(*out, CAPTURE_DECISIONS, m->decisions);
	table__real(*out, CAPTURE_COVERAGE, coverage__share(&m->coverage));
	table__count(*out, CAPTURE_LOST, m->lost);
	table__count(*out, CAPTURE_INVALID, m->invalid);
	table__count(*out, CAPTURE_FINISHED, request_table__finished(requests));
	table__count(*out, CAPTURE_LIVE,
		     request_table__live(requests) + request_table__cut_off(requests));
	table__count(*out, CAPTURE_FORGOTTEN, request_table__evicted(requests));
	add_exceptions(*out, m);
	add_unread(*out, &m->unread);
	return 0;
}

enum {
	MODEL_CONTEXT,
	MODEL_PID,
	MODEL_ENGINE,
	MODEL_VERSION,
	MODEL_NAME,
	MODEL_PATH,
	MODEL_ARCHITECTURE,
	MODEL_LAYERS,
	MODEL_NUMBERS,
	MODEL_BLOCKS,
	MODEL_EXPERTS,
	MODEL_K,
	MODEL_SHARED,
	MODEL_NORMALISED,
	MODEL_VOCABULARY,
	MODEL_QUANTISATION,
	MODEL_COLUMNS
};

static const struct table_column model_column[MODEL_COLUMNS] = {
	[MODEL_CONTEXT] = { "context", "context", TABLE_ID, 0, TABLE_CELL },
	[MODEL_PID] = { "pid", "process", TABLE_ID, 0, TABLE_CELL },
	[MODEL_ENGINE] = { "engine", "engine", TABLE_TEXT, 0, TABLE_CELL },
	[MODEL_VERSION] = { "version", "version", TABLE_TEXT, 0, TABLE_CELL },
	[MODEL_NAME] = { "name", "name", TABLE_TEXT, 0, TABLE_CELL },
	[MODEL_PATH] = { "path", "file", TABLE_TEXT, 0, TABLE_CELL },
	[MODEL_ARCHITECTURE] = { "architecture", "architecture", TABLE_TEXT, 0, TABLE_CELL },
	[MODEL_LAYERS] = { "layers", "MoE layers", TABLE_COUNT, 0, TABLE_CELL },
	[MODEL_NUMBERS] = { "layer_numbers", "layer numbers", TABLE_TEXT, 0, TABLE_CELL },
	[MODEL_BLOCKS] = { "blocks", "layers in all", TABLE_COUNT, 0, TABLE_CELL },
	[MODEL_EXPERTS] = { "experts", "experts a layer", TABLE_COUNT, 0, TABLE_CELL },
	[MODEL_K] = { "k", "chosen a token", TABLE_COUNT, 0, TABLE_CELL },
	[MODEL_SHARED] = { "shared_experts", "shared experts", TABLE_COUNT, 0, TABLE_CELL },
	[MODEL_NORMALISED] = { "normalised", "weights add up to 1", TABLE_TEXT, 0, TABLE_CELL },
	[MODEL_VOCABULARY] = { "vocabulary", "vocabulary", TABLE_COUNT, 0, TABLE_CELL },
	[MODEL_QUANTISATION] = { "quantisation", "quantisation", TABLE_TEXT, 0, TABLE_CELL },
};

int report__models(struct table **out, const struct state *s, const char *source)
{
	const struct state_context *c;

	if (table__new(out, "models", "Model", TABLE_CARDS, model_column, MODEL_COLUMNS))
		return -1;
	for (uint32_t i = 0; i < state__contexts(s); i++) {
		const struct state_process *p;

		c = state__context(s, i);
		p = state__process(s, c->process);
		table__row(*out);
		table__count(*out, MODEL_CONTEXT, c->context);
		if (p) {
			table__count(*out, MODEL_PID, p->pid);
			table__text(*out, MODEL_ENGINE, p->engine);
			table__text(*out, MODEL_VERSION, p->version);
		}
		table__text(*out, MODEL_NAME, c->name);
		table__text(*out, MODEL_PATH, c->path);
		table__text(*out, MODEL_ARCHITECTURE, c->architecture);
		table__known(*out, MODEL_LAYERS, c->layers);
		if (c->layers != TRACE_UNKNOWN)
			table__text(*out, MODEL_NUMBERS,
				    c->ordinals ? "order of computation" : "the model's own");
		table__known(*out, MODEL_BLOCKS, c->blocks);
		table__known(*out, MODEL_EXPERTS, c->experts);
		table__known(*out, MODEL_K, c->k);
		table__known(*out, MODEL_SHARED, c->shared_experts);
		if (c->normalised != TRACE_UNKNOWN)
			table__text(*out, MODEL_NORMALISED, c->normalised ? "yes" : "no");
		table__known(*out, MODEL_VOCABULARY, c->vocabulary);
		table__text(*out, MODEL_QUANTISATION, c->quantisation);
	}
	return 0;
}

enum {
	LAYER_CONTEXT,
	LAYER_LAYER,
	LAYER_CHOICES,
	LAYER_BUSIEST,
	LAYER_BUSIEST_SHARE,
	LAYER_NEXT,
	LAYER_NEVER,
	LAYER_IMBALANCE,
	LAYER_IMBALANCE_PREFILL,
	LAYER_IMBALANCE_DECODE,
	LAYER_ENTROPY,
	LAYER_EVENNESS,
	LAYER_COVERAGE,
	LAYER_COLUMNS
};

static const struct table_column layer_column[LAYER_COLUMNS] = {
	[LAYER_CONTEXT] = { "context", "context", TABLE_ID, 0, TABLE_KEY },
	[LAYER_LAYER] = { "layer", "layer", TABLE_ID, 0, TABLE_KEY },
	[LAYER_CHOICES] = { "choices", "choices", TABLE_COUNT, 0, TABLE_CELL },
	[LAYER_BUSIEST] = { "busiest", "busiest", TABLE_ID, 0, TABLE_CELL },
	[LAYER_BUSIEST_SHARE] = { "busiest_share", "share", TABLE_SHARE, 0, TABLE_CELL },
	[LAYER_NEXT] = { "next", "then", TABLE_TEXT, 0, TABLE_CELL },
	[LAYER_NEVER] = { "never", "never", TABLE_COUNT, 0, TABLE_CELL },
	[LAYER_IMBALANCE] = { "max_over_mean", "max/mean", TABLE_REAL, 2, TABLE_CELL },
	[LAYER_IMBALANCE_PREFILL] = { "max_over_mean_prefill", "prefill", TABLE_REAL, 2,
				      TABLE_CELL },
	[LAYER_IMBALANCE_DECODE] = { "max_over_mean_decode", "decode", TABLE_REAL, 2, TABLE_CELL },
	[LAYER_ENTROPY] = { "entropy_bits", "entropy, bits", TABLE_REAL, 2, TABLE_CELL },
	[LAYER_EVENNESS] = { "evenness", "evenness", TABLE_SHARE, 0, TABLE_CELL },
	[LAYER_COVERAGE] = { "coverage", "coverage", TABLE_SHARE, 0, TABLE_CELL },
};

static double imbalance(const struct utilisation *u)
{
	return u->total ? u->max_over_mean : -1;
}

static void add_layer(struct table *t, const struct state_context *c, uint32_t layer)
{
	struct utilisation u = utilisation__of(c->grid, STATE_WINDOW_WHOLE, STATE_BOTH, layer);
	struct utilisation prefill =
		utilisation__of(c->grid, STATE_WINDOW_WHOLE, STATE_PREFILL, layer);
	struct utilisation decode =
		utilisation__of(c->grid, STATE_WINDOW_WHOLE, STATE_DECODE, layer);
	char next[64] = "";
	size_t used = 0;

	table__row(t);
	table__count(t, LAYER_CONTEXT, c->context);
	table__count(t, LAYER_LAYER, c->layer_ids[layer]);
	table__count(t, LAYER_CHOICES, u.total);
	table__real(t, LAYER_COVERAGE, coverage__share(&c->coverage[layer]));
	if (!u.total)
		return;
	table__count(t, LAYER_BUSIEST, u.busiest[0].expert);
	table__real(t, LAYER_BUSIEST_SHARE, u.busiest[0].share);
	for (uint32_t i = 1; i < u.busy; i++)
		used += (size_t)snprintf(next + used, sizeof(next) - used, "%s%u", used ? " " : "",
					 u.busiest[i].expert);
	table__text(t, LAYER_NEXT, next);
	table__count(t, LAYER_NEVER, u.never);
	table__real(t, LAYER_IMBALANCE, imbalance(&u));
	table__real(t, LAYER_IMBALANCE_PREFILL, imbalance(&prefill));
	table__real(t, LAYER_IMBALANCE_DECODE, imbalance(&decode));
	table__real(t, LAYER_ENTROPY, u.entropy_bits);
	table__real(t, LAYER_EVENNESS, u.evenness);
}

int report__layers(struct table **out, const struct state *s, const char *source)
{
	if (table__new(out, "layers", "Use of the experts", TABLE_ROWS, layer_column,
		       LAYER_COLUMNS))
		return -1;
	for (uint32_t i = 0; i < state__contexts(s); i++) {
		const struct state_context *c = state__context(s, i);

		for (uint32_t l = 0; c->grid && l < grid__layers(c->grid); l++)
			add_layer(*out, c, l);
	}
	if (state__contexts(s) < 2)
		table__hide(*out, LAYER_CONTEXT);
	table__note(*out, "max/mean: 1 is even. never: experts not chosen once. evenness: entropy "
			  "over that of an even spread.");
	return 0;
}

enum {
	REQUEST_ID,
	REQUEST_CONTEXT,
	REQUEST_SLOT,
	REQUEST_TASK,
	REQUEST_PROMPT,
	REQUEST_CACHED,
	REQUEST_PREFILL,
	REQUEST_DECODE,
	REQUEST_SECONDS,
	REQUEST_SILENT,
	REQUEST_COVERAGE,
	REQUEST_JOINED,
	REQUEST_ENDING,
	REQUEST_CLIENT,
	REQUEST_LABELS,
	REQUEST_NAMED,
	REQUEST_HEADER_ID,
	REQUEST_TRACE,
	REQUEST_ADAPTER,
	REQUEST_FINISH,
	REQUEST_GENERATED,
	REQUEST_COLUMNS
};

static const struct table_column request_column[REQUEST_COLUMNS] = {
	[REQUEST_ID] = { "request", "request", TABLE_ID, 0, TABLE_KEY },
	[REQUEST_CONTEXT] = { "context", "context", TABLE_ID, 0, TABLE_CELL },
	[REQUEST_SLOT] = { "slot", "slot", TABLE_ID, 0, TABLE_CELL },
	[REQUEST_TASK] = { "task", "task", TABLE_ID, 0, TABLE_CELL },
	[REQUEST_PROMPT] = { "prompt", "prompt", TABLE_COUNT, 0, TABLE_CELL },
	[REQUEST_CACHED] = { "cached", "cached", TABLE_COUNT, 0, TABLE_CELL },
	[REQUEST_PREFILL] = { "rows_prefill", "prefill", TABLE_COUNT, 0, TABLE_CELL },
	[REQUEST_DECODE] = { "rows_decode", "decode", TABLE_COUNT, 0, TABLE_CELL },
	[REQUEST_SECONDS] = { "seconds", "seconds", TABLE_REAL, 2, TABLE_CELL },
	[REQUEST_SILENT] = { "silent_seconds", "last row, s ago", TABLE_REAL, 2, TABLE_CELL },
	[REQUEST_COVERAGE] = { "coverage", "coverage", TABLE_SHARE, 0, TABLE_CELL },
	[REQUEST_JOINED] = { "joined", "joined", TABLE_TEXT, 0, TABLE_CELL },
	[REQUEST_ENDING] = { "ending", "ending", TABLE_TEXT, 0, TABLE_CELL },
	[REQUEST_CLIENT] = { "client_id", "client's id", TABLE_TEXT, 0, TABLE_CELL },
	[REQUEST_LABELS] = { "labels", "labels", TABLE_TEXT, 0, TABLE_CELL },
	[REQUEST_NAMED] = { "named", "", TABLE_TEXT, 0, TABLE_JSON_ONLY },
	[REQUEST_HEADER_ID] = { "request_id", "", TABLE_TEXT, 0, TABLE_JSON_ONLY },
	[REQUEST_TRACE] = { "trace_id", "", TABLE_TEXT, 0, TABLE_JSON_ONLY },
	[REQUEST_ADAPTER] = { "adapter", "", TABLE_TEXT, 0, TABLE_JSON_ONLY },
	[REQUEST_FINISH] = { "finish", "", TABLE_TEXT, 0, TABLE_JSON_ONLY },
	[REQUEST_GENERATED] = { "generated", "", TABLE_COUNT, 0, TABLE_JSON_ONLY },
};

static const char *finish_text(uint32_t finish)
{
	switch (finish) {
#define X(id, name, text) \
	case id: \
		return (id) ? text : "";
		TRACE_FINISHES(X)
#undef X
	}
	return "unknown";
}

static void add_names(struct table *t, const struct state_request *r)
{
	char labels[sizeof(r->labels)];

	snprintf(labels, sizeof(labels), "%s", r->labels);
	for (char *at = labels; *at; at++)
		*at = *at == '\n' ? ' ' : *at;
	table__text(t, REQUEST_LABELS, labels);
	table__mark(t, REQUEST_CLIENT, request__name_mark(r));
	table__mark(t, REQUEST_LABELS, request__name_mark(r));
	if (request__has_name(r))
		table__text(t, REQUEST_NAMED, r->named_by_inference ? "inferred" : "exact");
	table__text(t, REQUEST_HEADER_ID, r->request_id);
	table__text(t, REQUEST_TRACE, r->trace_id);
	table__text(t, REQUEST_ADAPTER, r->adapter);
	table__text(t, REQUEST_FINISH, finish_text(r->finish));
	table__known(t, REQUEST_GENERATED, r->generated);
}

static void add_request(struct table *t, const struct state_summary *m,
			const struct state_request *r)
{
	uint64_t begin = r->begin_ns != UINT64_MAX ? r->begin_ns : r->first_row_ns;
	uint64_t end = r->ended ? r->end_ns : r->last_row_ns;
	uint64_t silent = request__silent_ns(r, m->last_ns);

	table__row(t);
	table__count(t, REQUEST_ID, r->request);
	table__known(t, REQUEST_CONTEXT, r->context);
	table__known(t, REQUEST_SLOT, r->slot);
	table__known(t, REQUEST_TASK, r->task);
	table__known(t, REQUEST_PROMPT, r->prompt);
	table__known(t, REQUEST_CACHED, r->cached);
	table__count(t, REQUEST_PREFILL, r->rows[STATE_PREFILL]);
	table__count(t, REQUEST_DECODE, r->rows[STATE_DECODE]);
	/* How long an open one took is not known, but since when nothing was seen of it; where only
	 * counts are kept, not even that. */
	if (request__is_open(r) && m->has_routes && silent != UINT64_MAX)
		table__real(t, REQUEST_SILENT, (double)silent / 1e9);
	if (begin != UINT64_MAX && end != UINT64_MAX && end >= begin && !r->before_attach &&
	    !request__is_open(r))
		table__real(t, REQUEST_SECONDS, (double)(end - begin) / 1e9);
	table__real(t, REQUEST_COVERAGE, coverage__share(&r->coverage));
	table__text(t, REQUEST_JOINED,
		    r->before_attach ? "began before us"
		    : r->inferred    ? "inferred"
				     : "exact");
	table__text(t, REQUEST_ENDING, ending_text(r));
	table__text(t, REQUEST_CLIENT, r->client_id);
	add_names(t, r);
}

int report__requests(struct table **out, const struct state *s, const char *source)
{
	const struct request_table *requests = state__requests(s);
	const struct state_request *r = NULL;
	const struct state_request **newest;
	bool labels = false, inferred = false, open = false;
	size_t n = 0;

	if (table__new(out, "requests", "Requests", TABLE_ROWS, request_column, REQUEST_COLUMNS))
		return -1;
	newest = calloc(STATE_REQUESTS_MAX, sizeof(*newest));
	if (!newest)
		return -1;
	while (n < STATE_REQUESTS_MAX && (r = request_table__older(requests, r))) {
		newest[n++] = r;
		labels |= *r->labels != '\0';
		open |= request__is_open(r);
		inferred |= *request__name_mark(r) != '\0';
	}
	while (n)
		add_request(*out, state__summary(s), newest[--n]);
	free(newest);
	if (state__contexts(s) < 2)
		table__hide(*out, REQUEST_CONTEXT);
	if (!open)
		table__hide(*out, REQUEST_SILENT);
	else
		table__note(*out, "open: its end was not seen, maybe only that: its client may "
				  "have its answer.");
	if (!labels)
		table__hide(*out, REQUEST_LABELS);
	if (inferred)
		table__note(*out, "joined: how it is known whose the rows are. ~: the name is "
				  "inferred, not the server's word.");
	if (request_table__evicted(requests))
		table__note(*out, "only the last %u requests are listed", STATE_REQUESTS_MAX);
	return 0;
}
