/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/attach/calibrate.h"

#include <errno.h>
#include <link.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "probe/abi/site.h"
#include "probe/attach/arch.h"
#include "probe/base/error.h"

/* Rounds of a difference: so many must agree, and so many are tried for that. */
#define ROUNDS_ALIKE 3
#define ROUNDS_MAX 8
/* They agree when they differ by at most this part of the median of all. */
#define ALIKE 0.25

_Static_assert((int)CALIBRATE_EMULATED == (int)SITE_EMULATED &&
		       (int)CALIBRATE_STEPPED == (int)SITE_STEPPED,
	       "a class is measured by the call of its number");

/* Where a function of ours is. */
struct place {
	uint64_t address;    /* in this process, and so in a fork of it */
	uint64_t offset;     /* in the file; 0: not found */
	uint64_t start, end; /* the mapping, whole pages */
	size_t first_bytes;  /* length of the first instruction */
};

/* Our program is the first object listed; its segments say where an address is in the file. */
static int find_offset(struct dl_phdr_info *info, size_t size, void *arg)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	struct place *p = arg;

	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *h = &info->dlpi_phdr[i];
		uint64_t start = info->dlpi_addr + h->p_vaddr;

		if (h->p_type != PT_LOAD || p->address < start || p->address - start >= h->p_filesz)
			continue;
		p->offset = p->address - start + h->p_offset;
		p->start = start & ~(page - 1);
		p->end = (start + h->p_filesz + page - 1) & ~(page - 1);
	}
	return 1; /* no further object */
}

/* The function of @call in our executable, verified to be what the call says. */
static int find_place(struct place *p, enum calibrate_call call)
{
	const bool stepped = call == CALIBRATE_STEPPED || call == CALIBRATE_STEPPED_TWIN;
	const struct arch_ops *arch = arch__own();
	uint32_t kernel = arch__running_kernel();
	struct arch_instruction in;
	bool emulated;

	*p = (struct place){ .address = (uint64_t)(uintptr_t)calibrate_child__function(call) };
	if (!arch || !p->address ||
	    arch->decode(&in, (const uint8_t *)(uintptr_t)p->address, CALIBRATE_CODE_BYTES,
			 p->address))
		return -ENOTSUP;
	p->first_bytes = in.length;
	emulated = in.emulated_since && kernel >= in.emulated_since;
	dl_iterate_phdr(find_offset, p);
	return emulated != stepped && p->offset ? 0 : -ENOTSUP;
}

static enum calibrate_call twin_of(enum site_class class)
{
	return class == SITE_EMULATED ? CALIBRATE_EMULATED_TWIN : CALIBRATE_STEPPED_TWIN;
}

/* The function of @class, verified to have a twin. */
static int find_pair(struct place *p, enum site_class class)
{
	const enum calibrate_call call = (int)class;
	struct place twin;
	int err = find_place(p, call);

	if (!err)
		err = find_place(&twin, twin_of(class));
	if (err)
		return err;
	return twin.address != p->address && twin.first_bytes == p->first_bytes &&
			       !memcmp((const void *)(uintptr_t)twin.address,
				       (const void *)(uintptr_t)p->address, p->first_bytes)
		       ? 0
		       : -ENOTSUP;
}

static struct calibrate_target target_of(const struct calibrate_child *c, const struct place *p,
					 const uint64_t *offsets, size_t count)
{
	return (struct calibrate_target){
		.pid = c->pid,
		.start = p->start,
		.end = p->end,
		.offsets = offsets,
		.count = count,
	};
}

/* A calibration under way. */
struct run {
	struct calibrate_child child;
	const struct calibrate_ops *ops;
	unsigned threads;
};

