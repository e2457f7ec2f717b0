/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What one hit of a probe costs on this machine, measured: a child process of our own calls two
 * tiny functions, one of each site class, with and without a probe, in as many threads as the
 * target will hit with. The cost is that of the trap with an empty program; what a program
 * itself takes comes on top. Takes about 0.1 s.
 */
#ifndef MP_ATTACH_CALIBRATE_H
#define MP_ATTACH_CALIBRATE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "probe/attach/site.h"

struct error;

#define CALIBRATE_THREADS_MAX 64

struct calibration {
	unsigned threads;            /* that hit at the same time */
	double hit_ns[SITE_CLASSES]; /* thread CPU time a hit, by class; < 0: not measured */
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
	/* Take all of it away. Called after a successful link. */
	void (*unlink)(void *ctx);
	void *ctx;
};

/*
 * Measure with @threads threads (1 .. CALIBRATE_THREADS_MAX, else cut to that). @out is "not
 * measured" after an error: EXIT_FAILED where no child can be made or the probes do not fire,
 * what link() says otherwise. The child is gone in every case.
 */
int calibrate__run(struct calibration *out, unsigned threads, const struct calibrate_ops *ops,
		   struct error *e);

#endif
