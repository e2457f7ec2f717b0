/* SPDX-License-Identifier: BSD-2-Clause */
#include "collector/attach_session.h"

#include <bpf/libbpf.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "collector/assembly.h"
#include "collector/attachment.h"
#include "collector/broker_client.h"
#include "collector/cost.h"
#include "collector/counters.h"
#include "collector/raw_log.h"
#include "collector/stream.h"
#include "collector/trace/writer.h"
#include "collector/watchdog.h"
#include "probe/base/buffer.h"
#include "probe/base/error.h"
#define LOG_MODULE "collector"
#include "probe/base/log.h"
#include "probe/target/target.h"

#define PUMP_NS 50000000
#define SECOND_NS 1000000000ull
#define CLOCK_EVERY 60         /* seconds */
#define QUEUE_BYTES (8u << 20) /* of steps; what may wait in all: see trace/writer.h */
#define NEWS_BYTES 8192u       /* what a second has to say, at most */

/* How long a reader has at the end to take what is left. */
#define HURRIED_NS (17 * SECOND_NS / 10) /* we are to end: less than the broker's GRACE_SECONDS */
#define QUIET_NS (600 * SECOND_NS)       /* nobody waits: without a byte taken, */
#define PATIENT_NS (3600 * SECOND_NS)    /* and in all */
#define SLICE_MS 100

#define LATE_TRIES 10
#define LATE_WAIT_NS 10000000

enum { FD_TIMER, FD_SIGNAL, FD_TARGET, FD_BROKER, FD_OUT, FD_COUNT };

struct attach_session {
	const struct attach_session_options *o;
	struct attachment attachment;
	struct pollfd fd[FD_COUNT];
	struct ring_buffer *ring;
	struct counters *counters;
	struct mp_counters now[MP_SITES];
	struct stream *stream;
	struct assembly *assembly;
	struct raw_log_writer *log;
	struct cost cost;
	struct watchdog watchdog;
	uint64_t next_second_ns;
	uint64_t events;      /* taken from the ring */
	unsigned seconds;     /* since the last CLOCK */
	enum trace_stop stop; /* TRACE_STOP_UNKNOWN while it goes on */
	struct error *error;
};

/* --- setting up ----------------------------------------------------------------------------- */

static int open_fds(struct attach_session *s, struct error *e)
{
	const struct itimerspec every = { { 0, PUMP_NS }, { 0, PUMP_NS } };
	sigset_t stops;

	for (int i = 0; i < FD_COUNT; i++)
		s->fd[i] = (struct pollfd){ .fd = -1, .events = POLLIN };
	sigemptyset(&stops);
	sigaddset(&stops, SIGINT);
	sigaddset(&stops, SIGTERM);
	sigaddset(&stops, SIGHUP);
	s->fd[FD_TIMER].fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	s->fd[FD_SIGNAL].fd = signalfd(-1, &stops, SFD_CLOEXEC | SFD_NONBLOCK);
	s->fd[FD_TARGET].fd = (int)syscall(SYS_pidfd_open, s->o->pid, 0);
	if (s->fd[FD_TARGET].fd < 0 && errno == ESRCH)
		return error__set(e, EXIT_NO_TARGET, ESRCH, NULL,
				  "collector: failed to attach to process %d: it is gone",
				  (int)s->o->pid);
	for (int i = FD_TIMER; i <= FD_TARGET; i++)
		if (s->fd[i].fd < 0)
			return error__set(e, EXIT_FAILED, errno, NULL,
					  "collector: failed to watch process %d: %s",
					  (int)s->o->pid, strerror(errno));
	s->fd[FD_BROKER].fd = s->o->broker->fd;
	/* Nothing is read from it: asked for no event, poll says only that its reader is gone. */
	s->fd[FD_OUT] = (struct pollfd){ .fd = s->o->out };
	return timerfd_settime(s->fd[FD_TIMER].fd, 0, &every, NULL) ? -errno : 0;
}

static int on_event(void *ctx, void *data, size_t size)
{
	struct attach_session *s = ctx;

	s->events++;
	if (s->log && raw_log__append(s->log, RAW_LOG_EVENT, data, size))
		return error__set(s->error, EXIT_FAILED, EIO, "free space there",
				  "collector: failed to write the raw log");
	return assembly__event(s->assembly, data, size, s->error);
}

