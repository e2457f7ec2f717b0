/* SPDX-License-Identifier: BSD-2-Clause */
#include "collector/attach_session.h"

#include <bpf/libbpf.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "collector/assembly.h"
#include "collector/broker_client.h"
#include "collector/cost.h"
#include "collector/counters.h"
#include "collector/raw_log.h"
#include "collector/service.h"
#include "collector/session_log.h"
#include "collector/stream.h"
#include "collector/trace/writer.h"
#include "collector/watchdog.h"
#include "probe/base/error.h"
#define LOG_MODULE "collector"
#include "probe/base/log.h"
#include "probe/target/target.h"

#define PUMP_NS 50000000
/* In the first second: what is learned from the first events is wanted for the next ones. */
#define HURRIED_PUMP_NS 10000000
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
	struct service service;
	struct pollfd fd[FD_COUNT];
	struct ring_buffer *ring;
	struct counters *counters;
	struct mp_counters now[MP_SITES];
	struct cost_row cost_row[MP_SITES];
	struct stream *stream;
	struct assembly *assembly;
	struct raw_log_writer *log;
	struct cost cost;
	struct watchdog watchdog;
	bool begun;        /* who takes part at first was said */
	uint64_t begin_ns; /* of the stream */
	uint64_t next_second_ns;
	uint64_t events;      /* taken from the ring */
	unsigned seconds;     /* since the last CLOCK */
	enum trace_stop stop; /* TRACE_STOP_UNKNOWN while it goes on */
	struct error *error;
};

/* --- setting up ----------------------------------------------------------------------------- */

static int pump_every(const struct attach_session *s, long ns)
{
	const struct itimerspec every = { { 0, ns }, { 0, ns } };

	return timerfd_settime(s->fd[FD_TIMER].fd, 0, &every, NULL) ? -errno : 0;
}

static int open_fds(struct attach_session *s, struct error *e)
{
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
	return pump_every(s, HURRIED_PUMP_NS);
}

static int on_event(void *ctx, void *data, size_t size)
{
	struct attach_session *s = ctx;

	s->events++;
	if (session_log__append(s->log, RAW_LOG_EVENT, data, size, s->error))
		return -EIO;
	return assembly__event(s->assembly, data, size, s->error);
}

static int open_ring(struct attach_session *s, struct error *e)
{
	int err;

	s->ring = ring_buffer__new(s->service.ring_fd, on_event, s, NULL);
	err = s->ring ? 0 : -errno;
	if (err == -EPERM)
		return error__set(e, EXIT_UNSUPPORTED, EPERM, "run a kernel of 5.19 or later",
				  "collector: failed to map the ring: this kernel lets no process "
				  "without rights use it");
	if (err)
		return error__set(e, EXIT_FAILED, -err, NULL,
				  "collector: failed to map the ring: %s", strerror(-err));
	return counters__open(&s->counters, s->service.counters_fd, s->o->cpus, e);
}

static void refresh(void *ctx)
{
	struct attach_session *s = ctx;
	size_t rows = s->service.rows;

	/* Counters that cannot be read stay as they were: what is missing is then "not routed". */
	if (counters__read(s->counters, s->now, rows))
		return;
	session_log__append(s->log, RAW_LOG_COUNTERS, s->now, rows * sizeof(*s->now), NULL);
	if (s->assembly)
		assembly__counters(s->assembly, s->now, rows);
}

/* --- the processes of the service ----------------------------------------------------------- */

static void describe_rows(struct attach_session *s, const struct member *m)
{
	for (size_t i = 0; i < m->plan.sites; i++)
		s->cost_row[m->first + i] = (struct cost_row){
			.program = m->plan.site[i].row.program,
			.purpose = mp_site__purpose(&m->plan.site[i].row),
			.class = m->plan.site[i].place.class,
			.member = m->process,
			.threads = m->plan.threads,
		};
}

static int on_joined(void *ctx, struct member *m)
{
	struct attach_session *s = ctx;
	struct mp_site rows[ENGINE_SITES_MAX];
	struct stream_process p = stream_process__of(m->process, s->service.ops->name,
						     target__info(m->target), &m->plan);
	int err;

	member__rows(m, rows);
	describe_rows(s, m);
	err = session_log__joined(s->log, &s->service, m, &p, rows, s->error);
	if (!err)
		err = stream__process(s->stream, &p);
	if (!err)
		err = assembly__join(s->assembly, m->pid, m->process, rows, m->first, m->plan.sites,
				     s->error);
	if (!err)
		err = watchdog__joined(s->stream, m);
	if (err || !s->begun)
		return err;
	return stream__finding(s->stream, TRACE_STATUS_OK, (uint32_t)m->pid, "process", "joined",
			       NULL, "process %d (%s) takes part, as %s", (int)m->pid, p.command,
			       p.role[0] ? p.role : "what is not known");
}

