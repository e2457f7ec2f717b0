/* SPDX-License-Identifier: BSD-2-Clause */
/* The contexts of a stream: which process each is in, and what was said of it. A CONTEXT record is
 * written when one is first needed, and again when it is known better. */
#ifndef MP_COLLECTOR_CONTEXT_LIST_H
#define MP_COLLECTOR_CONTEXT_LIST_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "collector/trace/records.h"

struct context_list;
struct engine_context;
struct trace_writer;

/* NULL: out of memory. @w is borrowed. */
struct context_list *context_list__new(struct trace_writer *w);
/* Accepts NULL. */
void context_list__free(struct context_list *l);

/* Contexts of process @pid are those of PROCESS number @process from now on; until one is
 * described, it is taken for one of the first process. 0, -ENOMEM. */
int context_list__process(struct context_list *l, pid_t pid, uint32_t process);
/* @context is about to be used; nothing was said of it yet, maybe. 0, -ENOMEM, the writer's error.
 */
int context_list__introduce(struct context_list *l, struct trace_record head, uint32_t context);
/* The engine describes @c, as number @context of the stream. Likewise. */
int context_list__describe(struct context_list *l, struct trace_record head, uint32_t context,
			   const struct engine_context *c);
/* True if @context repeats the routing of another. */
bool context_list__is_replica(const struct context_list *l, uint32_t context);

#endif
