/* SPDX-License-Identifier: BSD-2-Clause */
#include "analyzer/watch.h"

#include <errno.h>
#include <inttypes.h>
#include <unistd.h>

#include "analyzer/interrupt.h"
#include "analyzer/launch.h"
#include "analyzer/live.h"
#include "analyzer/output_file.h"
#include "analyzer/command_line.h"
#include "analyzer/reduce.h"
#include "analyzer/feed.h"
#include "analyzer/state/state.h"
#include "analyzer/view/format.h"
#include "analyzer/view/live_view.h"
#include "analyzer/view/status.h"
#include "collector/trace/reader.h"
#include "collector/trace/writer.h"
#include "probe/base/error.h"

/* The sink: state first, so that the summary counts what the file could not take. */
struct sinks {
	struct state *state;
	struct reducer *reducer;
	struct trace_writer *writer;
	struct output_file *output;
	struct feed *feed;
	uint64_t flushed_ns; /* stream time */
	bool flowing;        /* a router's result was there */
};

/* A reader of our output is at most this far behind; a file loses no more if we are killed. */
#define FLUSH_NS 500000000ull

static int take(void *ctx, const struct trace_item *item, struct error *e)
{
	struct sinks *s = ctx;
	bool first = item->type == TRACE_ROUTE && !s->flowing;
	int err;

	state__set_unread(s->state, feed__unread(s->feed));
	if (state__apply(s->state, item))
		return error__set(e, EXIT_FAILED, ENOMEM, NULL, "out of memory");
	if (!s->reducer)
		return 0;
	/* The stream begins once the target is attached to. */
	output_file__publish(s->output);
	err = reducer__apply(s->reducer, item, e);
	/* Whoever waits for the first result need not wait for us. */
	if (err || (!first && item->head->time_ns < s->flushed_ns + FLUSH_NS))
		return err;
	s->flowing |= first;
	s->flushed_ns = item->head->time_ns;
	return trace_writer__flush(s->writer, e);
}

const struct live_view *watch__choose_view(const struct options *o)
{
	return !o->no_tui && live_terminal__available() ? &live_terminal : &live_text;
}

/* Partial data survive: the reducer writes what it still holds, also if the stream failed; a file
 * that found the disk full is cut back to what is whole. */
static void finish_file(const struct watch *w, struct error *e)
{
	struct error later = { 0 };

	if (!w->reducer)
		return;
	if (!error__is_set(e))
		reducer__finish(w->reducer, e);
	else if (trace_writer__flush(w->writer, NULL))
		; /* the writer itself failed */
	else
		reducer__finish(w->reducer, &later);
	if (error__is_set(e) && trace_writer__flush(w->writer, NULL) &&
	    !trace_writer__cut_back(w->writer))
		reducer__abandon(w->reducer, &later);
}

static void summarise(const struct watch *w, const struct state *s, const struct error *e)
{
	const struct state_summary *m = state__summary(s);

	if (!m->records || e->errnum == EPIPE)
		return; /* nobody is left to read it */
	if (m->ended &&
	    (m->end.stop == TRACE_STOP_TARGET_EXIT || m->end.stop == TRACE_STOP_TARGET_EXEC)) {
		const char *how =
			m->end.stop == TRACE_STOP_TARGET_EXIT ? "exited" : "became another program";

		fprintf(w->summary, "%s %s\n", w->source, how);
	}
	status__print_summary(s, w->summary);
	if (m->no_model + m->out_of_range)
		fprintf(w->summary,
			"not shown: %" PRIu64 " results before their model was described, %" PRIu64
			" out of its range\n",
			m->no_model, m->out_of_range);
}

static int run(const struct watch *w, struct state *state, struct feed *feed, struct error *e)
{
	struct live_options live = {
		.view = w->view,
		.feed = feed,
		.collector = w->launch->collector,
		.state = state,
		.source = w->source,
		.replay = w->replay,
		.speed = w->options->speed,
	};
	int err = live__run(&live, e), code;

	if (err == -EINTR && !error__is_set(e))
		return EXIT_FAILED; /* the second Ctrl-C: at once */
	finish_file(w, e);
	code = feed__finish(feed, e);
	state__set_unread(state, feed__unread(feed));
	summarise(w, state, e);
	if (code == EXIT_OK && w->launch->collector)
		code = status__check_any(state, w->source, e);
	if (code == EXIT_OK)
		code = status__check_loss(state, w->options->max_loss_percent, w->source, e);
	if (code == EXIT_OK)
		code = status__check_coverage(state, w->options->min_coverage_percent, w->source,
					      e);
	return code;
}

int watch__run(const struct watch *w, struct error *e)
{
	struct sinks sinks = { .reducer = w->reducer, .writer = w->writer, .output = w->output };
	struct feed_sink sink = { .take = take, .ctx = &sinks };
	int code = EXIT_FAILED;

	if (state__new(&sinks.state)) {
		error__set(e, EXIT_FAILED, ENOMEM, NULL, "out of memory");
		return code;
	}
	if (!feed__open(&sinks.feed, w->launch->collector, w->launch->input, w->source, &sink, e))
		code = run(w, sinks.state, sinks.feed, e);
	feed__free(sinks.feed);
	state__free(sinks.state);
	return code;
}
