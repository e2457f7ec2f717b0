/* SPDX-License-Identifier: BSD-2-Clause */
/* Where the processes of vLLM are probed: its own CPU kernels in workers, what the C library sends
 * in the others. */
#ifndef MP_VLLM_SITES_H
#define MP_VLLM_SITES_H

#include <stdbool.h>

#include "probe/engine/aten/context.h"
#include "probe/engine/engine.h"
#include "probe/engine/vllm/role.h"

/* True if vLLM's CPU kernels are mapped in @t. */
bool vllm_sites__match(struct target *t);
/* Append the places of a process of role @r to @plan. Errors (EXIT_UNSUPPORTED): a place without
 * which nothing can be read is not there. */
int vllm_sites__plan(struct engine_plan *plan, struct target *t, const struct vllm_role *r,
		     const struct aten_range *range, struct error *e);

#endif