static int open_ring(struct attach_session *s, struct error *e)
{
	int err;

	s->ring = ring_buffer__new(s->attachment.ring_fd, on_event, s, NULL);
	err = s->ring ? 0 : -errno;
	if (err == -EPERM)
		return error__set(e, EXIT_UNSUPPORTED, EPERM, "run a kernel of 5.19 or later",
				  "collector: failed to map the ring: this kernel lets no process "
				  "without rights use it");
	if (err)
		return error__set(e, EXIT_FAILED, -err, NULL,
				  "collector: failed to map the ring: %s", strerror(-err));
	return counters__open(&s->counters, s->attachment.counters_fd, s->o->cpus, e);
}

static int open_log(struct attach_session *s, struct error *e)
{
	const struct attachment *a = &s->attachment;
	const struct target_info *info = target__info(a->target);
	struct raw_log_header h = {
		.pid = (uint32_t)info->pid,
		.parent = (uint32_t)info->parent,
		.threads = a->plan.threads,
		.start_ticks = info->start_ticks,
		.pid_namespace_inode = info->pid_namespace_inode,
		.attached_ns = a->attached_ns,
	};
	struct mp_site rows[MP_SITES] = { 0 };
	struct buffer saved = { 0 };
	int err;

	if (s->o->raw_log < 0)
		return 0;
	snprintf(h.engine, sizeof(h.engine), "%s", a->ops->name);
	snprintf(h.version, sizeof(h.version), "%s", a->plan.version);
	snprintf(h.command, sizeof(h.command), "%s", info->command);
	memcpy(h.build_id, a->plan.build_id, sizeof(h.build_id));
	h.sites = (uint32_t)attachment__rows(a, rows);
	err = a->ops->save(a->engine, &saved);
	h.saved_bytes = (uint32_t)saved.size;
	if (!err)
		err = raw_log__create(&s->log, s->o->raw_log, &h, rows, saved.data, e);
	buffer__free(&saved);
	return err;
}

static void refresh(void *ctx)
{
	struct attach_session *s = ctx;
	size_t sites = s->attachment.plan.sites;

	/* Counters that cannot be read stay as they were: what is missing is then "not routed". */
	if (counters__read(s->counters, s->now, sites))
		return;
	if (s->log)
		raw_log__append(s->log, RAW_LOG_COUNTERS, s->now, sites * sizeof(*s->now));
	if (s->assembly)
		assembly__counters(s->assembly, s->now);
}

/* The first records; they are written at once. */
static int open_stream(struct attach_session *s, struct error *e)
{
	struct attachment *a = &s->attachment;
	struct stream_process p = {
		.process = STREAM_PROCESS,
		.info = target__info(a->target),
		.engine = a->ops->name,
		.version = a->plan.version,
		.build_id = a->plan.build_id,
	};
	struct mp_site rows[MP_SITES] = { 0 };
	struct assembly_options o = {
		.ops = a->ops,
		.engine = a->engine,
		.source = STREAM_SOURCE,
		.process = STREAM_PROCESS,
		.rows = rows,
		.sites = attachment__rows(a, rows),
		.attached_ns = a->attached_ns,
		.begin_ns = stream__now_ns(),
		.refresh = refresh,
		.ctx = s,
	};
	int err;

	err = stream__open(&s->stream, s->o->out, QUEUE_BYTES, e);
	if (!err)
		err = stream__process(s->stream, &p);
	if (err)
		return err;
	o.writer = stream__writer(s->stream);
	err = assembly__open(&s->assembly, &o, e);
	if (!err)
		err = watchdog__begin(&s->watchdog, s->stream, a);
	return err ? err : trace_writer__flush(o.writer, e);
}

static int attach(struct attach_session *s, struct error *e)
{
	struct attachment *a = &s->attachment;
	int err;

	err = attachment__open(a, s->o->broker, s->o->pid, e);
	if (!err && s->o->raw_log >= 0 && !a->ops->save)
		err = error__set(e, EXIT_UNSUPPORTED, ENOTSUP, "leave --raw-log away",
				 "collector: failed to log: %s cannot be replayed", a->ops->name);
	if (!err)
		err = open_fds(s, e);
	if (!err)
		err = attachment__load(a, s->o->ring_bytes, e);
	if (!err)
		err = open_ring(s, e);
	if (!err)
		err = attachment__link(a, e);
	if (!err)
		err = open_log(s, e);
	if (!err)
		err = open_stream(s, e);
	if (err)
		return error__set(e, EXIT_FAILED, -err, NULL,
				  "collector: failed to attach to process %d: %s", (int)s->o->pid,
				  strerror(-err));
	s->cost.since_ns = a->attached_ns;
	s->next_second_ns = a->attached_ns + SECOND_NS;
	/* What a hit costs is told with the first COST: attaching does not wait for it. */
	broker_client__calibrate(s->o->broker, a->plan.threads == UINT32_MAX ? 1 : a->plan.threads);
	return 0;
}

