/* SPDX-License-Identifier: BSD-2-Clause */
/* Which processes a service has, and which of them take part: at first, and as they come and go. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collector/broker_client.h"
#include "collector/service.h"
#include "collector/service_internal.h"
#include "collector/stream.h"
#include "probe/base/error.h"
#include "probe/base/header_name.h"
#include "probe/target/proc_file.h"
#include "probe/target/target.h"

#define SECOND_NS 1000000000ull
#define HEAD_BYTES_MAX 8192 /* that are read of a request */
#define LOOK_SHARE 100 /* listing the processes takes at most one part in so many of the time */

void service__refuse(struct service *s, pid_t pid, const struct error *why)
{
	struct relative *r = family__find(&s->family, pid);

	if (!r || r->why || r->told)
		return;
	r->why = malloc(sizeof(*r->why));
	if (r->why)
		*r->why = *why;
}

/* --- at first ------------------------------------------------------------------------------- */

/* The processes as they are, parents first; of one parent's the elder first. */
struct roll {
	struct target *target[BROKER_KIN_MAX]; /* NULL: it cannot be looked at */
	size_t count;
};

static void roll__free(struct roll *l)
{
	for (size_t i = 0; l && i < l->count; i++)
		target__free(l->target[i]);
	free(l);
}

/* Numbers are given in order until they start over, so that there is seldom anything to do. */
static void sort_siblings(struct roll *l)
{
	for (size_t i = 2; i < l->count; i++) {
		struct target *t = l->target[i];
		size_t at = i;

		while (at > 1 &&
		       target__info(l->target[at - 1])->parent == target__info(t)->parent &&
		       target__info(l->target[at - 1])->start_ticks >
			       target__info(t)->start_ticks) {
			l->target[at] = l->target[at - 1];
			at--;
		}
		l->target[at] = t;
	}
}

/* @named: the first of them, open already, and not freed with the others. */
static int call_roll(struct service *s, struct roll **out)
{
	struct roll *l = calloc(1, sizeof(*l));
	struct kin kin[BROKER_KIN_MAX];
	int count = l ? broker_client__kin(s->broker, kin) : -ENOMEM;

	*out = l;
	if (count < 0)
		return count;
	family__update(&s->family, kin, (size_t)count, stream__now_ns());
	l->target[l->count++] = s->target;
	for (int i = 1; i < count; i++) {
		struct target *t;

		if (!target__open(&t, kin[i].pid, &s->opener, NULL))
			l->target[l->count++] = t;
		else
			relative__postpone(family__find(&s->family, kin[i].pid), stream__now_ns());
	}
	sort_siblings(l);
	return 0;
}

static size_t count_libraries(const struct target *t)
{
	size_t at = 0;

	while (target__next_library(t, &at))
		;
	return at;
}

static uint64_t program_of(const struct service *s, pid_t pid)
{
	uint64_t device, inode;

	return proc_file__identity(&s->opener, pid, PROC_EXE, &device, &inode) ? 0 : inode;
}

/* True if asking @t is worth it. */
static bool is_news(struct service *s, struct relative *r, const struct target *t)
{
	return relative__ask(r, target__info(t)->start_ticks, program_of(s, r->pid),
			     count_libraries(t), stream__now_ns());
}

/* The engine whose service the named process, what is above it or what is below it says it is of.
 */
static const struct engine_ops *find_owner(const struct roll *l)
{
	const struct engine_ops *owner = engine__owner(l->target[0]);

	for (size_t i = 1; i < l->count && !owner; i++)
		owner = engine__owner_by_line(l->target[i]);
	return owner;
}

/* It runs there: may the capture begin at the named process? */
static int enter(struct service *s, const struct engine_ops *owner, struct error *e)
{
	struct error why = { 0 };
	int got = owner->entrance(s->target, true, &why);

	if (got > 0)
		service__refuse(s, s->pid, &why);
	if (got >= 0)
		return 0;
	s->ops = NULL;
	if (e && !error__is_set(e))
		*e = why;
	return got;
}

