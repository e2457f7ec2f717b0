/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Queued server tasks: whose request a task is (the client's id) and its prompt. Where these are
 * in the server's private struct is learnt at run time and held against the rows of every
 * request that follows; see learn.c.
 */
#ifndef MP_LLAMA_TASKS_H
#define MP_LLAMA_TASKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "probe/abi/event.h"
#include "probe/abi/site.h"
#include "probe/engine/capture.h"
#include "probe/engine/llama/rows.h"

/* Tokens of a prompt, shared by reference count. */
struct prompt {
	unsigned references;
	uint32_t count;
	bool cut; /* the real one is longer */
	int32_t token[];
};

struct prompt *prompt__get(struct prompt *p); /* accepts NULL, as does: */
void prompt__put(struct prompt *p);

struct llama_tasks;

/* 0 or -ENOMEM. */
int llama_tasks__new(struct llama_tasks **out);
/* Accepts NULL. */
void llama_tasks__free(struct llama_tasks *s);
/* The kernel's row, where to write what is learnt; NULL: nowhere (replay). */
void llama_tasks__set_row(struct llama_tasks *s, struct mp_tasks_site *row);

/* Remember a queued task, and its tokens. Bounded: the oldest are forgotten. 0, -ENOMEM, or
 * -EBADMSG if the event contradicts itself. */
int llama_tasks__add(struct llama_tasks *s, const struct capture *c);
int llama_tasks__add_tokens(struct llama_tasks *s, const struct capture *c);

/* The first rows of a request in its slot: what the identity is held against. */
struct llama_evidence {
	const struct llama_rows *rows;
	int32_t slot;
	uint32_t first; /* position of its first row */
};

struct llama_identity {
	char client_id[MP_CLIENT_ID_SIZE]; /* "" if unknown */
	struct prompt *prompt;             /* a reference of the caller's, NULL if unknown */
};

/*
 * Who task @task of the server whose main thread is @tid is, as far as @evidence agrees. 0 (what
 * is unknown stays so), or -EBADMSG: what was known does not agree; learning begins again.
 */
int llama_tasks__identify(struct llama_tasks *s, struct llama_identity *out, uint32_t tid,
			  int32_t task, const struct llama_evidence *evidence);
/* The same for a task that goes on with the prompt of @parent: that one's, if it was identified. */
void llama_tasks__identify_child(struct llama_tasks *s, struct llama_identity *out, uint32_t tid,
				 int32_t parent);

/* A row contradicted a prompt that was believed: the layout is not what it was taken for. */
void llama_tasks__distrust(struct llama_tasks *s);

#endif
