/* SPDX-License-Identifier: BSD-2-Clause */
#include "collector/inspect.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "collector/broker_client.h"
#include "collector/listeners.h"
#include "collector/model_record.h"
#include "collector/service.h"
#include "collector/stream.h"
#include "collector/trace/writer.h"
#include "probe/attach/ability.h"
#include "probe/base/error.h"
#include "probe/engine/engine.h"
#include "probe/engine/sink.h"
#include "probe/target/ancestors.h"
#include "probe/target/target.h"

#define PORTS_MAX 8
#define LISTED_MAX 256
#define CALIBRATE_TRIES 100
#define CALIBRATE_WAIT_NS 50000000

/* One process as far as we got with it. */
struct look {
	const struct inspect_options *o;
	struct stream *stream;
	struct opener opener;
	struct target *target;
	const struct engine_ops *ops;
	struct engine *engine;
	const struct engine_plan *plan;
	uint32_t id;      /* of PROCESS and CONTEXT */
	unsigned refused; /* processes that we have no right to read */
	struct {
		pid_t pid;
		const struct engine_ops *ops;
	} listed[LISTED_MAX];
	size_t listed_count;
};

static struct trace_record head_now(void)
{
	return (struct trace_record){ .time_ns = stream__now_ns(), .source = STREAM_SOURCE };
}

static uint32_t pid_of(const struct look *l)
{
	return (uint32_t)target__info(l->target)->pid;
}

/* --- one process ---------------------------------------------------------------------------- */

static int write_process(struct look *l)
{
	struct stream_process p =
		stream_process__of(l->id, l->ops->name, target__info(l->target), l->plan);
	int err = stream__process(l->stream, &p);

	if (!err)
		err = stream__finding(l->stream, TRACE_STATUS_OK, pid_of(l), "process", "command",
				      NULL, "%s", p.command);
	if (!err)
		err = stream__finding(l->stream, TRACE_STATUS_OK, pid_of(l), "process", "engine",
				      NULL, "%s, %s", p.engine,
				      *p.version ? p.version : "build unknown");
	return err;
}

static const char *number(char *text, size_t size, uint32_t n)
{
	snprintf(text, size, n == ENGINE_UNKNOWN ? "?" : "%u", n);
	return text;
}

static int write_model(struct look *l)
{
	const struct engine_context *c = l->ops->model ? l->ops->model(l->engine) : NULL;
	struct trace_writer *w = stream__writer(l->stream);
	struct engine_context as_seen = { .context = l->id, .key = c ? c->key : 0 };
	char experts[16], k[16];
	int err;

	if (!c)
		return stream__finding(l->stream, TRACE_STATUS_UNKNOWN, pid_of(l), "process",
				       "model", "", "not known before its first token");
	err = model_record__context(w, head_now(), l->id, &as_seen);
	if (!err)
		err = model_record__model(w, head_now(), l->id, c);
	if (err)
		return err;
	return stream__finding(l->stream, TRACE_STATUS_OK, pid_of(l), "process", "model", NULL,
			       "%s%s%s, %u MoE layers, %s experts, k %s%s%s",
			       c->name[0] ? c->name : c->architecture, c->name[0] ? ", " : "",
			       c->name[0] ? c->architecture : "", c->layers,
			       number(experts, sizeof(experts), c->experts),
			       number(k, sizeof(k), c->k), c->quantisation[0] ? ", " : "",
			       c->quantisation);
}

/* It can be attached to, and serves: that covers its descendants. A program that only has the
 * library, and starts servers, does not. */
static void note_listed(struct look *l)
{
	if (l->listed_count == LISTED_MAX)
		return;
	l->listed[l->listed_count].pid = target__info(l->target)->pid;
	l->listed[l->listed_count++].ops = l->ops;
}

