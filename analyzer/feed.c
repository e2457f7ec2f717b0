/* SPDX-License-Identifier: BSD-2-Clause */
#include "analyzer/feed.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "analyzer/interrupt.h"
#include "analyzer/spawn.h"
#include "collector/trace/reader.h"
#include "probe/base/buffer.h"
#include "probe/base/error.h"

#define BUDGET_NS 20000000ull

struct feed {
	struct collector *collector;
	int fd;
	struct trace_reader *reader;
	struct feed_sink sink;
	struct trace_item item; /* waits for its time if has_item */
	bool has_item;
	bool ended;
	bool sink_failed;
	bool holds;
	struct buffer held; /* messages, a line each */
	char name[128];
};

int feed__open(struct feed **out, struct collector *collector, int fd, const char *name,
	       const struct feed_sink *sink, struct error *e)
{
	struct feed *s = calloc(1, sizeof(*s));
	struct stat st;
	int err;

	*out = NULL;
	if (!s)
		return error__set(e, EXIT_FAILED, ENOMEM, NULL, "out of memory");
	s->collector = collector;
	s->fd = collector ? collector__stream_fd(collector) : fd;
	s->sink = *sink;
	snprintf(s->name, sizeof(s->name), "%s", name);
	if (!fstat(s->fd, &st) && !S_ISREG(st.st_mode))
		fcntl(s->fd, F_SETFL, fcntl(s->fd, F_GETFL) | O_NONBLOCK);
	err = trace_reader__open(&s->reader, s->fd, s->name, e);
	if (err)
		feed__free(s);
	else
		*out = s;
	return err;
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

int feed__read(struct feed *s, uint64_t until_ns, struct error *e)
{
	uint64_t end = now_ns() + BUDGET_NS;
	unsigned records = 0;
	int got;

	while (!s->ended) {
		if (!s->has_item) {
			got = trace_reader__next(s->reader, &s->item, e);
			if (got == -EAGAIN)
				return FEED_WAITING;
			if (got <= 0) {
				s->ended = true;
				return got < 0 ? got : FEED_ENDED;
			}
			s->has_item = true;
		}
		if (s->item.head->time_ns > until_ns)
			return FEED_LATER;
		s->has_item = false;
		got = s->sink.take(s->sink.ctx, &s->item, e);
		if (got < 0) {
			s->ended = s->sink_failed = true;
			return got;
		}
		if (!(++records & 63) && now_ns() > end)
			return FEED_MORE;
	}
	return FEED_ENDED;
}

uint64_t feed__pending_ns(const struct feed *s)
{
	return s->has_item ? s->item.head->time_ns : 0;
}

void feed__show_messages(struct feed *s)
{
	const char *line;

	while (s->collector && (line = collector__message(s->collector)))
		if (!s->holds || buffer__append(&s->held, line, strlen(line)) ||
		    buffer__append(&s->held, "\n", 1))
			fprintf(stderr, "%s\n", line);
}

void feed__hold_messages(struct feed *s)
{
	s->holds = true;
}

static void release_messages(struct feed *s)
{
	if (s->held.size)
		fwrite(s->held.data, 1, s->held.size, stderr);
	buffer__free(&s->held);
	s->holds = false;
}

int feed__run(struct feed *s, struct error *e)
{
	int got = FEED_MORE;

	while (got != FEED_ENDED) {
		struct pollfd p[] = {
			{ .fd = s->fd, .events = POLLIN },
			{ .fd = s->collector ? collector__message_fd(s->collector) : -1,
			  .events = POLLIN },
		};

		if (interrupt__count() > 1)
			return -EINTR;
		if (interrupt__count() && !s->collector)
			return 0;
		if (interrupt__count())
			collector__stop(s->collector);
		if (got == FEED_WAITING)
			interrupt__poll(p, 2, -1);
		feed__show_messages(s);
		got = feed__read(s, UINT64_MAX, e);
		if (got < 0)
			return got;
	}
	return 0;
}

/* Its end may come a moment after its stream's; what it says until then is shown. What it still
 * sends while nobody takes it is read and dropped, so that it can end in order. */
static int wait_for_collector(struct feed *s, struct error *e)
{
	bool discard = s->sink_failed || !s->ended;
	struct trace_item item;
	int got;

	collector__stop(s->collector);
	while (interrupt__count() < 2) {
		struct pollfd p[] = {
			{ .fd = collector__message_fd(s->collector), .events = POLLIN },
			{ .fd = discard ? s->fd : -1, .events = POLLIN },
		};

		if (p[0].fd < 0)
			return collector__wait(s->collector, e);
		interrupt__poll(p, 2, -1);
		feed__show_messages(s);
		do
			got = discard ? trace_reader__next(s->reader, &item, NULL) : 0;
		while (got > 0);
		discard &= got == -EAGAIN;
	}
	return EXIT_FAILED;
}

int feed__finish(struct feed *s, struct error *e)
{
	struct error collector = { 0 };
	bool sink_failed = s->sink_failed;
	int code = EXIT_OK;

	release_messages(s);
	if (s->collector)
		code = wait_for_collector(s, &collector);
	if (sink_failed)
		return e->exit;
	if (code != EXIT_OK) {
		*e = collector;
		return code;
	}
	if (error__is_set(e))
		return e->exit;
	if (trace_reader__complete(s->reader) || !s->ended)
		return EXIT_OK;
	error__set(e, EXIT_FAILED, ENODATA, "use what there is: the rest was never written",
		   "trace: failed to read '%s' to its end: it stops without an END record",
		   s->name);
	return EXIT_FAILED;
}

const struct trace_unread *feed__unread(const struct feed *s)
{
	return trace_reader__unread(s->reader);
}

int feed__read_all(struct collector *collector, int fd, const char *name,
		   const struct feed_sink *sink, struct trace_unread *unread, struct error *e)
{
	struct feed *s;
	int code;

	if (unread)
		memset(unread, 0, sizeof(*unread));
	if (feed__open(&s, collector, fd, name, sink, e))
		return EXIT_FAILED;
	feed__run(s, e);
	code = feed__finish(s, e);
	if (unread)
		*unread = *feed__unread(s);
	feed__free(s);
	return code;
}

int feed__fd(const struct feed *s)
{
	return s->ended ? -1 : s->fd;
}

void feed__free(struct feed *s)
{
	if (!s)
		return;
	trace_reader__free(s->reader);
	buffer__free(&s->held);
	free(s);
}
