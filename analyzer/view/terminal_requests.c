/* SPDX-License-Identifier: BSD-2-Clause */
/* The table of requests, live ones first, and the help. */
#include "analyzer/view/terminal_internal.h"

#include <stdio.h>
#include <stdlib.h>

#include "analyzer/view/format.h"

#define ROWS_MAX 256
#define SILENT_NS 2000000000ull

/* Where columns begin; the client's id takes the rest. */
enum {
	X_REQUEST = 1,
	X_SLOT = 9,
	X_PHASE = 15,
	X_TOKENS = 24,
	X_PROMPT = 33,
	X_CACHED = 41,
	X_AGE = 49,
	X_CLIENT = 60
};

static int by_slot(const void *a, const void *b)
{
	const struct state_request *x = *(const struct state_request *const *)a;
	const struct state_request *y = *(const struct state_request *const *)b;

	if (x->slot != y->slot)
		return x->slot < y->slot ? -1 : 1;
	return x->request < y->request ? -1 : x->request > y->request;
}

/* Live requests by slot, so that lines stay where they are; then the last finished ones. */
static size_t choose(const struct state *s, const struct state_request **out, size_t room)
{
	const struct request_table *requests = state__requests(s);
	const struct state_request *r = NULL;
	size_t used = 0, live;

	while (used < room && (r = request_table__older(requests, r)))
		if (!r->ended)
			out[used++] = r;
	live = used;
	r = NULL;
	while (used < room && (r = request_table__older(requests, r)))
		if (r->ended)
			out[used++] = r;
	qsort(out, live, sizeof(*out), by_slot);
	return used;
}

static void right(struct terminal *t, int y, int x, int width, enum screen_style style,
		  const char *text)
{
	screen__put(t->screen, y, x, width, style, "%*s", width, text);
}

/* Where servers say no end, or nobody was told of it, a request that has its answer goes on here
 * for a while: its phase would be a guess, and its age grow. */
static bool is_silent(const struct state *s, const struct state_request *r)
{
	const struct state_summary *m = state__summary(s);
	uint64_t silent = request__silent_ns(r, m->last_ns);

	return request__is_open(r) && (r->ended || (silent != UINT64_MAX && silent >= SILENT_NS));
}

static const char *phase_text(const struct state *s, const struct state_request *r)
{
	if (is_silent(s, r))
		return "open";
	if (r->ended)
		return request__is_cut_off(r) ? "cut off" : "done";
	return r->phase < STATE_OTHER ? state_phase__name(r->phase) : "-";
}

/* How long it took, or takes so far; of an open one how long ago its last row was. */
static void time_text(char *out, size_t size, const struct state *s, const struct state_request *r)
{
	uint64_t begin = r->begin_ns != UINT64_MAX ? r->begin_ns : r->first_row_ns;
	uint64_t end = r->ended ? r->end_ns : state__summary(s)->last_ns, silent;
	char duration[FORMAT_SIZE];

	snprintf(out, size, "-");
	if (is_silent(s, r)) {
		silent = request__silent_ns(r, state__summary(s)->last_ns);
		if (silent == UINT64_MAX || !state__summary(s)->has_routes)
			return; /* counts do not say when */
		format__duration(duration, sizeof(duration), silent);
		snprintf(out, size, "%s ago", duration);
	} else if (begin != UINT64_MAX && end != UINT64_MAX && end >= begin && !r->before_attach) {
		format__duration(out, size, end - begin);
	}
}

static void draw_request(struct terminal *t, const struct state *s, const struct state_request *r,
			 int y)
{
	enum screen_style style = r->ended ? SCREEN_LABEL : SCREEN_PLAIN;
	uint32_t tokens = r->position == TRACE_UNKNOWN ? TRACE_UNKNOWN : r->position + 1;
	char text[FORMAT_SIZE + 8];

	if (r->ended && r->tokens != TRACE_UNKNOWN)
		tokens = r->tokens;
	right(t, y, X_REQUEST, 7, style, format__known(text, sizeof(text), r->request));
	right(t, y, X_SLOT, 4, style, format__known(text, sizeof(text), r->slot));
	screen__put(t->screen, y, X_PHASE, 8, r->ended ? SCREEN_LABEL : SCREEN_STRONG, "%s",
		    phase_text(s, r));
	right(t, y, X_TOKENS, 7, style, format__known(text, sizeof(text), tokens));
	right(t, y, X_PROMPT, 7, style, format__known(text, sizeof(text), r->prompt));
	right(t, y, X_CACHED, 7, style, format__known(text, sizeof(text), r->cached));
	time_text(text, sizeof(text), s, r);
	right(t, y, X_AGE, 10, style, text);
	screen__put(t->screen, y, X_CLIENT + 1, 97, style, "%s%s",
		    *r->client_id ? request__name_mark(r) : "",
		    *r->client_id      ? r->client_id
		    : r->before_attach ? "- (began before us)"
				       : "-");
}

void terminal__draw_requests(struct terminal *t, const struct live_frame *f, struct band band)
{
	const struct state_request *row[ROWS_MAX];
	size_t rows = choose(f->state, row,
			     band.lines < ROWS_MAX ? (size_t)band.lines : (size_t)ROWS_MAX);
	static const struct {
		int x, width;
		const char *title;
	} header[] = {
		{ X_REQUEST, 7, "request" }, { X_SLOT, 4, "slot" },
		{ X_PHASE, -8, "phase" },    { X_TOKENS, 7, "tokens" },
		{ X_PROMPT, 7, "prompt" },   { X_CACHED, 7, "cached" },
		{ X_AGE, 10, "time" },       { X_CLIENT + 1, -11, "client's id" },
	};

	for (size_t i = 0; i < sizeof(header) / sizeof(*header); i++)
		screen__put(t->screen, band.first - 1, header[i].x, 12, SCREEN_LABEL, "%*s",
			    header[i].width, header[i].title);
	if (!rows)
		screen__put(t->screen, band.first, X_REQUEST, 40, SCREEN_LABEL, "%7s", "none");
	for (size_t i = 0; i < rows; i++)
		draw_request(t, f->state, row[i], band.first + (int)i);
}

void terminal__draw_help(struct terminal *t)
{
	static const char *const lines[] = {
		"Each row of the map is a layer, each column an expert (or several, if they",
		"do not fit). The colour is the expert's share of its layer's choices, against",
		"an even spread: 2 means twice as often as even.",
		"",
		"max/mean   share of the busiest expert over the even share; 1 is even",
		"never      experts that were not chosen once",
		"coverage   seen / (expected - cached - not computed), in rows x layers of",
		"           ended requests; causes below it: shares of all expected rows",
		"loss       captures that did not arrive; invalid: arrived, but failed a check",
		"open       no row for two seconds, no end told: how long ago the last row was",
		"~          before an id: inferred, not the server's word",
		"slowdown   what probing costs the server, estimated from calibrated hits",
		"",
		"q          quit (Ctrl-C too)            p       pause",
		"w          window: 10 s, 1 min, whole   tab     prefill, decode, both",
		"z          every expert its own cell    arrows  scroll then",
		"m          the next model               ?       close this help",
	};

	for (size_t i = 0; i < sizeof(lines) / sizeof(*lines); i++)
		screen__put(t->screen, 3 + (int)i, 2, 78, SCREEN_PLAIN, "%s", lines[i]);
}
