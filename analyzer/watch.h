/* SPDX-License-Identifier: BSD-2-Clause */
/* One stream from begin to end: into the state, a view, and for `record` a file; then a summary. */
#ifndef MP_ANALYZER_WATCH_H
#define MP_ANALYZER_WATCH_H

#include <stdbool.h>
#include <stdio.h>

struct error;
struct launch;
struct live_view;
struct options;
struct output_file;
struct reducer;
struct trace_writer;

struct watch {
	const struct options *options;
	const struct launch *launch; /* its collector, or its input */
	const char *source;          /* "process 1234", "a.moe": for messages */
	const struct live_view *view;
	struct reducer *reducer;     /* NULL: nothing is written */
	struct trace_writer *writer; /* the reducer's */
	struct output_file *output;  /* the writer's: put in its place by the first record */
	bool replay;                 /* the input is a file */
	FILE *summary;               /* where the last lines go */
};

/* The terminal if standard output is one that can draw and the user did not say --no-tui. */
const struct live_view *watch__choose_view(const struct options *o);

/* The exit code; with @e set that error's. Loss above --max-loss is EXIT_LOSS. */
int watch__run(const struct watch *w, struct error *e);

#endif