static int write_ports(struct look *l)
{
	uint16_t ports[PORTS_MAX];
	char text[PORTS_MAX * 8] = "";
	size_t at = 0;
	int count = target__listening_ports((pid_t)pid_of(l), &l->opener, ports, PORTS_MAX);

	if (count > 0 && l->engine)
		note_listed(l);
	if (count < 0)
		return stream__finding(l->stream, TRACE_STATUS_UNKNOWN, pid_of(l), "process",
				       "port", NULL, "not readable: %s", strerror(-count));
	for (int i = 0; i < count; i++)
		at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%u", i ? ", " : "",
				       ports[i]);
	return stream__finding(l->stream, TRACE_STATUS_OK, pid_of(l), "process", "port", NULL, "%s",
			       count ? text : "none");
}

/* Time of a hit that captures one row; 0: not measured. */
static uint64_t capture_ns(const struct look *l, enum site_class class)
{
	const struct hit_costs *c = &l->o->broker->costs;

	return c->hit[class] && c->capture ? c->hit[class] + c->capture : 0;
}

/* Time that the thread of the operator that captures spends in hits during one decode step. */
static int write_cost(struct look *l)
{
	uint64_t ns;
	enum site_class class = SITE_EMULATED;
	double each = l->plan->hits_per_step_thread;
	const char *in_each = l->plan->threads == 1 ? "" : " and thread";
	enum trace_status status;

	for (size_t i = 0; i < l->plan->sites; i++)
		if (mp_site__purpose(&l->plan->site[i].row) == MP_PURPOSE_ROUTER)
			class = l->plan->site[i].place.class;
	status = class == SITE_EMULATED ? TRACE_STATUS_OK : TRACE_STATUS_WARN;
	if (each < 0)
		return stream__finding(l->stream, TRACE_STATUS_UNKNOWN, pid_of(l), "process",
				       "predicted cost", NULL, "unknown before its first token");
	ns = capture_ns(l, class);
	if (!ns)
		return stream__finding(l->stream, status, pid_of(l), "process", "predicted cost",
				       NULL, "%.0f hits (%s) a step%s", each,
				       site_class__name(class), in_each);
	return stream__finding(l->stream, status, pid_of(l), "process", "predicted cost", NULL,
			       "%.1f us a step%s: %.0f hits of %.2f us", each * (double)ns / 1000,
			       in_each, each, (double)ns / 1000);
}

/* --- the list of candidates ----------------------------------------------------------------- */

static int is_listed(void *ctx, const struct ancestor *a)
{
	const struct look *l = ctx;

	for (size_t i = 0; i < l->listed_count; i++)
		if (l->listed[i].pid == a->pid && l->listed[i].ops == l->ops)
			return 1;
	return 0;
}

/* A worker of a server that is in the list already? An attach to that one covers it. */
static bool is_part_of_listed(struct look *l)
{
	const struct engine_ops *owner = engine__owner(l->target);

	if (owner && owner->entrance(l->target, true, NULL))
		return true; /* the server that it is of is older, or not there to be read */
	return target__each_ancestor(l->target, is_listed, l) > 0;
}

/* It is a server, and cannot be attached to. */
static int list_refused(struct look *l, const struct error *why)
{
	int err = write_process(l);

	if (!err)
		err = write_ports(l);
	return err ? err
		   : stream__finding(l->stream, TRACE_STATUS_MISSING, pid_of(l), "process",
				     "not attachable", why->remedy, "%s", why->what);
}

/* No engine runs in it. One that will may say so; its other processes are not listed. */
static int list_unready(struct look *l)
{
	const struct engine_ops *owner = engine__owner(l->target);
	struct error why = { 0 };

	if (!owner || owner->entrance(l->target, true, NULL) ||
	    !owner->entrance(l->target, false, &why))
		return 0;
	l->ops = owner;
	l->id++;
	return list_refused(l, &why);
}

