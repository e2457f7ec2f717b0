/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The loaded models of a process. A server computes on one thread, so a context is a thread and a
 * router geometry: that keeps servers in one process apart, and a draft model from its target. (The
 * graph objects that computations name are no identity: a context has several.)
 */
#ifndef MP_LLAMA_CONTEXT_H
#define MP_LLAMA_CONTEXT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "probe/engine/llama/model.h"
#include "probe/engine/llama/route.h"
#include "probe/engine/sink.h"

/* One context; plain data, owned by the set. */
struct llama_context {
	uint32_t id;    /* from 1; 0 until it is said */
	uint32_t tid;   /* of the server's main thread */
	uint64_t used;  /* when, in calls: the least recently used one makes room */
	uint64_t steps; /* said so far */
	uint32_t experts, k;
	uint32_t last_layer;             /* with a router, ENGINE_UNKNOWN if only learnt */
	const struct llama_model *model; /* NULL: geometry is learnt from the routes */
	uint32_t layers;
	uint16_t layer_ids[GGUF_LAYERS_MAX];
	bool changed; /* since it was last said */
};

struct llama_contexts;

/* @models and their strings are borrowed and must outlive the set. 0 or -ENOMEM. */
int llama_contexts__new(struct llama_contexts **out, const struct llama_models *models, pid_t pid);
/* @s goes on numbering where @before ended. Returns the first number. */
uint32_t llama_contexts__continue(struct llama_contexts *s, const struct llama_contexts *before);
/* Accepts NULL. */
void llama_contexts__free(struct llama_contexts *s);

enum llama_fit {
	LLAMA_FIT_OK,
	LLAMA_FIT_WARM_UP,  /* all experts chosen: the server warms its weights up */
	LLAMA_FIT_MISMATCH, /* no model that we know has such a router */
};

/*
 * The context on thread @tid that a route belongs to, made if need be; a layer that was not known
 * is added. *@out is set with LLAMA_FIT_OK only. It stays valid as long as the set, but may come to
 * mean another context after others were made (compare @id).
 */
enum llama_fit llama_contexts__fit(struct llama_contexts *s, uint32_t tid,
				   const struct llama_route_head *h, struct llama_context **out);
/* The context called @id, NULL if it had to make room. */
struct llama_context *llama_contexts__by_id(struct llama_contexts *s, uint32_t id);
/* Say @c to @sink if it is new or more is known. 0 or the sink's error. */
int llama_contexts__say(struct llama_contexts *s, struct llama_context *c,
			const struct engine_sink *sink);
/* What the model file says, before anything was captured; NULL unless there is exactly one. */
const struct engine_context *llama_contexts__from_file(const struct llama_contexts *s);

#endif
