/* SPDX-License-Identifier: BSD-2-Clause */
#include "analyzer/live.h"

#include <errno.h>
#include <stdint.h>
#include <time.h>

#include "analyzer/interrupt.h"
#include "analyzer/feed.h"
#include "analyzer/spawn.h"
#include "analyzer/standard_output.h"
#include "analyzer/state/state.h"
#include "analyzer/view/live_view.h"
#include "probe/base/error.h"

#define NS_PER_MS 1000000ull
#define NS_PER_SECOND 1000000000ull

struct live {
	const struct live_options *o;
	void *view;
	bool stopping, ended;
	int progress;          /* enum feed_progress, of the last read */
	uint64_t clock_ns;     /* stream time that a replay has reached; 0: not begun */
	uint64_t last_read_ns; /* when it was moved on */
	uint64_t next_draw_ns;
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS_PER_SECOND + (uint64_t)t.tv_nsec;
}

static int draw(struct live *l, struct error *e)
{
	struct live_frame f = {
		.state = l->o->state,
		.source = l->o->source,
		.replay = l->o->replay,
		.ended = l->ended,
	};
	int err;

	err = l->o->view->draw(l->view, &f);
	return err ? standard_output__failed("view", err, e) : 0;
}

static bool is_paced(const struct live *l)
{
	return l->o->replay && l->o->speed > 0 && l->o->view->key;
}

/* How far a replay may read now. On a screen that is paced; as lines it is second by second of
 * stream time, so that the lines at t are those of the live view at t. */
static uint64_t advance_clock(struct live *l, uint64_t now)
{
	uint64_t pending = feed__pending_ns(l->o->feed);

	if (!l->o->replay || (!is_paced(l) && l->o->view->key))
		return UINT64_MAX;
	if (!l->clock_ns)
		l->clock_ns = pending;
	else if (is_paced(l))
		l->clock_ns += (uint64_t)((double)(now - l->last_read_ns) * l->o->speed);
	else if (l->progress == FEED_LATER)
		l->clock_ns = pending > l->clock_ns + NS_PER_SECOND ? pending
								    : l->clock_ns + NS_PER_SECOND;
	return l->clock_ns;
}

static int read_stream(struct live *l, struct error *e)
{
	bool paused = l->o->replay && l->o->view->paused && l->o->view->paused(l->view);
	uint64_t now = now_ns(), until;

	if (l->ended || paused) {
		l->last_read_ns = now;
		return 0;
	}
	until = advance_clock(l, now);
	l->last_read_ns = now;
	l->progress = feed__read(l->o->feed, until, e);
	if (l->progress < 0)
		return l->progress;
	if (l->progress == FEED_ENDED)
		l->ended = true;
	if (l->progress == FEED_LATER && l->clock_ns && l->o->replay && !is_paced(l))
		return draw(l, e);
	return 0;
}

static void show_messages(struct live *l)
{
	const char *line;

	while (l->o->collector && (line = collector__message(l->o->collector)))
		l->o->view->message(l->view, line);
}

/* How long there is nothing to do. */
static int timeout_ms(const struct live *l, uint64_t now)
{
	bool as_lines = l->o->replay && !is_paced(l) && !l->ended;

	if (!l->ended && (l->progress == FEED_MORE || (as_lines && l->progress == FEED_LATER)))
		return 0;
	if (l->next_draw_ns <= now)
		return 0;
	return (int)((l->next_draw_ns - now) / NS_PER_MS) + 1;
}

static enum live_command wait_for_something(struct live *l)
{
	const struct live_view *view = l->o->view;
	struct pollfd p[] = {
		{ .fd = l->progress == FEED_WAITING ? feed__fd(l->o->feed) : -1, .events = POLLIN },
		{ .fd = l->o->collector ? collector__message_fd(l->o->collector) : -1,
		  .events = POLLIN },
		{ .fd = view->key_fd ? view->key_fd(l->view) : -1, .events = POLLIN },
	};
	int got = interrupt__poll(p, 3, timeout_ms(l, now_ns()));

	if (view->key && (got < 0 || p[2].revents))
		return view->key(l->view);
	return LIVE_NONE;
}

/* The user wants to end. True if there is nothing to wait for. */
static bool stop(struct live *l)
{
	l->stopping = true;
	if (!l->o->collector)
		return true;
	collector__stop(l->o->collector);
	return false;
}

static int draw_in_time(struct live *l, bool at_once, struct error *e)
{
	const struct live_view *view = l->o->view;
	uint64_t now = now_ns();
	bool paused = view->paused && view->paused(l->view);
	bool as_lines = l->o->replay && !view->key;

	if (!at_once && (now < l->next_draw_ns || as_lines))
		return 0;
	if (now >= l->next_draw_ns)
		l->next_draw_ns = now + view->interval_ms * NS_PER_MS;
	return !paused || at_once ? draw(l, e) : 0;
}

static int loop(struct live *l, struct error *e)
{
	enum live_command command = LIVE_NONE;
	int err;

	for (;;) {
		if (interrupt__count() > 1)
			return -EINTR;
		if ((interrupt__count() || command == LIVE_QUIT) && (stop(l) || l->ended))
			return 0;
		err = read_stream(l, e);
		show_messages(l);
		if (err)
			return err;
		if (l->ended && (l->stopping || !l->o->replay || !l->o->view->stays))
			return 0;
		err = draw_in_time(l, command == LIVE_REDRAW, e);
		if (err)
			return err;
		command = wait_for_something(l);
	}
}

int live__run(const struct live_options *o, struct error *e)
{
	struct live l = { .o = o, .progress = FEED_MORE };
	int err = o->view->open(&l.view, e);

	if (err)
		return err;
	l.last_read_ns = now_ns();
	l.next_draw_ns = l.last_read_ns + o->view->interval_ms * NS_PER_MS;
	if (o->view->key)
		l.next_draw_ns = 0; /* a screen is there at once */
	err = loop(&l, e);
	if (!err && !o->view->key)
		err = draw(&l, e);
	o->view->close(l.view);
	return err;
}
