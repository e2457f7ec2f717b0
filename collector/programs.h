/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The kernel programs, loaded. The verifier takes a tenth of a second and more for the larger
 * ones, and an attach waits for it: they are loaded side by side, as objects that share their maps.
 */
#ifndef MP_COLLECTOR_PROGRAMS_H
#define MP_COLLECTOR_PROGRAMS_H

#include <stdbool.h>
#include <stdint.h>

#include "probe/abi/site.h"

struct programs;

/* X(NAME, map of the skeleton) */
#define PROGRAM_MAPS(X) \
	X(RING, ring) \
	X(SITES, sites) \
	X(COUNTERS, counters) \
	X(LISTENERS, listeners)

enum program_map {
#define X(name, map) PROGRAM_MAP_##name,
	PROGRAM_MAPS(X)
#undef X
};

struct programs_options {
	uint32_t ring_bytes; /* a power of two */
	uint32_t only;       /* bit i: enum mp_program i is wanted; 0: all are, but HEADS */
	bool heads;          /* HEADS is wanted too */
	bool multi;          /* for multi-uprobe links */
	bool verbose;        /* the kernel's own words to standard error */
};

/* 0 or -errno. */
int programs__load(struct programs **out, const struct programs_options *o);
/* The same in the background, since it takes longest of all that an attach does: programs__wait
 * gives the result and ends it. NULL: it could not be started. */
struct programs_loading;
struct programs_loading *programs__start(const struct programs_options *o);
int programs__wait(struct programs **out, struct programs_loading *l);

/* Unload. Accepts NULL. */
void programs__free(struct programs *p);

/* Descriptors, borrowed; -EINVAL if there is no such program. */
int programs__fd(const struct programs *p, uint32_t program);
int programs__map_fd(const struct programs *p, enum program_map map);

#endif
