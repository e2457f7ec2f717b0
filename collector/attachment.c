/* SPDX-License-Identifier: BSD-2-Clause */
#include "collector/attachment.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "collector/broker_client.h"
#include "collector/stream.h"
#include "probe/base/error.h"
#include "probe/target/target.h"

#define TABLE_BYTES (MP_SITES * sizeof(struct mp_site))

int attachment__open(struct attachment *a, struct broker_client *broker, pid_t pid, struct error *e)
{
	int err;

	memset(a, 0, sizeof(*a));
	a->ring_fd = a->counters_fd = -1;
	a->broker = broker;
	a->opener = broker_client__opener(broker);
	err = target__open(&a->target, pid, &a->opener, e);
	if (!err)
		err = engine__find(&a->ops, a->target, e);
	if (!err)
		err = a->ops->open(&a->engine, a->target, &a->plan, e);
	if (err)
		return error__set(e, EXIT_FAILED, -err, NULL,
				  "collector: failed to look at process %d: %s", (int)pid,
				  strerror(-err));
	if (a->plan.sites > ENGINE_SITES_MAX || a->plan.sites > MP_SITES)
		return error__set(e, EXIT_FAILED, EINVAL, NULL,
				  "collector: %s plans too many sites", a->ops->name);
	return 0;
}

size_t attachment__rows(const struct attachment *a, struct mp_site *rows)
{
	for (size_t i = 0; i < a->plan.sites; i++) {
		rows[i] = a->plan.site[i].row;
		rows[i].tgid = (uint32_t)target__info(a->target)->pid;
		rows[i].enabled = 1;
	}
	return a->plan.sites;
}

int attachment__load(struct attachment *a, uint32_t ring_bytes, struct error *e)
{
	int fds[BROKER_FDS_MAX], err;
	void *table;

	err = broker_client__load(a->broker, ring_bytes, fds, e);
	if (err)
		return err;
	a->ring_fd = fds[BROKER_FD_RING];
	a->counters_fd = fds[BROKER_FD_COUNTERS];
	table = mmap(NULL, TABLE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fds[BROKER_FD_SITES],
		     0);
	err = errno;
	close(fds[BROKER_FD_SITES]);
	if (table == MAP_FAILED)
		return error__set(e, EXIT_UNSUPPORTED, err, NULL,
				  "collector: failed to map the site table: %s", strerror(err));
	a->table = table;
	attachment__rows(a, a->table);
	for (size_t i = 0; i < a->plan.sites; i++)
		a->table[i].enabled = 0; /* until all are linked */
	if (a->ops->table)
		a->ops->table(a->engine, target__info(a->target)->pid, a->table);
	return 0;
}

/* Places of one program in one file go into one link. */
static int same_group(const struct engine_site *a, const struct engine_site *b)
{
	return a->row.program == b->row.program && a->library->inode == b->library->inode &&
	       a->library->device == b->library->device && !a->required == !b->required;
}

static int link_group(struct attachment *a, size_t first, struct error *e)
{
	const struct engine_site *lead = &a->plan.site[first];
	struct broker_places places = {
		.pid = target__info(a->target)->pid,
		.start = lead->library->start,
		.end = lead->library->end,
		.program = lead->row.program,
	};
	struct error why = { 0 };
	uint32_t link;
	int err;

	for (size_t i = first; i < a->plan.sites; i++) {
		if (!same_group(lead, &a->plan.site[i]))
			continue;
		places.offset[places.count] = a->plan.site[i].place.file_offset;
		places.cookie[places.count++] = i;
	}
	err = broker_client__link(a->broker, &places, &link, &why);
	for (size_t i = first; i < a->plan.sites; i++) {
		if (!same_group(lead, &a->plan.site[i]))
			continue;
		a->site[i].linked = !err;
		memcpy(a->site[i].reason, why.what, sizeof(why.what));
	}
	if (!err || (!lead->required && err != -EPIPE && why.exit != EXIT_NO_TARGET))
		return 0;
	if (e && !error__is_set(e))
		*e = why;
	return err;
}

static void set_enabled(struct attachment *a, enum mp_purpose purpose, uint32_t enabled)
{
	for (size_t i = 0; i < a->plan.sites; i++)
		if (mp_site__purpose(&a->plan.site[i].row) == purpose &&
		    (a->site[i].linked || !enabled))
			__atomic_store_n(&a->table[i].enabled, enabled, __ATOMIC_SEQ_CST);
}

/* Links go one after another, which takes tens of milliseconds; then all probes speak at one
 * moment. What says whose rows they are comes before the rows, and these before the router's
 * results. */
int attachment__link(struct attachment *a, struct error *e)
{
	int err = 0;

	for (size_t i = 0; i < a->plan.sites && !err; i++)
		if (!a->site[i].linked && !a->site[i].reason[0])
			err = link_group(a, i, e);
	for (uint32_t purpose = MP_PURPOSES; purpose-- > 0 && !err;)
		set_enabled(a, purpose, 1);
	a->attached_ns = stream__now_ns();
	return err;
}

/* All fall silent at one moment too, or results would arrive whose rows no probe describes any
 * more. The router first: a step without its results is accounted for, results without their step
 * are a loss. */
static void silence(struct attachment *a)
{
	for (uint32_t purpose = 0; purpose < MP_PURPOSES; purpose++)
		set_enabled(a, purpose, 0);
}

int attachment__unlink(struct attachment *a)
{
	if (a->table)
		silence(a);
	for (size_t i = 0; i < ENGINE_SITES_MAX; i++)
		a->site[i].linked = 0;
	return broker_client__unlink(a->broker, BROKER_ALL_LINKS);
}

void attachment__close(struct attachment *a)
{
	if (a->ops)
		a->ops->free(a->engine);
	target__free(a->target);
	if (a->table)
		munmap(a->table, TABLE_BYTES);
	if (a->broker && a->ring_fd >= 0)
		close(a->ring_fd);
	if (a->broker && a->counters_fd >= 0)
		close(a->counters_fd);
	memset(a, 0, sizeof(*a));
}
