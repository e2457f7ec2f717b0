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

bool vllm_role__has_title(const char *cmdline, size_t size)
{
	return size >= strlen(TITLE) && !memcmp(cmdline, TITLE, strlen(TITLE));
}

/* The argument behind @at, or NULL; each ends with a NUL, but maybe the last. */
static const char *next_argument(const char *at, const char *end)
{
	const char *nul = memchr(at, '\0', (size_t)(end - at));

	return nul && nul + 1 < end ? nul + 1 : NULL;
}

static bool starts_with(const char *at, const char *end, const char *what)
{
	return (size_t)(end - at) >= strlen(what) && !memcmp(at, what, strlen(what));
}

/* True if the path at @at names a file that begins with @name; @whole: that is @name. */
static bool is_file(const char *at, const char *end, const char *name, bool whole)
{
	const char *nul = memchr(at, '\0', (size_t)(end - at)), *base = at;

	end = nul ? nul : end;
	for (const char *c = at; c < end; c++)
		base = *c == '/' ? c + 1 : base;
	return starts_with(base, end, name) && (!whole || base + strlen(name) == end);
}

/* The first argument is the interpreter, or a script of it that was executed. */
bool vllm_role__is_part(const char *cmdline, size_t size)
{
	const char *end = cmdline + size, *next;
	bool python = size && is_file(cmdline, end, "python", false);

	if (vllm_role__has_title(cmdline, size))
		return true;
	for (const char *at = size ? cmdline : NULL; at; at = next) {
		next = next_argument(at, end);
		if (at != cmdline && !python)
			return false;
		if (next && is_file(at, end, "vllm", true) && starts_with(next, end, "serve"))
			return true;
		if (next && starts_with(at, end, "-m") &&
		    starts_with(next, end, "vllm.entrypoints."))
			return true;
	}
	return false;
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
