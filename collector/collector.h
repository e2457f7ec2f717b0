/* SPDX-License-Identifier: BSD-2-Clause */
/* The collector as two processes: the broker, which keeps the rights, and the reader. */
#ifndef MP_COLLECTOR_COLLECTOR_H
#define MP_COLLECTOR_COLLECTOR_H

struct error;
struct collector_options;

/*
 * Do what the command line asks. Returns twice, once in each process: the exit code it must end
 * with, and @e where there is something to say (the reader says its own errors, the broker what
 * became of the reader).
 */
int collector__run(const struct collector_options *o, struct error *e);

#endif
