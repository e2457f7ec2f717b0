/* SPDX-License-Identifier: BSD-2-Clause */
/* The time of a hit, measured in the background by a child of the broker: attach must not wait
 * for it. */
#ifndef MP_COLLECTOR_CALIBRATOR_H
#define MP_COLLECTOR_CALIBRATOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "probe/attach/site.h"

/* Zeroed before use. */
struct calibrator {
	pid_t pid; /* 0: none is running */
	int from;
	bool started;
	uint64_t hit_ns[SITE_CLASSES]; /* 0: not measured (yet) */
};

struct calibrator_options {
	unsigned threads; /* that hit at the same time */
	int program_fd;   /* of a loaded program that does nothing */
	bool multi;       /* the program was loaded for multi links */
	/* Called in the child first: let go of what it must not keep alive. */
	void (*let_go)(void *ctx);
	void *ctx;
};

/* Start measuring; once. 0, -EALREADY, or -errno. */
int calibrator__start(struct calibrator *c, const struct calibrator_options *o);
/* Take the result if it is there; never waits. */
void calibrator__poll(struct calibrator *c);
/* End it. */
void calibrator__stop(struct calibrator *c);

#endif
