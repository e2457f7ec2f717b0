/* SPDX-License-Identifier: BSD-2-Clause */
#include "collector/family.h"

#include <stdlib.h>
#include <string.h>

#define MS 1000000ull
#define SETTLE_NS (120000 * MS)
#define SELDOM_NS (30000 * MS) /* between two looks at what a settled one has mapped */

/* Between two questions. */
static const uint64_t waits[] = { 100 * MS, 200 * MS, 500 * MS, 1000 * MS, 2000 * MS, 5000 * MS };
#define WAITS (sizeof(waits) / sizeof(*waits))

struct relative *family__find(struct family *f, pid_t pid)
{
	for (size_t i = 0; i < f->count; i++)
		if (f->relative[i].pid == pid)
			return &f->relative[i];
	return NULL;
}

/* Members stay until they are seen to end: who lost its parent is nobody's descendant, and goes on
 * all the same. */
static void forget(struct family *f)
{
	size_t kept = 0;

	for (size_t i = 0; i < f->count; i++) {
		if (f->relative[i].there || f->relative[i].member)
			f->relative[kept++] = f->relative[i];
		else
			free(f->relative[i].why);
	}
	f->count = kept;
}

void family__update(struct family *f, const struct kin *kin, size_t count, uint64_t now_ns)
{
	for (size_t i = 0; i < f->count; i++)
		f->relative[i].there = false;
	for (size_t i = 0; i < count; i++) {
		struct relative *r = family__find(f, kin[i].pid);

		if (r)
			r->there = true;
	}
	forget(f);
	for (size_t i = 0; i < count && f->count < BROKER_KIN_MAX; i++)
		if (!family__find(f, kin[i].pid))
			f->relative[f->count++] = (struct relative){
				.pid = kin[i].pid,
				.there = true,
				.since_ns = now_ns,
				.next_ns = now_ns,
			};
}

void family__free(struct family *f)
{
	for (size_t i = 0; i < f->count; i++)
		free(f->relative[i].why);
	memset(f, 0, sizeof(*f));
}

struct relative *family__due(struct family *f, uint64_t now_ns)
{
	for (size_t i = 0; i < f->count; i++) {
		struct relative *r = &f->relative[i];

		if (!r->member && r->there && r->next_ns <= now_ns)
			return r;
	}
	return NULL;
}

bool relative__is_settled(const struct relative *r, uint64_t now_ns)
{
	return r->start_ticks && now_ns - r->since_ns >= SETTLE_NS &&
	       now_ns - r->asked_ns < SELDOM_NS;
}

void relative__renew(struct relative *r, uint64_t now_ns)
{
	free(r->why);
	*r = (struct relative){
		.pid = r->pid, .there = r->there, .since_ns = now_ns, .next_ns = now_ns
	};
}

void relative__postpone(struct relative *r, uint64_t now_ns)
{
	r->next_ns = now_ns + waits[r->asked < WAITS ? r->asked : WAITS - 1];
	r->asked++;
}

bool relative__ask(struct relative *r, uint64_t start_ticks, uint64_t inode, size_t libraries,
		   uint64_t now_ns)
{
	bool first = !r->start_ticks;
	bool other = !first && (r->start_ticks != start_ticks || r->inode != inode);
	bool grown = libraries > r->libraries;

	if (other)
		relative__renew(r, now_ns);
	r->start_ticks = start_ticks;
	r->inode = inode;
	r->libraries = libraries;
	r->asked_ns = now_ns;
	if (grown)
		r->since_ns = now_ns;
	relative__postpone(r, now_ns);
	return first || other || grown;
}