static int on_left(void *ctx, struct member *m)
{
	struct attach_session *s = ctx;
	const uint64_t left[2] = { stream__now_ns(), (uint64_t)m->pid };
	int err;

	if (m->failed)
		return assembly__leave(s->assembly, m->pid, left[0], s->error);
	refresh(s); /* before its rows are another's */
	if (session_log__append(s->log, RAW_LOG_LEAVE, left, sizeof(left), s->error))
		return -EIO;
	err = assembly__leave(s->assembly, m->pid, left[0], s->error);
	for (size_t i = 0; i < m->plan.sites; i++)
		s->cost_row[m->first + i] = (struct cost_row){ .program = MP_PROGRAM_EMPTY,
							       .purpose = MP_PURPOSE_IDENTITY };
	return err ? err
		   : stream__finding(s->stream, TRACE_STATUS_WARN, (uint32_t)m->pid, "process",
				     "left", NULL,
				     "process %d (%s) has ended: so has what it was computing; the "
				     "capture of the others goes on",
				     (int)m->pid, m->plan.role[0] ? m->plan.role : "role unknown");
}

static int on_refused(void *ctx, pid_t pid, const struct error *why)
{
	struct attach_session *s = ctx;

	return stream__finding(s->stream, TRACE_STATUS_WARN, (uint32_t)pid, "process",
			       "not captured", why->remedy, "%s", why->what);
}

static struct service_events service_events(struct attach_session *s)
{
	return (struct service_events){ on_joined, on_left, on_refused, s };
}

/* Who ended, who came. The ring was emptied after the ends were seen. */
static int follow(struct attach_session *s, size_t gone, uint64_t now_ns)
{
	const struct service_events on = service_events(s);
	int err = gone ? service__drop_gone(&s->service, now_ns, &on) : 0;

	return err ? err : service__look(&s->service, now_ns, &on);
}

/* --- attaching ------------------------------------------------------------------------------ */

/* The first records; they are written at once. */
static int open_stream(struct attach_session *s, struct error *e)
{
	struct service *v = &s->service;
	const struct service_events on = service_events(s);
	struct assembly_options o = {
		.ops = v->ops,
		.engine = v->engine,
		.source = STREAM_SOURCE,
		.attached_ns = v->attached_ns,
		.begin_ns = s->begin_ns,
		.refresh = refresh,
		.ctx = s,
	};
	int err;

	err = stream__open(&s->stream, s->o->out, QUEUE_BYTES, e);
	if (err)
		return err;
	o.writer = stream__writer(s->stream);
	err = assembly__open(&s->assembly, &o, e);
	if (!err)
		err = service__begin(v, &on);
	s->begun = true;
	return err ? err : trace_writer__flush(o.writer, e);
}

/* Say what was lost until @now_ns. */
static int report(struct attach_session *s, uint64_t now_ns, struct error *e)
{
	int err = session_log__append(s->log, RAW_LOG_REPORT, &now_ns, sizeof(now_ns), e);

	return err ? err : assembly__report(s->assembly, now_ns, e);
}

static double ms_between(uint64_t begin_ns, uint64_t end_ns)
{
	return (double)(end_ns - begin_ns) / 1e6;
}

