/* SPDX-License-Identifier: BSD-2-Clause */
/* Ctrl-C and its kin, counted: the first asks for a clean end, the second for an end at once. */
#ifndef MP_ANALYZER_INTERRUPT_H
#define MP_ANALYZER_INTERRUPT_H

#include <poll.h>

/* Count SIGINT, SIGTERM and SIGHUP from now on, but for the latter two where whoever started us had
 * ignored them (nohup); SIGINT is ignored in the background jobs of a script, which can be ended
 * by it all the same. Ignore SIGPIPE (writes fail by name instead). */
void interrupt__catch(void);
/* How many came. */
int interrupt__count(void);
/* poll(2) that a counted signal always ends, also one that came just before. */
int interrupt__poll(struct pollfd *p, nfds_t n, int timeout_ms);

#endif
