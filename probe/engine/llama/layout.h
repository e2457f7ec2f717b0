/* SPDX-License-Identifier: BSD-2-Clause */
/* Where to probe a llama.cpp server and where in its structs to look: derived from its code. */
#ifndef MP_LLAMA_LAYOUT_H
#define MP_LLAMA_LAYOUT_H

#include <stdint.h>

#include "probe/engine/engine.h"

/* A client's id begins so (the server makes it). */
#define LLAMA_CLIENT_PREFIX "chatcmpl-"
/* Log lines about slots begin so. */
#define LLAMA_SLOT_PREFIX "slot "
/* Name of the router's tensor, followed by the layer number. */
#define LLAMA_TENSOR_PREFIX "ffn_moe_topk-"
/* Tokens read of one prompt at most. */
#define LLAMA_PROMPT_MAX (128u << 10)

/* 1 if a mapped library is llama.cpp's, also one that cannot be read (open then says why); 0. */
int llama_layout__match(struct target *t, struct error *e);

/*
 * Fill @plan's sites, version and build-id. @vocabulary: tokens are below it, 0 if unknown.
 * Errors (EXIT_UNSUPPORTED): symbols stripped, a hook missing, an unknown struct layout.
 */
int llama_layout__plan(struct engine_plan *plan, struct target *t, uint32_t vocabulary,
		       struct error *e);

#endif
