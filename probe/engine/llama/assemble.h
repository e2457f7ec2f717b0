/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Steps out of captures: the rows of a computation open one on their thread, the router results
 * of the same computation belong to it, and it is said when the last layer is there, when its
 * thread goes on to something else, or when nothing more has come for a while.
 */
#ifndef MP_LLAMA_ASSEMBLE_H
#define MP_LLAMA_ASSEMBLE_H

#include <stdint.h>

#include "probe/engine/capture.h"
#include "probe/engine/llama/context.h"
#include "probe/engine/llama/requests.h"
#include "probe/engine/sink.h"

/* A step without news for this long is complete. Only a bound on what is kept: one layer of a
 * large prefill on a loaded machine takes seconds, and a step that is said too early loses what
 * comes later. */
#define LLAMA_STEP_TIMEOUT_NS 60000000000ull

struct llama_assembly;

/* @contexts and @requests are borrowed and must outlive it; @vocabulary: tokens are below it, 0 if
 * unknown. 0 or -ENOMEM. */
int llama_assembly__new(struct llama_assembly **out, struct llama_contexts *contexts,
			struct llama_requests *requests, uint32_t vocabulary);
/* Accepts NULL; an open step is dropped. */
void llama_assembly__free(struct llama_assembly *a);

/*
 * Take a complete capture of rows or of a route. Failed checks are said to @sink. 0, -ENOMEM or the
 * sink's error; -EPROTO: not one of the first captures made sense, @a's *@what says which kind.
 */
int llama_assembly__rows(struct llama_assembly *a, const struct capture *c,
			 const struct engine_sink *sink);
int llama_assembly__route(struct llama_assembly *a, const struct capture *c,
			  const struct engine_sink *sink);
/* After -EPROTO: what is not as it was taken for, "this build's llama_ubatch is not known". */
const char *llama_assembly__doubt(const struct llama_assembly *a);

/* Thread @tid is past its computation (it writes a log line): say its open step. */
int llama_assembly__close(struct llama_assembly *a, uint32_t tid, const struct engine_sink *sink);
/* Say the steps whose last event is older than @before_ns (UINT64_MAX: all). */
int llama_assembly__expire(struct llama_assembly *a, uint64_t before_ns,
			   const struct engine_sink *sink);

#endif
