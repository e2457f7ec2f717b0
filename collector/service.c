/* SPDX-License-Identifier: BSD-2-Clause */
#include "collector/service.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "collector/broker_client.h"
#include "collector/service_internal.h"
#include "collector/stream.h"
#include "probe/base/error.h"
#include "probe/engine/sink.h"
#include "probe/target/target.h"

#define TABLE_BYTES (MP_SITES * sizeof(struct mp_site))

/* --- rows ----------------------------------------------------------------------------------- */

/* The lowest block of @count rows that are nobody's and have rested. */
static bool find_rows(const struct service *s, size_t count, uint64_t now_ns, uint32_t *first)
{
	size_t free = 0;

	for (uint32_t i = 0; i < MP_SITES; i++) {
		bool rested = !s->free_ns[i] || now_ns - s->free_ns[i] >= ROWS_REST_NS;

		free = !s->owner[i] && rested ? free + 1 : 0;
		*first = i + 1 - (uint32_t)count;
		if (free >= count)
			return true;
	}
	return !count;
}

int service__take_rows(struct service *s, struct member *m, uint64_t now_ns, struct error *e)
{
	if (m->plan.sites > ENGINE_SITES_MAX)
		return error__set(e, EXIT_FAILED, EINVAL, NULL,
				  "collector: %s plans too many sites", s->ops->name);
	if (!find_rows(s, m->plan.sites, now_ns, &m->first))
		return error__set(e, EXIT_FAILED, ENOSPC, NULL,
				  "collector: failed to probe process %d: all %d places of a "
				  "capture are taken",
				  (int)m->pid, MP_SITES);
	if (!m->plan.sites)
		m->first = 0;
	for (uint32_t i = m->first; i < m->first + m->plan.sites; i++)
		s->owner[i] = m->process;
	if (m->first + m->plan.sites > s->rows)
		s->rows = m->first + (uint32_t)m->plan.sites;
	if (s->table)
		service__write_rows(s, m);
	return 0;
}

void service__write_rows(struct service *s, struct member *m)
{
	member__rows(m, s->table + m->first);
	if (s->ops->table)
		s->ops->table(s->engine, m->pid, s->table + m->first);
}

void service__free_rows(struct service *s, const struct member *m, uint64_t now_ns)
{
	for (uint32_t i = 0; i < MP_SITES; i++) {
		if (!m->process || s->owner[i] != m->process)
			continue;
		s->owner[i] = 0;
		s->free_ns[i] = now_ns;
	}
}

/* --- members -------------------------------------------------------------------------------- */

struct member *service__add_member(struct service *s, struct target *t)
{
	struct member *m = member__new(t);
	struct relative *r = family__find(&s->family, target__info(t)->pid);

	if (!m)
		return NULL;
	m->process = ++s->processes;
	s->member[s->members++] = m;
	if (r)
		r->member = true;
	return m;
}

void service__remove_member(struct service *s, size_t at, uint64_t now_ns)
{
	struct member *m = s->member[at];
	struct relative *r = family__find(&s->family, m->pid);

	service__free_rows(s, m, now_ns);
	if (r)
		r->member = false;
	if (r && !m->failed) /* else it is asked again when something has changed */
		relative__renew(r, now_ns);
	s->members--;
	memmove(&s->member[at], &s->member[at + 1], (s->members - at) * sizeof(*s->member));
	if (m->target == s->target)
		m->target = NULL;
	member__free(m);
}

/* --- loading and linking -------------------------------------------------------------------- */

int service__load(struct service *s, uint32_t ring_bytes, struct error *e)
{
	int fds[BROKER_FDS_MAX], err;
	void *table;

	err = broker_client__load(s->broker, ring_bytes, fds, e);
	if (err)
		return err;
	s->ring_fd = fds[BROKER_FD_RING];
	s->counters_fd = fds[BROKER_FD_COUNTERS];
	table = mmap(NULL, TABLE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fds[BROKER_FD_SITES],
		     0);
	err = errno;
	close(fds[BROKER_FD_SITES]);
	if (table == MAP_FAILED)
		return error__set(e, EXIT_UNSUPPORTED, err, NULL,
				  "collector: failed to map the site table: %s", strerror(err));
	s->table = table;
	for (size_t i = 0; i < s->members; i++)
		service__write_rows(s, s->member[i]);
	return 0;
}

/* Links go one after another, which takes tens of milliseconds; then all probes speak at one
 * moment. What says whose rows they are comes before the rows, and these before the router's
 * results. */
int service__link(struct service *s, struct error *e)
{
	struct error why = { 0 };
	int err;

	for (size_t i = 0; i < s->members; i++) {
		struct member *m = s->member[i];

		error__clear(&why);
		err = member__link(m, s->broker, &why);
		if (!err)
			continue;
		if (m->process == SERVICE_FIRST_PROCESS || err == -EPIPE) {
			if (e && !error__is_set(e))
				*e = why;
			return err;
		}
		/* Dropped by service__begin(): whatever is taken away now freezes the places. */
		m->gone = m->failed = true;
		service__refuse(s, m->pid, &why);
	}
	for (uint32_t purpose = MP_PURPOSES; purpose-- > 0;)
		for (size_t i = 0; i < s->members; i++)
			if (!s->member[i]->gone)
				member__enable(s->member[i], s->table, purpose, true);
	s->attached_ns = stream__now_ns();
	return 0;
}

int service__calibrate(const struct service *s)
{
	enum mp_program router = MP_PROGRAM_ROUTE;
	uint32_t threads = 1;

	for (size_t i = 0; i < s->members; i++) {
		const struct engine_plan *p = &s->member[i]->plan;

		if (p->threads != ENGINE_UNKNOWN && p->threads > threads)
			threads = p->threads;
		for (size_t j = 0; j < p->sites; j++)
			if (p->site[j].row.program == MP_PROGRAM_TENSORS)
				router = MP_PROGRAM_TENSORS;
	}
	return broker_client__calibrate(s->broker, router, threads);
}

/* All fall silent at one moment too, or results would arrive whose rows no probe describes any
 * more. The router first: a step without its results is accounted for, results without their step
 * are a loss. */
int service__unlink(struct service *s)
{
	for (uint32_t purpose = 0; s->table && purpose < MP_PURPOSES; purpose++)
		for (size_t i = 0; i < s->members; i++)
			member__enable(s->member[i], s->table, purpose, false);
	for (size_t i = 0; i < s->members; i++)
		for (size_t j = 0; j < ENGINE_SITES_MAX; j++)
			s->member[i]->site[j].linked = false;
	return broker_client__unlink(s->broker, 0);
}

void service__close(struct service *s)
{
	if (s->ops)
		s->ops->free(s->engine);
	for (size_t i = 0; i < s->members; i++) {
		if (s->member[i]->target == s->target)
			s->member[i]->target = NULL;
		member__free(s->member[i]);
	}
	target__free(s->target);
	family__free(&s->family);
	if (s->table)
		munmap(s->table, TABLE_BYTES);
	if (s->broker && s->ring_fd >= 0)
		close(s->ring_fd);
	if (s->broker && s->counters_fd >= 0)
		close(s->counters_fd);
	memset(s, 0, sizeof(*s));
}
