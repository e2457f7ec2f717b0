/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/engine/vllm/role.h"

#include <stdlib.h>
#include <string.h>

#include "probe/base/buffer.h"
#include "probe/engine/plan.h"
#include "probe/engine/sink_numbers.h"

#define TITLE "VLLM::"
#define RANK_MAX 65535

/* The number behind "_@kind" in @title. */
static uint32_t rank(const char *title, const char *kind)
{
	const char *at = title;
	unsigned long value;
	char *end;

	while ((at = strstr(at, kind))) {
		at += strlen(kind);
		value = strtoul(at, &end, 10);
		if (end > at && *at >= '0' && *at <= '9' && value <= RANK_MAX)
			return (uint32_t)value;
	}
	return ENGINE_UNKNOWN;
}

struct vllm_role vllm_role__of(const char *cmdline, size_t size)
{
	struct vllm_role r = { VLLM_SERVER, ENGINE_UNKNOWN, ENGINE_UNKNOWN, ENGINE_UNKNOWN,
			       ENGINE_UNKNOWN };
	char title[64] = "";

	strncat(title, cmdline, size < sizeof(title) ? size : sizeof(title) - 1);
	if (strncmp(title, TITLE, strlen(TITLE)))
		return r;
	if (!strncmp(title + strlen(TITLE), "EngineCore", strlen("EngineCore")))
		r.part = VLLM_CORE;
	else if (!strncmp(title + strlen(TITLE), "Worker", strlen("Worker")))
		r.part = VLLM_WORKER;
	r.tensor = rank(title, "_TP");
	r.pipeline = rank(title, "_PP");
	r.data = rank(title, "_DP");
	r.expert = rank(title, "_EP");
	return r;
}

const char *vllm_role__name(const struct vllm_role *r)
{
	static const char *const names[] = { "api server", "engine core", "worker" };

	return names[r->part <= VLLM_WORKER ? r->part : VLLM_SERVER];
}

struct vllm_role vllm_role__load(struct cursor *at)
{
	struct vllm_role r;

	_Static_assert(sizeof(r) == 5 * sizeof(uint32_t), "what is saved");

	r.part = cursor__u32(at);
	r.tensor = cursor__u32(at);
	r.pipeline = cursor__u32(at);
	r.data = cursor__u32(at);
	r.expert = cursor__u32(at);
	return r;
}

void vllm_role__plan(struct engine_plan *plan, const struct vllm_role *r)
{
	strncpy(plan->role, vllm_role__name(r), sizeof(plan->role) - 1);
	plan->rank_tensor = r->tensor;
	plan->rank_pipeline = r->pipeline;
	plan->rank_data = r->data;
	plan->rank_expert = r->expert;
}