/* 0: said, or nothing to say. Errors are the stream's. */
static int list_one(struct look *l, pid_t pid)
{
	struct error why = { 0 };
	struct engine_plan plan;
	int err;

	engine_plan__clear(&plan);
	l->plan = &plan;
	err = target__open(&l->target, pid, &l->opener, NULL);
	if (!err)
		err = engine__find(&l->ops, l->target, NULL);
	if (err) {
		l->refused += err == -EACCES || err == -EPERM;
		l->ops = NULL;
		return l->target && err == -ENOTSUP ? list_unready(l) : 0;
	}
	if (is_part_of_listed(l))
		return 0;
	l->id++;
	err = l->ops->open(&l->engine, l->target, &plan, &why);
	if (err)
		return list_refused(l, &why);
	err = write_process(l);
	if (!err)
		err = write_model(l);
	if (!err)
		err = write_ports(l);
	return err ? err : write_cost(l);
}

/* Whoever sees no server must know that there may be some. With all rights that can be had, what is
 * left (another namespace's, say) is nothing to be done about. */
static int write_refused(struct look *l)
{
	bool rights = ability__require(l->o->abilities, NULL) != -EPERM;

	if (!l->refused)
		return 0;
	return stream__finding(
		l->stream, rights ? TRACE_STATUS_WARN : TRACE_STATUS_MISSING, 0, "machine",
		"processes not readable", rights ? NULL : "sudo moeprobe attach",
		"%u process%s could not be read", l->refused, l->refused == 1 ? "" : "es");
}

static int failed(const struct look *l, int err, struct error *e)
{
	if (l->stream)
		trace_writer__flush(stream__writer(l->stream), e);
	return error__set(e, EXIT_FAILED, -err, NULL, "collector: failed to look around: %s",
			  strerror(-err));
}

int inspect__list(const struct inspect_options *o, struct error *e)
{
	struct look l = { .o = o, .opener = broker_client__opener(o->broker) };
	pid_t *pids = NULL;
	size_t count = 0;
	int err;

	err = stream__open(&l.stream, o->out, 0, e);
	if (!err)
		err = target__list_pids(&pids, &count, &l.opener);
	for (size_t i = 0; i < count && !err; i++) {
		if (pids[i] == getpid() || pids[i] == getppid())
			continue;
		err = list_one(&l, pids[i]);
		if (l.ops)
			l.ops->free(l.engine);
		target__free(l.target);
		l.ops = NULL;
		l.engine = NULL;
		l.target = NULL;
	}
	if (!err)
		err = write_refused(&l);
	err = err ? failed(&l, err, e) : stream__close(l.stream, TRACE_STOP_UNKNOWN, e);
	free(pids);
	stream__free(l.stream);
	return err;
}

/* --- doctor --------------------------------------------------------------------------------- */

static int write_abilities(struct look *l)
{
	int err = 0;

	for (int i = 0; i < ABILITY_COUNT && !err; i++) {
		const struct ability *a = &l->o->abilities[i];
		enum trace_status status = TRACE_STATUS_OK;

		if (a->state == ABILITY_UNKNOWN)
			status = TRACE_STATUS_UNKNOWN;
		else if (a->state == ABILITY_MISSING)
			status = a->required ? TRACE_STATUS_MISSING : TRACE_STATUS_WARN;
		err = stream__finding(l->stream, status, 0, "machine",
				      ability__name((enum ability_id)i),
				      status == TRACE_STATUS_OK ? NULL : a->remedy, "%s", a->found);
	}
	return err;
}

/* What to do about a place where a hit is slow. */
static const char *slow_remedy(const struct mp_site *row)
{
	if (mp_site__purpose(row) != MP_PURPOSE_IDENTITY)
		return "expect the predicted cost: this build has no better place";
	return row->program == MP_PROGRAM_BYTES
		       ? "nothing: it is hit when something is sent, not in every layer"
		       : "nothing: it is hit a few times a request, not every step";
}

