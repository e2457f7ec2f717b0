/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/attach/calibrate.h"

#include <errno.h>
#include <link.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "probe/abi/site.h"
#include "probe/attach/arch.h"
#include "probe/base/error.h"

/* The fastest counts: a disturbance only ever adds. */
#define ROUNDS 3
/* Less is no trap: the probe did not fire. A function call takes 2 ns. */
#define HIT_NS_MIN 50.0
/* Readable behind a function's beginning, more than its first instruction. */
#define SAMPLE_BYTES 8

_Static_assert((int)CALIBRATE_EMULATED == (int)SITE_EMULATED &&
		       (int)CALIBRATE_STEPPED == (int)SITE_STEPPED,
	       "a class is measured by the call of its number");

/* Where a function of ours is. */
struct place {
	uint64_t address;    /* in this process, and so in a fork of it */
	uint64_t offset;     /* in the file; 0: not found */
	uint64_t start, end; /* the mapping, whole pages */
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
	const struct arch_ops *arch = arch__own();
	uint32_t kernel = arch__running_kernel();
	struct arch_instruction in;
	bool emulated;

	*p = (struct place){ .address = (uint64_t)(uintptr_t)calibrate_child__function(call) };
	if (!arch || !p->address ||
	    arch->decode(&in, (const uint8_t *)(uintptr_t)p->address, SAMPLE_BYTES, p->address))
		return -ENOTSUP;
	emulated = in.emulated_since && kernel >= in.emulated_since;
	dl_iterate_phdr(find_offset, p);
	return emulated == (call != CALIBRATE_STEPPED) && p->offset ? 0 : -ENOTSUP;
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
	double without[SITE_CLASSES];
};

/* The fastest of some rounds, in ns a call; @captures: how many the program delivered, if asked. */
static int measure(const struct run *r, enum calibrate_call call, double *fastest, size_t *captures)
{
	double ns;
	int err = 0, i;

	*fastest = -1;
	for (i = 0; i < ROUNDS && !err; i++) {
		err = calibrate_child__round(&r->child, call, r->threads, &ns);
		if (!err && (*fastest < 0 || ns < *fastest))
			*fastest = ns;
		if (captures)
			*captures += r->ops->drain(r->ops->ctx);
	}
	return err;
}

static uint64_t whole(double ns)
{
	return (uint64_t)(ns + 0.5);
}

static int measure_hits(const struct run *r, struct hit_costs *out, struct error *e)
{
	double with;
	int err;

	for (int i = 0; i < SITE_CLASSES; i++) {
		err = measure(r, (enum calibrate_call)i, &with, NULL);
		if (err)
			return err;
		if (with - r->without[i] < HIT_NS_MIN)
			return error__set(e, EXIT_FAILED, ENODATA, NULL,
					  "calibrate: failed to measure a hit: the probe on our "
					  "own process does not fire");
		out->hit[i] = whole(with - r->without[i]);
	}
	return 0;
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
	const size_t calls = ROUNDS * CALIBRATE_ROUND_CALLS;
	size_t captures = 0, captures_of_all = 0, captures_away = 0;
	double one, all, away, hit;
	int err;

	if (link_router(r))
		return 0;
	err = measure(r, CALIBRATE_ROUTER, &one, &captures);
	if (!err)
		err = measure(r, CALIBRATE_ROUTER_ROWS, &all, &captures_of_all);
	if (!err)
		err = measure(r, CALIBRATE_ROUTER_AWAY, &away, &captures_away);
	/* Once more, before and after what it is compared with: a machine that was busy with
	 * something else meanwhile would make a capture look free. */
	if (!err)
		err = measure(r, CALIBRATE_EMULATED, &hit, NULL);
	if (err)
		return err;
	hit -= r->without[SITE_EMULATED];
	if (hit >= HIT_NS_MIN && whole(hit) < out->hit[SITE_EMULATED])
		out->hit[SITE_EMULATED] = whole(hit);
	hit = (double)out->hit[SITE_EMULATED] + r->without[SITE_EMULATED];
	/* What did not happen, or drowned in noise, is not known: it is not free. */
	if (captures != calls || one - hit < HIT_NS_MIN)
		return 0;
	out->capture = whole(one - hit);
	out->away = !captures_away && away > hit ? whole(away - hit) : 0;
	out->row_bytes = calibrate_child__row_bytes(r->child.router);
	if (captures_of_all == calls && all - one >= CALIBRATE_ROWS)
		out->row = whole((all - one) / (CALIBRATE_ROWS - 1));
	return 0;
}

static int run_with_child(struct hit_costs *out, struct run *r, struct error *e)
{
	struct calibrate_target target;
	uint64_t offsets[SITE_CLASSES];
	struct hit_costs found = { 0 };
	struct place p = { 0 };
	int err = 0;

	for (int i = 0; i < SITE_CLASSES && !err; i++) {
		err = find_place(&p, (enum calibrate_call)i);
		offsets[i] = p.offset;
		if (!err)
			err = measure(r, (enum calibrate_call)i, &r->without[i], NULL);
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