/* The first process in which an engine runs. What cannot be said of one is an error only if none
 * is found. */
static int find_engine(struct service *s, struct roll *l, const struct engine_ops *wanted,
		       size_t *at, struct error *e)
{
	const struct engine_ops *owner = wanted ? NULL : find_owner(l);
	struct error doubt = { 0 };
	int match = 0, err = 0;

	s->ops = wanted ? wanted : owner;
	for (*at = 0; *at < l->count; ++*at) {
		match = s->ops ? s->ops->match(l->target[*at], &doubt)
			       : engine__match(&s->ops, l->target[*at], &doubt);
		if (match > 0)
			return owner ? enter(s, owner, e) : 0;
		err = err ? err : match;
	}
	s->ops = NULL;
	if (owner)
		return owner->entrance(s->target, false, e);
	/* Of a process that ends the files go first: they say nothing of what ran in it. */
	if (!err && !target__is_same(s->target))
		return error__set(e, EXIT_NO_TARGET, ESRCH, NULL,
				  "collector: failed to look at process %d: it is gone, or became "
				  "another program meanwhile",
				  (int)s->pid);
	if (!err)
		return engine__not_found(s->target, l->count, e);
	if (e && !error__is_set(e))
		*e = doubt;
	return err;
}

/* The heads of the requests that it receives. Of no library, but it has to be named with one. */
static void add_heads(struct engine_plan *p)
{
	struct engine_site *site;

	if (!p->sites)
		return;
	if (p->sites == ENGINE_SITES_MAX)
		p->sites--; /* the last is one of several that show what is sent */
	site = &p->site[p->sites];
	memset(site, 0, sizeof(*site));
	site->purpose = "request headers";
	site->library = p->site[0].library;
	site->required = 1; /* it was asked for by name */
	site->row.program = MP_PROGRAM_HEADS;
	site->row.heads.most = HEAD_BYTES_MAX;
	p->sites++;
}

/* @t says yes to @plan: it becomes a member and @t its own. */
static int take_in(struct service *s, struct target *t, const struct engine_plan *plan,
		   struct error *e)
{
	struct member *m = service__add_member(s, t);

	if (!m)
		return error__set(e, EXIT_FAILED, ENOMEM, NULL, "collector: out of memory");
	m->plan = *plan;
	if (s->headers && plan->serves_http)
		add_heads(&m->plan);
	return 0;
}

/* Ask @t. 1: it is a member now, and has taken it. 0: nothing to read. -errno with @e. */
static int ask(struct service *s, struct target *t, struct error *e)
{
	struct engine_plan plan;
	int took, err;

	if (s->members == SERVICE_MEMBERS_MAX)
		return error__set(e, EXIT_FAILED, ENOSPC, NULL,
				  "collector: failed to probe process %d: %zu processes take part "
				  "already",
				  (int)target__info(t)->pid, s->members);
	engine_plan__clear(&plan);
	took = s->ops->join(s->engine, t, &plan, e);
	if (took <= 0)
		return took;
	err = take_in(s, t, &plan, e);
	return err ? err : 1;
}

/* The processes besides that at @found, in which the engine was opened. */
static void ask_all(struct service *s, struct roll *l, size_t found)
{
	for (size_t i = 0; i < l->count && s->ops->join; i++) {
		struct error why = { 0 };
		struct relative *r;
		int took;

		if (i == found) /* a member already, which has taken it */
			continue;
		r = family__find(&s->family, target__info(l->target[i])->pid);
		if (!r || !is_news(s, r, l->target[i]))
			continue;
		took = ask(s, l->target[i], &why);
		if (took < 0)
			service__refuse(s, r->pid, &why);
		if (took > 0 && i)
			l->target[i] = NULL;
	}
}

static int choose_headers(struct service *s, const struct service_options *o, struct error *e)
{
	if (!o->headers || !o->headers->count)
		return 0;
	if (!s->ops->headers)
		return error__set(e, EXIT_UNSUPPORTED, ENOTSUP, "leave --header away",
				  "collector: failed to read the headers of requests: of %s it is "
				  "not known which request a client's became",
				  s->ops->name);
	s->headers = o->headers;
	s->ops->headers(s->engine, o->headers);
	return 0;
}