static int write_site(struct look *l, const struct engine_site *site)
{
	/* Most log lines are none that is looked for. */
	uint64_t ns = site->row.program == MP_PROGRAM_LINE
			      ? l->o->broker->costs.hit[site->place.class]
			      : capture_ns(l, site->place.class);
	bool slow = site->place.class != SITE_EMULATED;
	const char *remedy = slow ? slow_remedy(&site->row) : NULL;
	char cost[48] = "cost of a hit unknown";

	if (site->row.program == MP_PROGRAM_HEADS)
		return stream__finding(l->stream, TRACE_STATUS_OK, pid_of(l), "site", site->purpose,
				       NULL, "%s", LISTENERS_COST);
	if (ns)
		snprintf(cost, sizeof(cost), "%.2f us a hit", (double)ns / 1000);
	return stream__finding(l->stream, slow ? TRACE_STATUS_WARN : TRACE_STATUS_OK, pid_of(l),
			       "site", site->purpose, remedy, "%s+%u: %s (%s, %s)",
			       site->place.symbol, site->place.entry_bytes, site->place.instruction,
			       site_class__name(site->place.class), cost);
}

/* Load the programs to see whether the kernel takes them, and have a hit measured. What it does
 * not take is a finding and also @refusal. */
static int measure(struct look *l, const struct service *s, struct error *refusal)
{
	const struct timespec wait = { .tv_nsec = CALIBRATE_WAIT_NS };
	int fds[BROKER_FDS_MAX];
	char text[8];

	if (broker_client__load(l->o->broker, l->o->ring_bytes, fds, refusal))
		return stream__finding(l->stream, TRACE_STATUS_MISSING, 0, "machine",
				       "kernel programs", refusal->remedy, "%s", refusal->what);
	for (int i = 0; i < BROKER_FDS_MAX; i++)
		close(fds[i]);
	if (s->broker)
		service__calibrate(s);
	else
		broker_client__calibrate(l->o->broker, MP_PROGRAM_ROUTE, 1);
	/* Any question brings the result once it is there; this one is always refused. */
	for (int i = 0; i < CALIBRATE_TRIES && !l->o->broker->costs.hit[SITE_EMULATED]; i++) {
		nanosleep(&wait, NULL);
		l->opener.read_fd_link(l->opener.ctx, 0, 0, text, sizeof(text));
	}
	return stream__finding(l->stream, TRACE_STATUS_OK, 0, "machine", "kernel programs", NULL,
			       "loaded");
}

static int write_hit_costs(struct look *l)
{
	const struct hit_costs *c = &l->o->broker->costs;
	const struct {
		const char *name, *text;
		uint64_t ns;
	} lines[] = {
		{ "emulated hit", "", c->hit[SITE_EMULATED] },
		{ "single-stepped hit", "", c->hit[SITE_STEPPED] },
		{ "hit that is turned away", " on top", c->away },
		{ "capture of a row", " on top", c->capture },
		{ "each further row", " on top", c->row },
	};
	int err = 0;

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]) && !err; i++) {
		if (lines[i].ns)
			err = stream__finding(l->stream, TRACE_STATUS_OK, 0, "machine",
					      lines[i].name, NULL, "%.2f us%s",
					      (double)lines[i].ns / 1000, lines[i].text);
		else
			err = stream__finding(l->stream, TRACE_STATUS_UNKNOWN, 0, "machine",
					      lines[i].name, NULL, "not measured");
	}
	return err;
}

/* Look at the process and those below it; what stands in the way is a finding and also the error.
 */
static int open_service(struct look *l, struct service *s, struct error *e)
{
	const struct service_options o = {
		.broker = l->o->broker,
		.pid = l->o->pid,
		.headers = l->o->headers,
		.has_rights = !ability__require(l->o->abilities, NULL),
	};
	struct engine_plan none;
	struct error why = { 0 };
	int err, said = 0;

	if (error__is_set(l->o->no_process)) {
		why = *l->o->no_process;
		err = -why.errnum;
	} else {
		err = service__open(s, &o, &why);
	}
	if (!err)
		return 0;
	if (s->ops) {
		engine_plan__clear(&none);
		l->id = 1;
		l->ops = s->ops;
		l->target = s->target;
		l->plan = &none;
		said = write_process(l);
	}
	if (!said)
		said = stream__finding(l->stream, TRACE_STATUS_MISSING, (uint32_t)l->o->pid,
				       "process", "not attachable", why.remedy, "%s", why.what);
	*e = why;
	return said ? said
		    : error__set(e, EXIT_FAILED, -err, NULL,
				 "collector: failed to look at process %d: %s", (int)l->o->pid,
				 strerror(-err));
}