/* --- pumping -------------------------------------------------------------------------------- */

static int drain_ring(struct attach_session *s, uint64_t now_ns, struct error *e)
{
	int err;

	refresh(s);
	err = ring_buffer__consume(s->ring);
	if (err < 0)
		return error__set(e, EXIT_FAILED, -err, NULL,
				  "collector: failed to read the ring: %s", strerror(-err));
	if (s->log && raw_log__append(s->log, RAW_LOG_TICK, &now_ns, sizeof(now_ns)))
		return error__set(e, EXIT_FAILED, EIO, "free space there",
				  "collector: failed to write the raw log");
	return assembly__tick(s->assembly, now_ns, e);
}

static int write_cost(struct attach_session *s, uint64_t now_ns)
{
	struct cost_facts f = {
		.plan = &s->attachment.plan,
		.counters = s->now,
		.costs = &s->o->broker->costs,
		.broker_cpu_ns = s->o->broker->cpu_ns,
		.source = STREAM_SOURCE,
		.now_ns = now_ns,
	};

	return cost__write(&s->cost, stream__writer(s->stream), &f);
}

/* Loss, cost, what to tell the user. Behind a reader that stands still they would pile up: what was
 * counted adds up instead. */
static int write_news(struct attach_session *s, uint64_t now_ns, struct error *e)
{
	struct watchdog_facts facts = {
		.counters = s->now,
		.routes = assembly__routes(s->assembly),
		.now_ns = now_ns,
	};
	int err;

	if (!trace_writer__fits(stream__writer(s->stream), TRACE_SHARE_NEWS, NEWS_BYTES))
		return 0;
	err = assembly__report(s->assembly, now_ns, e);
	if (!err)
		err = write_cost(s, now_ns);
	if (!err)
		err = watchdog__second(&s->watchdog, s->stream, &s->attachment, &facts);
	if (err || s->seconds < CLOCK_EVERY)
		return err;
	s->seconds = 0;
	return stream__clock(s->stream);
}

/* Each second: is it still the same program, and the news. */
static int second(struct attach_session *s, uint64_t now_ns, struct error *e)
{
	s->seconds++;
	s->next_second_ns += SECOND_NS;
	if (s->next_second_ns < now_ns)
		s->next_second_ns = now_ns + SECOND_NS;
	if (!target__is_same(s->attachment.target) && !s->stop) {
		struct pollfd gone = s->fd[FD_TARGET];

		if (poll(&gone, 1, 0) > 0)
			s->stop = TRACE_STOP_TARGET_EXIT;
		else if (target__has_memory(s->attachment.target))
			s->stop = TRACE_STOP_TARGET_EXEC;
		/* else it is ending: its descriptor will say so */
	}
	return write_news(s, now_ns, e);
}

/* What of the descriptors says that it is over? */
static enum trace_stop stop_reason(struct attach_session *s, struct error *e)
{
	if (s->fd[FD_BROKER].revents & (POLLHUP | POLLERR | POLLIN)) {
		error__set(e, EXIT_FAILED, EPIPE, NULL,
			   "collector: failed to go on: the broker process is gone");
		return TRACE_STOP_FAILED;
	}
	if (s->fd[FD_OUT].revents & (POLLERR | POLLHUP)) {
		error__set(e, EXIT_FAILED, EPIPE, NULL,
			   "collector: failed to write 'standard output': its reader is gone");
		return TRACE_STOP_FAILED;
	}
	if (s->fd[FD_TARGET].revents)
		return TRACE_STOP_TARGET_EXIT;
	if (s->fd[FD_SIGNAL].revents)
		return TRACE_STOP_ASKED;
	return TRACE_STOP_UNKNOWN;
}

static int pump(struct attach_session *s, struct error *e)
{
	uint64_t now_ns, ticks;
	uint64_t end_ns =
		s->o->duration_ns ? s->attachment.attached_ns + s->o->duration_ns : UINT64_MAX;
	int err = 0;

	while (!s->stop && !err) {
		if (poll(s->fd, FD_COUNT, -1) < 0 && errno != EINTR)
			return -errno;
		s->stop = stop_reason(s, e);
		if (s->stop == TRACE_STOP_FAILED)
			return -EPIPE;
		if (read(s->fd[FD_TIMER].fd, &ticks, sizeof(ticks)) < 0 && errno != EAGAIN)
			return -errno;
		now_ns = stream__now_ns();
		if (now_ns >= end_ns && !s->stop)
			s->stop = TRACE_STOP_DURATION;
		err = drain_ring(s, now_ns, e);
		if (!err && now_ns >= s->next_second_ns)
			err = second(s, now_ns, e);
		if (!err)
			err = trace_writer__flush(stream__writer(s->stream), e);
	}
	return err;
}

