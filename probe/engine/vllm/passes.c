/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/engine/vllm/passes.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "probe/engine/vllm/batches_internal.h"

#define PASSES 64     /* under way, or so lately that a stage may not have shown it */
#define STAGES_MAX 16 /* more than that show steps of a batch that nobody knows */

struct pass {
	uint64_t number; /* 0: free */
	uint32_t home;
	uint32_t shown[STAGES_MAX]; /* contexts that did */
	uint32_t stages;
	uint32_t runs, capacity;
	struct run *run;
};

struct vllm_passes {
	uint64_t said; /* numbers given */
	struct pass item[PASSES];
	bool *taken; /* scratch, one a run */
	uint32_t capacity;
};

int vllm_passes__new(struct vllm_passes **out)
{
	*out = calloc(1, sizeof(**out));
	return *out ? 0 : -ENOMEM;
}

void vllm_passes__free(struct vllm_passes *p)
{
	if (!p)
		return;
	for (uint32_t i = 0; i < PASSES; i++)
		free(p->item[i].run);
	free(p->taken);
	free(p);
}

static bool is_same(const struct run *a, const struct run *b)
{
	return a->position == b->position && a->rows == b->rows &&
	       (a->slot < 0 || b->slot < 0 ||
		(a->slot == b->slot && a->last_slot == b->last_slot)) &&
	       (!a->tokens || !b->tokens || a->tokens == b->tokens);
}

/* Where in @pass run @r is, which is number @i of its own step; its number of runs: nowhere. */
static uint32_t find_run(const struct vllm_passes *p, const struct pass *pass, const struct run *r,
			 uint32_t i)
{
	if (!p->taken[i] && is_same(&pass->run[i], r))
		return i; /* the order seldom differs */
	for (i = 0; i < pass->runs; i++)
		if (!p->taken[i] && is_same(&pass->run[i], r))
			break;
	return i;
}

/* True if the @pass has these runs, and no others: then each has its owner. */
static bool pass__fits(struct vllm_passes *p, const struct pass *pass, struct run *run)
{
	memset(p->taken, 0, pass->runs * sizeof(*p->taken));
	for (uint32_t i = 0; i < pass->runs; i++) {
		uint32_t at = find_run(p, pass, &run[i], i);

		if (at == pass->runs)
			return false;
		p->taken[at] = true;
		run[i].owner = pass->run[at].owner;
	}
	return true;
}

static bool pass__has(const struct pass *pass, uint32_t context)
{
	for (uint32_t i = 0; i < pass->stages; i++)
		if (pass->shown[i] == context)
			return true;
	return false;
}

/* Oldest first: a pipeline computes in order. */
uint64_t vllm_passes__join(struct vllm_passes *p, uint32_t home, uint32_t context, struct run *run,
			   uint32_t runs)
{
	for (uint64_t i = 0; i < PASSES; i++) {
		struct pass *pass = &p->item[(p->said + i) % PASSES];

		if (!pass->number || pass->home != home || pass->runs != runs ||
		    pass->stages == STAGES_MAX || pass__has(pass, context) ||
		    !pass__fits(p, pass, run))
			continue;
		pass->shown[pass->stages++] = context;
		return pass->number;
	}
	return 0;
}

static int reserve(struct vllm_passes *p, struct pass *pass, uint32_t runs)
{
	struct run *more;
	bool *taken;

	if (runs > p->capacity) {
		taken = realloc(p->taken, runs * sizeof(*taken));
		if (!taken)
			return -ENOMEM;
		p->taken = taken;
		p->capacity = runs;
	}
	if (runs <= pass->capacity)
		return 0;
	more = realloc(pass->run, runs * sizeof(*more));
	if (!more)
		return -ENOMEM;
	pass->run = more;
	pass->capacity = runs;
	return 0;
}

int vllm_passes__add(struct vllm_passes *p, uint32_t home, uint32_t context, const struct run *run,
		     uint32_t runs, uint64_t *number)
{
	struct pass *pass = &p->item[p->said % PASSES];
	int err = reserve(p, pass, runs);

	pass->number = 0;
	if (err)
		return err;
	memcpy(pass->run, run, runs * sizeof(*run));
	pass->runs = runs;
	pass->home = home;
	pass->shown[0] = context;
	pass->stages = 1;
	*number = pass->number = ++p->said;
	return 0;
}
