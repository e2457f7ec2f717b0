/* SPDX-License-Identifier: BSD-2-Clause */
/* The list of engines, and the search through it. A new engine is a folder and a line here. */
#include "probe/engine/engine.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "probe/base/error.h"
#include "probe/engine/llama/llama.h"
#include "probe/engine/null/null.h"
#include "probe/target/target.h"

const struct engine_ops *const engines[] = {
	&engine_llama,
	&engine_null,
	NULL,
};

static int not_found(struct target *t, struct error *e)
{
	const struct target_info *info = target__info(t);
	char looked_for[256];
	size_t at = 0;

	looked_for[0] = '\0';
	for (size_t i = 0; engines[i] && at < sizeof(looked_for); i++) {
		if (!engines[i]->looked_for[0])
			continue;
		at += (size_t)snprintf(looked_for + at, sizeof(looked_for) - at, "%s%s: %s",
				       at ? "; " : "", engines[i]->name, engines[i]->looked_for);
	}
	return error__set(e, EXIT_UNSUPPORTED, ENOTSUP,
			  "moeprobe attach (without a pid) lists the servers that can be read",
			  "engine: failed to recognise process %d (%s): no known engine runs in it "
			  "(looked for %s)",
			  (int)info->pid, info->command, looked_for);
}

int engine__find(const struct engine_ops **out, struct target *t, struct error *e)
{
	*out = NULL;
	for (size_t i = 0; engines[i]; i++) {
		int match = engines[i]->match(t, e);

		if (match < 0)
			return match;
		if (match) {
			*out = engines[i];
			return 0;
		}
	}
	return not_found(t, e);
}

const struct engine_ops *engine__by_name(const char *name)
{
	for (size_t i = 0; engines[i]; i++)
		if (!strcmp(engines[i]->name, name))
			return engines[i];
	return NULL;
}