static int by_value(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(const double *sorted, size_t n)
{
	return (sorted[(n - 1) / 2] + sorted[n / 2]) / 2;
}

/* Whether ROUNDS_ALIKE of the rounds agree. */
static bool agree(const double *sorted, size_t n)
{
	const size_t more = ROUNDS_ALIKE - 1;

	for (size_t i = 0; i + more < n; i++)
		if (sorted[i + more] - sorted[i] <= ALIKE * median(sorted, n))
			return true;
	return false;
}

/*
 * How much longer a call of @thing takes than one of @base, in whole ns: the median of the rounds.
 * 0: not longer, so not known. A round counts if it delivered @captures, and goes on until some
 * agree: a disturbance may last for a whole round.
 */
static int measure(const struct run *r, uint64_t *out, enum calibrate_call thing,
		   enum calibrate_call base, size_t captures)
{
	double ns[ROUNDS_MAX];
	size_t n = 0;
	int err;

	*out = 0;
	for (int i = 0; i < ROUNDS_MAX && !agree(ns, n); i++) {
		err = calibrate_child__round(&r->child, thing, base, r->threads, &ns[n]);
		if (err)
			return err;
		if (r->ops->drain && r->ops->drain(r->ops->ctx) != captures)
			continue;
		n++;
		qsort(ns, n, sizeof(ns[0]), by_value);
	}
	if (n >= ROUNDS_ALIKE && median(ns, n) > 0)
		*out = (uint64_t)(median(ns, n) + 0.5);
	return 0;
}

static int measure_hits(const struct run *r, struct hit_costs *out, struct error *e)
{
	int err = 0, changed;

	for (int i = 0; i < SITE_CLASSES && !err; i++) {
		changed = calibrate_child__changed(&r->child, (enum calibrate_call)i);
		if (changed < 0)
			return changed;
		if (!changed)
			return error__set(e, EXIT_FAILED, ENODATA, NULL,
					  "calibrate: failed to measure a hit: the probe on our "
					  "own process does not fire");
		err = measure(r, &out->hit[i], (enum calibrate_call)i, twin_of((enum site_class)i),
			      0);
	}
	return err;
}

static int link_router(const struct run *r)
{
	struct calibrate_target target;
	struct mp_site site;
	struct place p;

	if (!r->ops->link_router || find_place(&p, CALIBRATE_ROUTER))
		return -ENOTSUP;
	target = target_of(&r->child, &p, &p.offset, 1);
	calibrate_child__describe(&site, r->child.router);
	return r->ops->link_router(r->ops->ctx, &target, &site);
}

/* What the router's program takes on top of a hit. That it cannot be measured is no error. */
static int measure_router(const struct run *r, struct hit_costs *out)
{
	const size_t calls = CALIBRATE_ROUND_PAIRS;
	uint64_t rows;
	int err;

	if (link_router(r) || calibrate_child__changed(&r->child, CALIBRATE_ROUTER) != 1)
		return 0;
	err = measure(r, &out->capture, CALIBRATE_ROUTER, CALIBRATE_EMULATED, calls);
	/* What did not happen is not known: it is not free. */
	if (err || !out->capture)
		return err;
	out->row_bytes = calibrate_child__row_bytes(r->child.router);
	err = measure(r, &out->away, CALIBRATE_ROUTER_AWAY, CALIBRATE_EMULATED, 0);
	if (!err)
		err = measure(r, &rows, CALIBRATE_ROUTER_ROWS, CALIBRATE_ROUTER, 2 * calls);
	if (!err)
		out->row = (rows + (CALIBRATE_ROWS - 1) / 2) / (CALIBRATE_ROWS - 1);
	return err;
}

static int run_with_child(struct hit_costs *out, struct run *r, struct error *e)
{
	struct calibrate_target target;
	uint64_t offsets[SITE_CLASSES];
	struct hit_costs found = { 0 };
	struct place p = { 0 };
	int err = 0;

	for (int i = 0; i < SITE_CLASSES && !err; i++) {
		err = find_pair(&p, (enum site_class)i);
		offsets[i] = p.offset;
	}
	target = target_of(&r->child, &p, offsets, SITE_CLASSES);
	if (!err)
		err = r->ops->link(r->ops->ctx, &target, e);
	if (err)
		return err;
	err = measure_hits(r, &found, e);
	if (!err)
		err = measure_router(r, &found);
	r->ops->unlink(r->ops->ctx);
	if (!err)
		*out = found;
	return err;
}

int calibrate__run(struct hit_costs *out, enum mp_program router, unsigned threads,
		   const struct calibrate_ops *ops, struct error *e)
{
	struct run r = { .ops = ops, .threads = threads < 1 ? 1 : threads };
	int err;

	memset(out, 0, sizeof(*out));
	if (r.threads > CALIBRATE_THREADS_MAX)
		r.threads = CALIBRATE_THREADS_MAX;
	if (router == MP_PROGRAM_TENSORS)
		r.threads = 1;
	err = calibrate_child__start(&r.child, router);
	if (!err)
		err = run_with_child(out, &r, e);
	calibrate_child__end(&r.child);
	if (err)
		return error__set(e, EXIT_FAILED, -err, NULL,
				  "calibrate: failed to measure a hit: %s", strerror(-err));
	return 0;
}
