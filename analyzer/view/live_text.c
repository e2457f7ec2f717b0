/* SPDX-License-Identifier: BSD-2-Clause */
/* The live views without a screen: a few lines a second, or only what must be said. */
#include "analyzer/view/live_view.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "analyzer/metric/utilisation.h"
#include "analyzer/state/state.h"
#include "analyzer/view/format.h"
#include "analyzer/view/lines.h"
#include "analyzer/view/status.h"
#include "probe/base/error.h"

#define REQUEST_LINES 4
#define LAYER_LINES 4
#define SILENT_NS 2000000000ull
#define FIRST_PROCESS 1 /* id of the one in which the engine was found */

struct text {
	bool said_waiting, said_attached;
	uint32_t warnings; /* said so far */
};

static int text_open(void **ctx, struct error *e)
{
	*ctx = calloc(1, sizeof(struct text));
	return *ctx ? 0 : error__set(e, EXIT_FAILED, ENOMEM, NULL, "out of memory");
}

static void print_model(const struct state *s, FILE *out)
{
	char layers[FORMAT_SIZE], experts[FORMAT_SIZE], k[FORMAT_SIZE];

	for (uint32_t i = 0; i < state__contexts(s); i++) {
		const struct state_context *c = state__context(s, i);
		const struct state_process *p = state__process(s, c->process);

		lines__print(out, 2, "model: %s%s%s %s, %s MoE layers x %s experts, %s chosen",
			     p && *p->engine ? p->engine : "", p && *p->engine ? ", " : "",
			     *c->architecture ? c->architecture : "-", *c->name ? c->name : "-",
			     format__known(layers, sizeof(layers), c->layers),
			     format__known(experts, sizeof(experts), c->experts),
			     format__known(k, sizeof(k), c->k));
	}
}

static void say_warnings(struct text *t, const struct state *s)
{
	const struct state_summary *m = state__summary(s);

	if (m->warnings - t->warnings > STATE_WARNINGS_MAX)
		t->warnings = m->warnings - STATE_WARNINGS_MAX;
	for (; t->warnings < m->warnings; t->warnings++)
		fprintf(stderr, "warning: %s\n", m->warning[t->warnings % STATE_WARNINGS_MAX]);
}

/* That probes are placed is said at once; "attached" once data flows, never before. */
static void say_progress(struct text *t, const struct live_frame *f, FILE *out)
{
	const struct state_process *first = state__process(f->state, FIRST_PROCESS);

	if (t->said_attached)
		return;
	if (state__summary(f->state)->decisions) {
		t->said_attached = true;
		if (!f->replay)
			lines__print(out, 2, "attached to %s: data flows", f->source);
		if (out == stdout)
			print_model(f->state, out);
	} else if (!t->said_waiting && !f->replay && first) {
		t->said_waiting = true;
		lines__print(out, 2, "probes placed in process %u (%s); waiting for the first step",
			     first->pid, *first->engine ? first->engine : "engine unknown");
	}
}

/* Its phase; of one of which nothing comes any more, since when. */
static const char *doing_text(char *out, size_t size, const struct state *s,
			      const struct state_request *r)
{
	uint64_t silent = request__silent_ns(r, state__summary(s)->last_ns);
	char ago[FORMAT_SIZE];

	if (silent == UINT64_MAX || silent < SILENT_NS)
		return state_phase__name(r->phase);
	snprintf(out, size, "open (last row %s ago)", format__duration(ago, sizeof(ago), silent));
	return out;
}

static void print_requests(const struct state *s, FILE *out)
{
	const struct request_table *requests = state__requests(s);
	const struct state_request *r = NULL;
	char doing[2 * FORMAT_SIZE], position[FORMAT_SIZE], cached[FORMAT_SIZE],
		prompt[FORMAT_SIZE], slot[FORMAT_SIZE];
	uint32_t live = request_table__live(requests);
	int lines = 0;

	if (live > REQUEST_LINES)
		fprintf(out, "  the newest %d of %u live requests:\n", REQUEST_LINES, live);
	while ((r = request_table__older(requests, r)) && lines < REQUEST_LINES) {
		if (r->ended)
			continue;
		lines++;
		lines__print(out, 4,
			     "  request %u: slot %s, %s, position %s, prompt %s, cached %s, "
			     "client %s%s",
			     r->request, format__known(slot, sizeof(slot), r->slot),
			     doing_text(doing, sizeof(doing), s, r),
			     format__known(position, sizeof(position), r->position),
			     format__known(prompt, sizeof(prompt), r->prompt),
			     format__known(cached, sizeof(cached), r->cached),
			     *r->client_id ? request__name_mark(r) : "",
			     *r->client_id ? r->client_id : "-");
	}
}

static void print_layer(uint32_t layer, const struct utilisation *u, FILE *out)
{
	char busiest[UTILISATION_BUSIEST * 24] = "";
	size_t used = 0;

	for (uint32_t b = 0; b < u->busy; b++)
		used += (size_t)snprintf(busiest + used, sizeof(busiest) - used, " %u:%.1f%%",
					 u->busiest[b].expert, 100 * u->busiest[b].share);
	lines__print(out, 4, "  layer %2u: max/mean %.2f, never %u/%u, busiest%s", layer,
		     u->max_over_mean, u->never, u->experts, busiest);
}

/* The most uneven layers of the last 10 s. */
static void print_layers(const struct state_context *c, FILE *out)
{
	struct {
		uint32_t layer;
		struct utilisation u;
	} top[LAYER_LINES] = { { 0 } };
	uint32_t layers = c->grid ? grid__layers(c->grid) : 0;
	int used = 0;

	for (uint32_t l = 0; l < layers; l++) {
		struct utilisation u = utilisation__of(c->grid, STATE_WINDOW_10S, STATE_BOTH, l);
		int at = used;

		if (!u.total)
			continue;
		while (at && top[at - 1].u.max_over_mean < u.max_over_mean)
			at--;
		if (at == LAYER_LINES)
			continue;
		used += used < LAYER_LINES;
		for (int i = used - 1; i > at; i--)
			top[i] = top[i - 1];
		top[at].layer = c->layer_ids[l];
		top[at].u = u;
	}
	if (used)
		fprintf(out, "  most uneven layers of the last 10 s (%d of %u):\n", used, layers);
	for (int i = 0; i < used; i++)
		print_layer(top[i].layer, &top[i].u, out);
}

static int text_draw(void *ctx, const struct live_frame *f)
{
	say_warnings(ctx, f->state);
	say_progress(ctx, f, stdout);
	status__print_line(f->state, stdout);
	print_requests(f->state, stdout);
	for (uint32_t i = 0; i < state__contexts(f->state); i++)
		print_layers(state__context(f->state, i), stdout);
	errno = 0;
	if (!fflush(stdout) && !ferror(stdout))
		return 0;
	return errno ? -errno : -EIO;
}

static void text_message(void *ctx, const char *line)
{
	fprintf(stderr, "%s\n", line);
}

static int progress_draw(void *ctx, const struct live_frame *f)
{
	say_warnings(ctx, f->state);
	say_progress(ctx, f, stderr);
	return 0;
}

const struct live_view live_text = {
	.name = "text",
	.interval_ms = 1000,
	.open = text_open,
	.draw = text_draw,
	.message = text_message,
	.close = free,
};

const struct live_view live_progress = {
	.name = "progress",
	.interval_ms = 100,
	.open = text_open,
	.draw = progress_draw,
	.message = text_message,
	.close = free,
};