static int attach(struct attach_session *s, struct error *e)
{
	const struct service_options o = { .broker = s->o->broker,
					   .pid = s->o->pid,
					   .headers = s->o->headers,
					   .has_rights = true };
	struct service *v = &s->service;
	uint64_t begun_ns = stream__now_ns(), looked_ns, loaded_ns;
	int err;

	err = service__open(v, &o, e);
	looked_ns = stream__now_ns();
	if (!err && s->o->raw_log >= 0 && !v->ops->save)
		err = error__set(e, EXIT_UNSUPPORTED, ENOTSUP, "leave --raw-log away",
				 "collector: failed to log: %s cannot be replayed", v->ops->name);
	if (!err)
		err = open_fds(s, e);
	if (!err)
		err = service__load(v, s->o->ring_bytes, e);
	loaded_ns = stream__now_ns();
	if (!err)
		err = open_ring(s, e);
	if (!err)
		err = service__link(v, e);
	s->begin_ns = stream__now_ns();
	if (!err)
		err = session_log__open(&s->log, s->o->raw_log, v, s->begin_ns, s->o->headers, e);
	if (!err)
		err = open_stream(s, e);
	if (err)
		return error__set(e, EXIT_FAILED, -err, NULL,
				  "collector: failed to attach to process %d: %s", (int)s->o->pid,
				  strerror(-err));
	log_info("attached in %.0f ms: looked around for %.0f, waited for the kernel programs for "
		 "%.0f, placed probes for %.0f",
		 ms_between(begun_ns, v->attached_ns), ms_between(begun_ns, looked_ns),
		 ms_between(looked_ns, loaded_ns), ms_between(loaded_ns, v->attached_ns));
	s->cost.since_ns = v->attached_ns;
	s->next_second_ns = v->attached_ns + SECOND_NS;
	/* What a hit costs is told with the first COST: attaching does not wait for it. */
	service__calibrate(v);
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
	err = session_log__append(s->log, RAW_LOG_TICK, &now_ns, sizeof(now_ns), e);
	return err ? err : assembly__tick(s->assembly, now_ns, e);
}

static int write_cost(struct attach_session *s, uint64_t now_ns)
{
	struct cost_facts f = {
		.row = s->cost_row,
		.counters = s->now,
		.rows = s->service.rows,
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
	err = report(s, now_ns, e);
	if (!err)
		err = write_cost(s, now_ns);
	if (!err)
		err = watchdog__second(&s->watchdog, s->stream, &s->service, &facts);
	if (err || s->seconds < CLOCK_EVERY)
		return err;
	s->seconds = 0;
	return stream__clock(s->stream);
}

/* Each second: is it still the same program, and the news. */
static int second(struct attach_session *s, uint64_t now_ns, struct error *e)
{
	pump_every(s, PUMP_NS);
	s->seconds++;
	s->next_second_ns += SECOND_NS;
	if (s->next_second_ns < now_ns)
		s->next_second_ns = now_ns + SECOND_NS;
	if (!target__is_same(s->service.target) && !s->stop) {
		struct pollfd gone = s->fd[FD_TARGET];

		if (poll(&gone, 1, 0) > 0)
			s->stop = TRACE_STOP_TARGET_EXIT;
		else if (target__has_memory(s->service.target))
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
	size_t gone;
	uint64_t end_ns =
		s->o->duration_ns ? s->service.attached_ns + s->o->duration_ns : UINT64_MAX;
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
		gone = service__find_gone(&s->service);
		err = drain_ring(s, now_ns, e);
		if (!err && !s->stop)
			err = follow(s, gone, now_ns);
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
	uint64_t delivered, missed;
	int err;

	for (int i = 0;; i++) {
		delivered = 0;
		err = drain_ring(s, now_ns, e);
		refresh(s);
		for (uint32_t j = 0; j < s->service.rows; j++)
			delivered += s->now[j].events;
		if (err || delivered <= s->events || i == LATE_TRIES)
			break;
		nanosleep(&wait, NULL);
	}
	if (err || delivered <= s->events)
		return err;
	missed = delivered - s->events;
	err = session_log__append(s->log, RAW_LOG_MISSED, &missed, sizeof(missed), e);
	if (!err)
		assembly__missed(s->assembly, missed);
	return err;
}

/* Detach first, so that the target is free; then say what there is, and END in every case. */
static int finish(struct attach_session *s, int err, struct error *e)
{
	uint64_t now_ns, stopped[2], asked_ns = stream__now_ns();
	int last;

	service__unlink(&s->service);
	now_ns = stream__now_ns();
	log_info("detached in %.1f ms", (double)(now_ns - asked_ns) / 1e6);
	if (!err)
		err = drain_last(s, now_ns, e);
	if (!err)
		err = report(s, now_ns, e);
	if (!err)
		err = write_cost(s, asked_ns); /* while they were there */
	stopped[0] = now_ns;
	stopped[1] = err ? TRACE_STOP_FAILED : s->stop;
	session_log__append(s->log, RAW_LOG_STOP, stopped, sizeof(stopped), NULL);
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
	service__close(&s->service);
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
