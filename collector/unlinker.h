/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Taking probes away without waiting for the kernel. Whoever drops the last reference of a link
 * first takes its breakpoints out of the target, and is then held until no program of that link can
 * still run: some 50 ms on a quiet machine, ten seconds were seen on a busy one. That wait is of no
 * use to anybody, so a child of ours drops the last references. A multi-uprobe link holds all
 * places of its program, which are free at once; single links, one a place, are taken away one
 * after another, and the last places keep their breakpoints until it is their turn.
 */
#ifndef MP_COLLECTOR_UNLINKER_H
#define MP_COLLECTOR_UNLINKER_H

#include <stddef.h>

struct uprobe_links;

struct unlinker_options {
	/* Called in the child first: let go of what it must not keep alive. */
	void (*let_go)(void *ctx);
	void *ctx;
	int wait_ms; /* return after this time even if the kernel still waits */
};

/* Close @link[0 .. count - 1] (NULL: none), which become NULL. If no child can be made, here. */
void unlinker__run(struct uprobe_links **link, size_t count, const struct unlinker_options *o);

#endif