static int open_engine(struct service *s, const struct service_options *o, struct error *e)
{
	struct engine_plan plan;
	struct roll *l;
	size_t at = 0;
	int err = call_roll(s, &l);

	engine_plan__clear(&plan);
	if (err == -ESRCH)
		error__set(e, EXIT_NO_TARGET, ESRCH, NULL,
			   "collector: failed to look at process %d: it is gone", (int)s->pid);
	if (!err)
		err = find_engine(s, l, o->ops, &at, e);
	if (!err)
		err = s->ops->open(&s->engine, l->target[at], &plan, e);
	if (!err)
		err = choose_headers(s, o, e);
	if (!err)
		err = take_in(s, l->target[at], &plan, e);
	if (!err && at)
		l->target[at] = NULL;
	if (!err)
		ask_all(s, l, at);
	if (l && l->count)
		l->target[0] = NULL; /* ours */
	roll__free(l);
	return err;
}

/* The first member needs rows; another one that gets none is left out. */
static int take_all_rows(struct service *s, struct error *e)
{
	size_t i = 0;

	while (i < s->members) {
		struct member *m = s->member[i];
		struct error why = { 0 };
		uint64_t now_ns = stream__now_ns();
		int err = service__take_rows(s, m, now_ns, &why);

		if (!err) {
			i++;
			continue;
		}
		if (m->process == SERVICE_FIRST_PROCESS) {
			if (e && !error__is_set(e))
				*e = why;
			return err;
		}
		m->failed = true;
		service__refuse(s, m->pid, &why);
		service__remove_member(s, i, now_ns);
	}
	return 0;
}

/* With all rights "run as root" is no help. */
static void explain_refusal(struct error *e)
{
	snprintf(
		e->remedy, sizeof(e->remedy),
		"the rights are there, and the kernel refuses all the same: from within a "
		"container, run it outside (the process is of another user namespace); a security "
		"module (SELinux, AppArmor, Yama) or /proc mounted with hidepid may forbid it: see "
		"the kernel's log");
}

int service__open(struct service *s, const struct service_options *o, struct error *e)
{
	int err;

	memset(s, 0, sizeof(*s));
	s->ring_fd = s->counters_fd = -1;
	s->broker = o->broker;
	s->pid = o->pid;
	s->opener = broker_client__opener(o->broker);
	err = target__open(&s->target, o->pid, &s->opener, e);
	if (err && e && o->has_rights && e->exit == EXIT_PERMISSION)
		explain_refusal(e);
	if (!err)
		err = open_engine(s, o, e);
	if (!err)
		err = take_all_rows(s, e);
	return err ? error__set(e, EXIT_FAILED, -err, NULL,
				"collector: failed to look at process %d: %s", (int)o->pid,
				strerror(-err))
		   : 0;
}

/* --- who takes part ------------------------------------------------------------------------- */

static int tell_refused(struct service *s, const struct service_events *on)
{
	int err = 0;

	for (size_t i = 0; i < s->family.count && !err; i++) {
		struct relative *r = &s->family.relative[i];

		if (!r->why)
			continue;
		err = on->refused(on->ctx, r->pid, r->why);
		free(r->why);
		r->why = NULL;
		r->told = true;
	}
	return err;
}

int service__begin(struct service *s, const struct service_events *on)
{
	uint64_t now_ns = stream__now_ns();
	int err = 0;

	s->next_look_ns = now_ns + SECOND_NS;
	for (size_t i = 0; i < s->members && !err; i++)
		if (!s->member[i]->gone)
			err = on->joined(on->ctx, s->member[i]);
	if (!err)
		err = tell_refused(s, on);
	return err ? err : service__drop_gone(s, now_ns, on);
}

/* --- who ends ------------------------------------------------------------------------------- */

