/* SPDX-License-Identifier: BSD-2-Clause */
/* The time of a hit, measured in the background by a child of the broker: attach must not wait
 * for it. */
#ifndef MP_COLLECTOR_CALIBRATOR_H
#define MP_COLLECTOR_CALIBRATOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "probe/attach/calibrate.h"

/* Zeroed before use. */
struct calibrator {
	pid_t pid; /* 0: none is running */
	int from;  /* -1: the result was taken */
	bool started;
	struct hit_costs costs; /* zeros while they are not measured */
};

struct calibrator_options {
	unsigned threads;       /* that hit at the same time */
	enum mp_program router; /* whose captures are measured: ROUTE or TENSORS */
	bool multi;             /* the kernel has multi-uprobe links */
	/* Called in the child first: let go of what it must not keep alive. */
	void (*let_go)(void *ctx);
	void *ctx;
};

/* Start measuring; once. 0, -EALREADY, or -errno. */
int calibrator__start(struct calibrator *c, const struct calibrator_options *o);
/* Take the result if it is there; never waits. */
void calibrator__poll(struct calibrator *c);
/* End it; waits a moment at most, then whoever inherits our children has it. */
void calibrator__stop(struct calibrator *c);

#endif
