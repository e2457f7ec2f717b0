/* SPDX-License-Identifier: BSD-2-Clause */
/* What the kernel programs counted, added up over CPUs. */
#ifndef MP_COLLECTOR_COUNTERS_H
#define MP_COLLECTOR_COUNTERS_H

#include <stddef.h>

#include "probe/abi/site.h"

struct counters;
struct error;

/* @fd: the counters map, borrowed. */
int counters__open(struct counters **out, int fd, struct error *e);
/* The first @count rows as they are now. 0, or -errno
 * with @rows as they were. */
int counters__read(struct counters *c, struct mp_counters *rows, size_t count);
/* Accepts NULL. */
void counters__free(struct counters *c);

#endif
