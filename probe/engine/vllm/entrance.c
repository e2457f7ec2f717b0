/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/engine/vllm/entrance.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>

#include "probe/base/error.h"
#include "probe/engine/vllm/role.h"
#include "probe/engine/vllm/sites.h"
#include "probe/target/ancestors.h"
#include "probe/target/target.h"

/* What is above a process of a vLLM and of the same: the topmost. */
struct above {
	pid_t pid, parent; /* 0: none */
	bool titled;
};

static int see_ancestor(void *ctx, const struct ancestor *a)
{
	struct above *top = ctx;

	/* A compiler that it runs stands below a shell. */
	if (vllm_role__is_part(a->cmdline, a->size))
		*top = (struct above){ a->pid, a->parent,
				       vllm_role__has_title(a->cmdline, a->size) };
	return 0;
}

static const char *part_name(struct target *t, bool *core)
{
	size_t size;
	const char *cmdline = target__cmdline(t, &size);
	struct vllm_role role = vllm_role__of(cmdline, size);

	*core = role.part == VLLM_CORE;
	return *core ? "the engine core" : role.part == VLLM_WORKER ? "a worker" : "a process";
}

/* Where a program of the operator's has vLLM in it, nothing above the titles is vLLM's. */
static void name_server(char *out, size_t size, struct target *t, const struct above *top)
{
	if (top->pid && !top->titled)
		snprintf(out, size, "attach to %d, its API server", (int)top->pid);
	else
		snprintf(out, size, "attach to %d, which started it",
			 top->pid ? (int)top->parent : (int)target__info(t)->parent);
}

int vllm_match(struct target *t, struct error *e)
{
	return vllm_sites__match(t);
}

int vllm_entrance(struct target *t, bool found, struct error *e)
{
	int pid = (int)target__info(t)->pid;
	struct above top = { 0 };
	const char *cmdline, *part;
	char remedy[96];
	size_t size;
	bool core;

	target__each_ancestor(t, see_ancestor, &top);
	cmdline = target__cmdline(t, &size);
	if (!top.pid && !vllm_role__has_title(cmdline, size))
		return found ? 0
			     : error__set(e, EXIT_UNSUPPORTED, EAGAIN,
					  "again, once it answers requests",
					  "vLLM: failed to attach to process %d: vLLM is still "
					  "starting: no worker yet",
					  pid);
	part = part_name(t, &core);
	name_server(remedy, sizeof(remedy), t, &top);
	if (!found || core)
		return error__set(e, EXIT_UNSUPPORTED, ENOTSUP, remedy,
				  "vLLM: failed to attach to process %d: it is %s of a vLLM", pid,
				  part);
	error__set(e, EXIT_UNSUPPORTED, ENOTSUP, remedy,
		   "names and ends of requests: process %d is %s of a vLLM, and only its API "
		   "server is told of them",
		   pid, part);
	return 1;
}