/* Nobody waits for us: give who reads time (a slow link, a terminal that stands still) until all
 * is taken, nothing is for long, or somebody wants us gone. */
static void drain_patiently(struct attach_session *s)
{
	struct pollfd hurry[] = { s->fd[FD_SIGNAL], s->fd[FD_BROKER] };
	struct trace_writer *w = stream__writer(s->stream);
	uint64_t now_ns = stream__now_ns(), begin_ns = now_ns, moved_ns = now_ns;
	size_t left = trace_writer__queued(w), before;

	while (now_ns - moved_ns < QUIET_NS && now_ns - begin_ns < PATIENT_NS) {
		before = left;
		if (poll(hurry, 2, 0) > 0 || trace_writer__drain(w, SLICE_MS, NULL) != -ETIMEDOUT)
			return;
		left = trace_writer__queued(w);
		now_ns = stream__now_ns();
		moved_ns = left < before ? now_ns : moved_ns;
	}
}

/* What is left of the stream goes out; we were asked to end at @asked_ns. */
static int drain(struct attach_session *s, uint64_t asked_ns, struct error *e)
{
	uint64_t waited_ns;

	if (s->stop == TRACE_STOP_DURATION || s->stop == TRACE_STOP_TARGET_EXIT ||
	    s->stop == TRACE_STOP_TARGET_EXEC) {
		drain_patiently(s);
		asked_ns = stream__now_ns();
	}
	waited_ns = stream__now_ns() - asked_ns;
	return trace_writer__drain(
		stream__writer(s->stream),
		waited_ns < HURRIED_NS ? (int)((HURRIED_NS - waited_ns) / 1000000) : 0, e);
}

/* A program that was interrupted may deliver a moment after its probe is gone; the ring hands out
 * nothing behind what it has reserved. What does not come is lost, and counted. */
static int drain_last(struct attach_session *s, uint64_t now_ns, struct error *e)
{
	const struct timespec wait = { .tv_nsec = LATE_WAIT_NS };
	uint64_t delivered;
	int err;

	for (int i = 0;; i++) {
		delivered = 0;
		err = drain_ring(s, now_ns, e);
		refresh(s);
		for (size_t j = 0; j < s->attachment.plan.sites; j++)
			delivered += s->now[j].events;
		if (err || delivered <= s->events || i == LATE_TRIES)
			break;
		nanosleep(&wait, NULL);
	}
	if (!err && delivered > s->events)
		assembly__missed(s->assembly, delivered - s->events);
	return err;
}

/* Detach first, so that the target is free; then say what there is, and END in every case. */
static int finish(struct attach_session *s, int err, struct error *e)
{
	uint64_t now_ns, stopped[2], asked_ns = stream__now_ns();
	int last;

	attachment__unlink(&s->attachment);
	now_ns = stream__now_ns();
	log_info("detached in %.1f ms", (double)(now_ns - asked_ns) / 1e6);
	if (!err)
		err = drain_last(s, now_ns, e);
	if (!err)
		err = assembly__report(s->assembly, now_ns, e);
	if (!err)
		err = write_cost(s, asked_ns); /* while they were there */
	stopped[0] = now_ns;
	stopped[1] = err ? TRACE_STOP_FAILED : s->stop;
	if (s->log)
		raw_log__append(s->log, RAW_LOG_STOP, stopped, sizeof(stopped));
	last = assembly__finish(s->assembly, (enum trace_stop)stopped[1], now_ns, e);
	if (!last)
		last = drain(s, asked_ns, e);
	return err ? err : last;
}

static void close_all(struct attach_session *s)
{
	assembly__free(s->assembly);
	stream__free(s->stream);
	ring_buffer__free(s->ring);
	counters__free(s->counters);
	attachment__close(&s->attachment);
	for (int i = FD_TIMER; i <= FD_TARGET; i++)
		if (s->fd[i].fd >= 0)
			close(s->fd[i].fd);
	free(s);
}

int attach_session__run(const struct attach_session_options *o, struct error *e)
{
	struct attach_session *s = calloc(1, sizeof(*s));
	int err, logged;

	if (!s)
		return error__set(e, EXIT_FAILED, ENOMEM, NULL, "collector: out of memory");
	s->o = o;
	s->error = e;
	s->cost.statm = o->statm;
	for (int i = 0; i < FD_COUNT; i++)
		s->fd[i].fd = -1;
	err = attach(s, e);
	if (!err)
		err = finish(s, pump(s, e), e);
	logged = raw_log__close(s->log, err ? NULL : e);
	close_all(s);
	return err ? err : logged;
}
