/* SPDX-License-Identifier: BSD-2-Clause */
/* What the kernel programs counted, added up over CPUs. */
#ifndef MP_COLLECTOR_COUNTERS_H
#define MP_COLLECTOR_COUNTERS_H

#include <stddef.h>

#include "probe/abi/site.h"

struct counters;
struct error;

/* @fd: the counters map, borrowed. @cpus: processors that this machine may have, by
 * libbpf_num_possible_cpus(), which opens a file. */
int counters__open(struct counters **out, int fd, int cpus, struct error *e);
/* The first @count rows as they are now. 0, or -errno
 * with @rows as they were. */
int counters__read(struct counters *c, struct mp_counters *rows, size_t count);
/* Accepts NULL. */
void counters__free(struct counters *c);

#endif
