/* SPDX-License-Identifier: BSD-2-Clause */
/* The processes whose requests' heads are read, and the tracepoint at which that happens: only
 * while there is such a process, since every system call of the machine passes it. Runs in the
 * broker. */
#ifndef MP_COLLECTOR_LISTENERS_H
#define MP_COLLECTOR_LISTENERS_H

#include <stdint.h>
#include <sys/types.h>

#include "probe/abi/site.h"

struct error;
struct programs;

/* For people, where heads are read: the bench measures it. */
#define LISTENERS_COST \
	"at the exit of system calls: about 140 ns for every one of this machine, of any process"

/* Zeroed before use. */
struct listeners {
	size_t count;
	pid_t pid[MP_SITES];
	int link; /* 1 + the tracepoint's descriptor; 0: not placed */
};

/* Read the heads that @pid receives, by row @row of the site table. 0, or -errno with @e. */
int listeners__add(struct listeners *l, const struct programs *p, pid_t pid, uint32_t row,
		   struct error *e);
/* No more of @pid (0: of all). With the last one the tracepoint goes. */
void listeners__remove(struct listeners *l, const struct programs *p, pid_t pid);
/* Close what a child of ours must not hold. */
void listeners__let_go(struct listeners *l);

#endif
