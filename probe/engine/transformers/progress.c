/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/engine/transformers/progress.h"

static bool is_thread(const struct progress *p, const struct aten_step *s)
{
	return p->context && p->tgid == s->tgid && p->tid == s->tid;
}

void transformers_progress__unsaid(struct progress *all, const struct aten_step *s)
{
	for (uint32_t i = 0; i < PROGRESS_MAX; i++)
		if (is_thread(&all[i], s) && s->key && all[i].key != s->key)
			all[i].others++;
}

/* That of @s, or the one that was not needed for longest. */
static struct progress *progress__get(struct progress *all, const struct aten_step *s,
				      uint32_t context)
{
	struct progress *p = &all[0];

	for (uint32_t i = 0; i < PROGRESS_MAX; i++) {
		if (is_thread(&all[i], s) && all[i].context == context)
			return &all[i];
		if (all[i].number < p->number)
			p = &all[i];
	}
	*p = (struct progress){ .tgid = s->tgid, .tid = s->tid, .context = context };
	return p;
}

struct standing transformers_progress__step(struct progress *all, const struct aten_step *s,
					    uint32_t context, uint64_t number)
{
	struct progress *p = progress__get(all, s, context);
	struct standing out = { .seen = p->steps, .previous = p->number };
	uint64_t expected = (uint64_t)p->computation + p->others + 1;

	if (p->steps && s->computation > expected)
		out.lost = (uint32_t)(s->computation - expected);
	for (uint32_t i = 0; i < PROGRESS_MAX; i++)
		if (is_thread(&all[i], s) && &all[i] != p)
			all[i].others++;
	p->key = s->key;
	p->computation = s->computation;
	p->others = 0;
	p->steps++;
	p->number = number;
	return out;
}
