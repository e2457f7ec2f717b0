/* SPDX-License-Identifier: BSD-2-Clause */
/* Everything that needs rights, in order; after it we have none. */
#ifndef MP_ANALYZER_LAUNCH_H
#define MP_ANALYZER_LAUNCH_H

#include "analyzer/privilege.h"
#include "analyzer/spawn.h"

struct error;
struct options;
struct output_file;

struct launch {
	struct identity identity;
	struct collector *collector;
	struct output_file *output; /* of --output, NULL if not given */
	int input;                  /* of the FILE operand, -1 if not given */
};

/* Find the server of --name or --port (o->pid is set), create the output, start the collector,
 * become an ordinary user. */
int launch__collector(struct launch *l, enum collector_task task, struct options *o,
		      struct error *e);
/* Open the input, become an ordinary user. */
int launch__input(struct launch *l, const struct options *o, struct error *e);
/* Close and forget; accepts a zeroed one. */
void launch__free(struct launch *l);

#endif
