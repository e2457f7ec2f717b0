/* SPDX-License-Identifier: BSD-2-Clause */
/* The loaded models of a process, told apart by the object that their computations name. */
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
	uint32_t id;        /* from 1; 0 until its first route: what has no router is never said */
	uint64_t object;
	uint64_t used;      /* when, in calls: the least recently used one makes room */
	uint64_t steps;     /* said so far */
	uint32_t experts, k;
	uint32_t last_layer; /* with a router, ENGINE_UNKNOWN if only learnt */
	const struct llama_model *model; /* NULL: geometry is learnt from the routes */
	uint32_t layers;
	uint16_t layer_ids[GGUF_LAYERS_MAX];
	bool changed;       /* since it was last said */
};

struct llama_contexts;

/* @models and their strings are borrowed and must outlive the set. 0 or -ENOMEM. */
int llama_contexts__new(struct llama_contexts **out, const struct llama_models *models, pid_t pid);
/* Accepts NULL. */
void llama_contexts__free(struct llama_contexts *s);

/* The context of @object, made if need be; never NULL. A pointer stays valid as long as the set, but
 * may come to mean another object: compare @object. */
struct llama_context *llama_contexts__get(struct llama_contexts *s, uint64_t object);

enum llama_fit {
	LLAMA_FIT_OK,
	LLAMA_FIT_WARM_UP,  /* all experts chosen: the server warms its weights up */
	LLAMA_FIT_MISMATCH, /* not this context's geometry, or not the model file's */
};

/* Hold a route against what is known of @c; its first route settles what that is. */
enum llama_fit llama_contexts__fit(struct llama_contexts *s, struct llama_context *c,
				   const struct llama_route_head *h);
/* Say @c to @sink if it is new or more is known. 0 or the sink's error. */
int llama_contexts__say(struct llama_contexts *s, struct llama_context *c,
			const struct engine_sink *sink);
/* What the model file says, before anything was captured; NULL unless there is exactly one. */
const struct engine_context *llama_contexts__from_file(const struct llama_contexts *s);

#endif
