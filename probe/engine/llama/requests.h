/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Slots and the requests in them: from the server's log lines (taken up, released), from posted
 * tasks (client, prompt), and where these are missing from the positions of rows.
 */
#ifndef MP_LLAMA_REQUESTS_H
#define MP_LLAMA_REQUESTS_H

#include <stdbool.h>
#include <stdint.h>

#include "probe/abi/event.h"
#include "probe/engine/llama/rows.h"
#include "probe/engine/llama/tasks.h"
#include "probe/engine/sink.h"

struct llama_requests;

/* @tasks is borrowed and must outlive it. 0 or -ENOMEM. */
int llama_requests__new(struct llama_requests **out, struct llama_tasks *tasks);
/* @q goes on numbering where @before ended; contexts are numbered from @first_context. */
void llama_requests__continue(struct llama_requests *q, const struct llama_requests *before,
			      uint32_t first_context);
/* Accepts NULL. */
void llama_requests__free(struct llama_requests *q);

/* One "slot ..." log line. The rows of what its thread computed before must have been given. 0
 * (also for lines that say nothing to us), -EBADMSG (a line of ours with impossible numbers),
 * -ENOMEM, or the sink's error. */
int llama_requests__line(struct llama_requests *q, const struct mp_event_line *line,
			 const struct engine_sink *sink);

/* The thread whose log lines tell of the rows that thread @tid computes: itself, as a rule. */
uint32_t llama_requests__server(struct llama_requests *q, uint32_t tid);
/* Between its last computation and this one thread @tid had others that did not arrive. */
void llama_requests__missed(struct llama_requests *q, uint32_t tid);
/* True if no slot of thread @tid was ever heard of: nothing serves there yet. */
bool llama_requests__is_quiet(const struct llama_requests *q, uint32_t tid);

/*
 * Find the requests of one computation's rows in @context, beginning those that are new, and fill
 * @out[rows->count]. 0, -ENOMEM, or the sink's error.
 */
int llama_requests__rows(struct llama_requests *q, const struct llama_rows *rows, uint32_t context,
			 struct engine_row *out, const struct engine_sink *sink);

/* End every request with @ending. */
int llama_requests__finish(struct llama_requests *q, uint64_t now_ns, uint32_t ending,
			   const struct engine_sink *sink);

#endif
