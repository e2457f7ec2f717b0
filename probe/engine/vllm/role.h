/* SPDX-License-Identifier: BSD-2-Clause */
/* Which part of a vLLM service a process is, by what it calls itself: vLLM sets its processes'
 * titles ("VLLM::Worker_DP0_PP1_TP0"). Its libraries are mapped in all of them, so they tell
 * nothing. */
#ifndef MP_VLLM_ROLE_H
#define MP_VLLM_ROLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cursor;
struct engine_plan;

enum vllm_part {
	VLLM_SERVER, /* without a title of vLLM's: the API server, or a program with all in it */
	VLLM_CORE,
	VLLM_WORKER,
};

struct vllm_role {
	uint32_t part;                           /* enum vllm_part */
	uint32_t tensor, pipeline, data, expert; /* ranks; ENGINE_UNKNOWN */
};

/* From the arguments of its command line, @size bytes (untrusted). */
struct vllm_role vllm_role__of(const char *cmdline, size_t size);
/* From a copy of one; zeros where @at has none (at->failed). */
struct vllm_role vllm_role__load(struct cursor *at);
/* True if that is a process of a vLLM service: by its title, or started as its server (`vllm
 * serve`, `python -m vllm.entrypoints...`), maybe not one yet. */
bool vllm_role__is_part(const char *cmdline, size_t size);
/* True if vLLM gave it its title. */
bool vllm_role__has_title(const char *cmdline, size_t size);
/* Note role and ranks in @plan. */
void vllm_role__plan(struct engine_plan *plan, const struct vllm_role *r);
/* "api server", "engine core", "worker". */
const char *vllm_role__name(const struct vllm_role *r);

#endif
