/* SPDX-License-Identifier: BSD-2-Clause */
#include "analyzer/launch.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "analyzer/command_line.h"
#include "analyzer/output_file.h"
#include "analyzer/resolve.h"
#include "probe/base/error.h"

static int find_identity(struct launch *l, const struct options *o, struct error *e)
{
	memset(l, 0, sizeof(*l));
	l->input = -1;
	return identity__find(&l->identity, o->user, e);
}

int launch__collector(struct launch *l, enum collector_task task, struct options *o,
		      struct error *e)
{
	int err = find_identity(l, o, e);

	if (!err && !o->pid && (o->name || o->port))
		err = resolve__server(&o->pid, &l->identity, o, e);
	if (!err && o->output)
		err = output_file__open(&l->output, &l->identity, o->output, e);
	if (!err)
		err = collector__start(&l->collector, task, o, e);
	if (!err)
		err = identity__become(&l->identity, e);
	if (err)
		launch__free(l);
	return err;
}

int launch__input(struct launch *l, const struct options *o, struct error *e)
{
	int err = find_identity(l, o, e);

	if (!err)
		err = identity__open_file(&l->identity, &l->input, o->input, e);
	if (!err && isatty(l->input))
		err = error__set(e, EXIT_USAGE, ENOTTY, "name a recording, or pipe a stream in",
				 "file: failed to read '%s': it is a terminal", o->input);
	if (!err)
		err = identity__become(&l->identity, e);
	if (err)
		launch__free(l);
	return err;
}

void launch__free(struct launch *l)
{
	collector__free(l->collector);
	output_file__free(l->output);
	if (l->input > 0)
		close(l->input);
	l->collector = NULL;
	l->output = NULL;
	l->input = -1;
}
