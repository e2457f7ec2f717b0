/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What one hit of a probe costs on this machine, measured: a child process of our own calls small
 * functions with a probe and, by turns, others that differ from them in what is asked for; in as
 * many threads as the target will hit with. A hit: with a program that does nothing, against the
 * same code without a probe. A capture: with the program that captures a router's result in the
 * engine at hand, on tensors of our own, against a hit that does nothing; and so on. So a machine
 * that is busy with something else slows both of what is compared. Takes about a second, of which
 * it computes 0.1 s a thread; up to two where what it measures varies, since it measures again.
 *
 * Whether a probe is in place is read in the child's code, and whether a capture happened is
 * counted: neither is told by the time.
 */
#ifndef MP_ATTACH_CALIBRATE_H
#define MP_ATTACH_CALIBRATE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "probe/abi/site.h"
#include "probe/attach/calibrate_child.h"
#include "probe/attach/site.h"

struct error;

/* Thread time in ns; 0: not measured. Plain data. */
struct hit_costs {
	uint64_t hit[SITE_CLASSES]; /* a hit whose program does nothing, by class */
	uint64_t away;              /* one that its program turns away takes so much more */
	uint64_t capture;           /* one that captures a router's row takes so much more */
	uint64_t row;               /* and this each further row */
	uint64_t row_bytes;         /* of such a row */
};

/* Where the probes of a calibration go: always our own program, in our own child. */
struct calibrate_target {
	pid_t pid;               /* a child of the calling process */
	uint64_t start, end;     /* the executable mapping of our program in it, as maps shows it */
	const uint64_t *offsets; /* in the file, bytes */
	size_t count;
};

/* How they are put in place: the caller has the rights, or asks who has. */
struct calibrate_ops {
	/* Link a program that does nothing at all places of @t. 0, or -errno and @e. Called
	 * once. */
	int (*link)(void *ctx, const struct calibrate_target *t, struct error *e);
	/* Link the program of @site, which captures what it describes, at the place of @t. 0, or
	 * -errno: then only hit is measured. Called once, after link(); may be NULL. */
	int (*link_router)(void *ctx, const struct calibrate_target *t, const struct mp_site *site);
	/* Empty what the program has delivered into, after each round: how many captures there
	 * were. NULL where link_router is. */
	size_t (*drain)(void *ctx);
	/* Take all of it away. Called after a successful link(). */
	void (*unlink)(void *ctx);
	void *ctx;
};

/*
 * Measure with @threads threads (1 .. CALIBRATE_THREADS_MAX, else cut to that; libtorch's routers
 * run in one), and captures of @router, MP_PROGRAM_ROUTE or MP_PROGRAM_TENSORS. @out is "not
 * measured" after an error: EXIT_FAILED where no child can be made or the probes are not in place
 * (-ENODATA), what link() says otherwise. What cannot be told from nothing is "not measured" too.
 * The child is gone in every case.
 */
int calibrate__run(struct hit_costs *out, enum mp_program router, unsigned threads,
		   const struct calibrate_ops *ops, struct error *e);

#endif