/* Has it become another program? Only of who still descends from the named one can be asked. */
static bool became_another(struct service *s, const struct member *m)
{
	const struct relative *r = family__find(&s->family, m->pid);

	return r && r->there && !target__is_same(m->target) && target__has_memory(m->target);
}

size_t service__find_gone(struct service *s)
{
	size_t count = 0;

	for (size_t i = 0; i < s->members; i++) {
		struct member *m = s->member[i];
		struct pollfd gone = { .fd = m->pidfd, .events = POLLIN };

		if (m->pid != s->pid && !m->gone)
			m->gone = poll(&gone, 1, 0) > 0;
		count += m->gone;
	}
	return count;
}

static int drop(struct service *s, size_t at, uint64_t now_ns, const struct service_events *on)
{
	struct member *m = s->member[at];
	int err;

	for (uint32_t purpose = 0; purpose < MP_PURPOSES; purpose++)
		member__enable(m, s->table, purpose, false);
	broker_client__unlink(s->broker, m->pid);
	err = on->left(on->ctx, m);
	service__remove_member(s, at, now_ns);
	return err;
}

int service__drop_gone(struct service *s, uint64_t now_ns, const struct service_events *on)
{
	int err = 0;

	for (size_t i = s->members; i-- > 0 && !err;)
		if (s->member[i]->gone)
			err = drop(s, i, now_ns, on);
	return err;
}

/* --- who comes ------------------------------------------------------------------------------ */

/* Probe member @m, which is the last. What stands in the way is in @e, and then it is gone. */
static int admit(struct service *s, struct member *m, uint64_t now_ns,
		 const struct service_events *on, struct error *why)
{
	int err = service__take_rows(s, m, now_ns, why);

	if (!err)
		err = member__link(m, s->broker, why);
	if (err == -EPIPE)
		return err;
	m->gone = m->failed = err != 0;
	if (err)
		return 0;
	err = on->joined(on->ctx, m);
	for (uint32_t purpose = MP_PURPOSES; purpose-- > 0 && !err;)
		member__enable(m, s->table, purpose, true);
	return err;
}

/* Ask @r, as it is now. Errors end the capture. */
static int ask_again(struct service *s, struct relative *r, uint64_t now_ns,
		     const struct service_events *on)
{
	struct error why = { 0 };
	pid_t pid = r->pid;
	struct target *t;
	int took, err = 0;

	if ((relative__is_settled(r, now_ns) && program_of(s, pid) == r->inode) ||
	    target__open(&t, pid, &s->opener, NULL)) {
		relative__postpone(r, now_ns);
		return 0;
	}
	took = is_news(s, r, t) ? ask(s, t, &why) : 0;
	if (took <= 0)
		target__free(t);
	else
		err = admit(s, s->member[s->members - 1], now_ns, on, &why);
	if (error__is_set(&why))
		service__refuse(s, pid, &why);
	if (!err)
		err = tell_refused(s, on);
	if (!err && took > 0 && s->member[s->members - 1]->failed)
		err = drop(s, s->members - 1, now_ns, on);
	return err;
}

static void list_processes(struct service *s, uint64_t now_ns)
{
	struct kin kin[BROKER_KIN_MAX];
	int count = broker_client__kin(s->broker, kin);
	uint64_t took_ns = stream__now_ns() - now_ns;

	if (count > 0)
		family__update(&s->family, kin, (size_t)count, now_ns);
	s->next_look_ns = now_ns + SECOND_NS + took_ns * LOOK_SHARE;
	for (size_t i = 0; i < s->members; i++)
		if (s->member[i]->pid != s->pid && became_another(s, s->member[i]))
			s->member[i]->gone = true;
}

int service__look(struct service *s, uint64_t now_ns, const struct service_events *on)
{
	struct relative *r;

	if (now_ns >= s->next_look_ns)
		list_processes(s, now_ns);
	/* One at a time: events wait in the ring meanwhile. */
	r = s->ops->join ? family__due(&s->family, now_ns) : NULL;
	return r ? ask_again(s, r, now_ns, on) : 0;
}
