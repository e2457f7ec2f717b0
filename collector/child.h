/* SPDX-License-Identifier: BSD-2-Clause */
/* What every child of the broker does first. */
#ifndef MP_COLLECTOR_CHILD_H
#define MP_COLLECTOR_CHILD_H

/*
 * Let go of standard input, output and error: the kernel may hold a child that takes probes away
 * for longer than whoever reads our outputs to their end wants to wait. Ignore what the terminal
 * sends: who started us ends us.
 */
void child__leave(void);

#endif
