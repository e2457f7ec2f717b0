/* SPDX-License-Identifier: BSD-2-Clause */
/* The list of engines, and the search through it. A new engine is a folder and a line here. */
#include "probe/engine/engine.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "probe/base/error.h"
#include "probe/engine/llama/llama.h"
#include "probe/engine/null/null.h"
#include "probe/engine/transformers/transformers.h"
#include "probe/engine/vllm/vllm.h"
#include "probe/engine/sink.h"
#include "probe/target/ancestors.h"
#include "probe/target/target.h"

const struct engine_ops *const engines[] = {
	&engine_llama, &engine_vllm, &engine_transformers, &engine_null, NULL,
};

void engine_plan__clear(struct engine_plan *plan)
{
	memset(plan, 0, sizeof(*plan));
	plan->threads = ENGINE_UNKNOWN;
	plan->rank_tensor = plan->rank_pipeline = ENGINE_UNKNOWN;
	plan->rank_data = plan->rank_expert = ENGINE_UNKNOWN;
	plan->hits_per_step_thread = plan->hits_per_step = -1;
}

int engine__not_found(struct target *t, size_t processes, struct error *e)
{
	const struct target_info *info = target__info(t);
	char looked_for[256], others[64] = "";
	size_t at = 0;

	if (processes > 1)
		snprintf(others, sizeof(others), " or in the %zu process%s below it", processes - 1,
			 processes == 2 ? "" : "es");

	looked_for[0] = '\0';
	for (size_t i = 0; engines[i] && at < sizeof(looked_for); i++) {
		if (!engines[i]->looked_for[0])
			continue;
		at += (size_t)snprintf(looked_for + at, sizeof(looked_for) - at, "%s%s: %s",
				       at ? "; " : "", engines[i]->name, engines[i]->looked_for);
	}
	return error__set(e, EXIT_UNSUPPORTED, ENOTSUP,
			  "moeprobe attach (without a pid) lists the servers that can be read",
			  "engine: failed to recognise process %d (%s): no known engine runs in it"
			  "%s (looked for %s)",
			  (int)info->pid, info->command, others, looked_for);
}

static const struct engine_ops *owner_of(const char *cmdline, size_t size)
{
	for (size_t i = 0; engines[i]; i++)
		if (engines[i]->owns && engines[i]->owns(cmdline, size))
			return engines[i];
	return NULL;
}

static int see_ancestor(void *ctx, const struct ancestor *a)
{
	const struct engine_ops **owner = ctx;

	*owner = owner_of(a->cmdline, a->size);
	return *owner != NULL;
}

const struct engine_ops *engine__owner_by_line(const struct target *t)
{
	size_t size;
	const char *cmdline = target__cmdline(t, &size);

	return owner_of(cmdline, size);
}

const struct engine_ops *engine__owner(struct target *t)
{
	const struct engine_ops *owner = engine__owner_by_line(t);

	if (!owner)
		target__each_ancestor(t, see_ancestor, &owner);
	return owner;
}

/* What Python and PyTorch start beside a server: it maps the same libraries and computes nothing.
 */
static bool is_helper(const struct target *t)
{
	static const char *const marks[] = {
		"/torch/_inductor/compile_worker/",
		"torch._inductor.compile_worker",
		"from multiprocessing.resource_tracker import",
		"from multiprocessing.forkserver import",
	};
	size_t size;
	const char *cmdline = target__cmdline(t, &size);
	bool helper = false;

	for (size_t i = 0; i < sizeof(marks) / sizeof(*marks); i++)
		helper |= memmem(cmdline, size, marks[i], strlen(marks[i])) != NULL;
	return helper;
}

int engine__match(const struct engine_ops **out, struct target *t, struct error *e)
{
	const struct engine_ops *owner;
	int match = 0;

	*out = NULL;
	if (is_helper(t))
		return 0;
	owner = engine__owner(t);
	if (owner) {
		match = owner->match(t, e);
		*out = match > 0 ? owner : NULL;
		return match;
	}
	for (size_t i = 0; engines[i] && !match; i++) {
		match = engines[i]->match(t, e);
		if (match > 0)
			*out = engines[i];
	}
	return match;
}

int engine__find(const struct engine_ops **out, struct target *t, struct error *e)
{
	int match = engine__match(out, t, e);

	return match > 0 ? 0 : match ? match : engine__not_found(t, 1, e);
}

const struct engine_ops *engine__by_name(const char *name)
{
	for (size_t i = 0; engines[i]; i++)
		if (!strcmp(engines[i]->name, name))
			return engines[i];
	return NULL;
}