static size_t add_rank(char *text, size_t size, size_t at, const char *kind, uint32_t rank)
{
	if (rank == ENGINE_UNKNOWN || at >= size)
		return at;
	return at + (size_t)snprintf(text + at, size - at, ", %s rank %u", kind, rank);
}

static int write_role(struct look *l)
{
	const struct engine_plan *p = l->plan;
	char ranks[128] = "";
	size_t at = 0;

	at = add_rank(ranks, sizeof(ranks), at, "tensor", p->rank_tensor);
	at = add_rank(ranks, sizeof(ranks), at, "pipeline", p->rank_pipeline);
	at = add_rank(ranks, sizeof(ranks), at, "data", p->rank_data);
	at = add_rank(ranks, sizeof(ranks), at, "expert", p->rank_expert);
	if (pid_of(l) != (uint32_t)l->o->pid && at < sizeof(ranks))
		snprintf(ranks + at, sizeof(ranks) - at, ", process %u", pid_of(l));
	if (!p->role[0] && !ranks[0])
		return 0; /* a program of its own: nothing to say */
	return stream__finding(l->stream, TRACE_STATUS_OK, pid_of(l), "process", "role", NULL,
			       "%s%s", p->role[0] ? p->role : "not known", ranks);
}

/* The model is that of the service, and said with the first process. */
static int write_member(struct look *l, const struct member *m)
{
	int err;

	l->id = m->process;
	l->target = m->target;
	l->plan = &m->plan;
	err = write_process(l);
	if (!err)
		err = write_role(l);
	if (!err && m->process == SERVICE_FIRST_PROCESS)
		err = write_model(l);
	if (!err)
		err = write_ports(l);
	for (size_t i = 0; i < m->plan.sites && !err; i++)
		err = write_site(l, &m->plan.site[i]);
	return err ? err : write_cost(l);
}

/* Who takes part, and who should and cannot. */
static int write_service(struct look *l, const struct service *s)
{
	int err = 0;

	l->ops = s->ops;
	l->engine = s->engine;
	for (size_t i = 0; i < s->members && !err; i++)
		err = write_member(l, s->member[i]);
	for (size_t i = 0; i < s->family.count && !err; i++) {
		const struct relative *r = &s->family.relative[i];

		if (r->why)
			err = stream__finding(l->stream, TRACE_STATUS_WARN, (uint32_t)r->pid,
					      "process", "not captured", r->why->remedy, "%s",
					      r->why->what);
	}
	return err;
}

int inspect__doctor(const struct inspect_options *o, struct error *e)
{
	struct look l = { .o = o, .opener = broker_client__opener(o->broker) };
	struct error refusal = { 0 }, process = { 0 };
	struct service *s = calloc(1, sizeof(*s));
	int err = -ENOMEM;

	if (s)
		err = stream__open(&l.stream, o->out, 0, e);
	if (!err)
		err = write_abilities(&l);
	if (!err && o->pid)
		open_service(&l, s, &process);
	if (!err)
		err = measure(&l, s, &refusal);
	if (!err)
		err = write_hit_costs(&l);
	if (!err && s->engine && !error__is_set(&process))
		err = write_service(&l, s);
	err = err ? failed(&l, err, e) : stream__close(l.stream, TRACE_STOP_UNKNOWN, e);
	if (s)
		service__close(s);
	free(s);
	stream__free(l.stream);
	if (err)
		return err;
	/* As attach would say it: rights and kernel, then the process, then the programs. */
	err = ability__require(o->abilities, e);
	if (!err)
		*e = error__is_set(&process) ? process : refusal;
	return -e->errnum;
}
