/* SPDX-License-Identifier: BSD-2-Clause */
#include "collector/member.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "collector/broker_client.h"
#include "probe/base/error.h"
#include "probe/target/target.h"

struct member *member__new(struct target *target)
{
	struct member *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	m->target = target;
	m->pid = target__info(target)->pid;
	m->pidfd = (int)syscall(SYS_pidfd_open, m->pid, 0);
	m->gone = m->pidfd < 0 && errno == ESRCH;
	return m;
}

void member__free(struct member *m)
{
	if (!m)
		return;
	target__free(m->target);
	if (m->pidfd >= 0)
		close(m->pidfd);
	free(m);
}

void member__rows(const struct member *m, struct mp_site *rows)
{
	for (size_t i = 0; i < m->plan.sites; i++) {
		rows[i] = m->plan.site[i].row;
		rows[i].tgid = (uint32_t)m->pid;
		rows[i].enabled = 0;
	}
}

/* Places of one program in one file go into one link. */
static bool same_group(const struct engine_site *a, const struct engine_site *b)
{
	return a->row.program == b->row.program && a->library->inode == b->library->inode &&
	       a->library->device == b->library->device && !a->required == !b->required;
}

static int link_group(struct member *m, struct broker_client *broker, size_t first, struct error *e)
{
	const struct engine_site *lead = &m->plan.site[first];
	struct broker_places places = {
		.pid = m->pid,
		.start = lead->library->start,
		.end = lead->library->end,
		.program = lead->row.program,
	};
	struct error why = { 0 };
	int err;

	for (size_t i = first; i < m->plan.sites; i++) {
		if (!same_group(lead, &m->plan.site[i]))
			continue;
		places.offset[places.count] = m->plan.site[i].place.file_offset;
		places.cookie[places.count++] = m->first + i;
	}
	err = broker_client__link(broker, &places, &why);
	for (size_t i = first; i < m->plan.sites; i++) {
		if (!same_group(lead, &m->plan.site[i]))
			continue;
		m->site[i].linked = !err;
		memcpy(m->site[i].reason, why.what, sizeof(why.what));
	}
	if (!err || (!lead->required && err != -EPIPE && why.exit != EXIT_NO_TARGET))
		return 0;
	if (e && !error__is_set(e))
		*e = why;
	return err;
}

int member__link(struct member *m, struct broker_client *broker, struct error *e)
{
	int err = 0;

	for (size_t i = 0; i < m->plan.sites && !err; i++)
		if (!m->site[i].linked && !m->site[i].reason[0])
			err = link_group(m, broker, i, e);
	return err;
}

void member__enable(struct member *m, struct mp_site *table, enum mp_purpose purpose, bool on)
{
	for (size_t i = 0; i < m->plan.sites; i++)
		if (mp_site__purpose(&m->plan.site[i].row) == purpose && (m->site[i].linked || !on))
			__atomic_store_n(&table[m->first + i].enabled, on, __ATOMIC_SEQ_CST);
}
