/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/engine/llama/context.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CONTEXTS_MAX 32

struct llama_contexts {
	const struct llama_models *models;
	pid_t pid;
	uint32_t next_id;
	uint64_t calls;
	size_t count;
	bool file_confirmed; /* some context's routes are those of a model file */
	struct engine_context from_file;
	struct llama_context item[CONTEXTS_MAX];
};

_Static_assert(sizeof(((struct gguf_model *)0)->header_digest) == ENGINE_DIGEST_BYTES, "sink.h");

static bool is_set(const uint8_t *digest)
{
	static const uint8_t none[ENGINE_DIGEST_BYTES];

	return memcmp(digest, none, sizeof(none));
}

/* Numbers from 1 to 4 are the same in llama.cpp and here. */
static uint32_t gate_of(uint32_t gating)
{
	_Static_assert(ENGINE_GATE_SOFTMAX == 1 && ENGINE_GATE_SIGMOID == 2 &&
			       ENGINE_GATE_SOFTMAX_CHOSEN == 3 && ENGINE_GATE_SQRT_SOFTPLUS == 4,
		       "llama_expert_gating_func_type");

	return gating <= ENGINE_GATE_SQRT_SOFTPLUS ? gating : 0;
}

static void describe_model(struct engine_context *out, const struct llama_model *m)
{
	const struct gguf_model *g = &m->gguf;

	out->architecture = g->architecture;
	out->name = g->name;
	out->path = m->path;
	out->quantisation = g->quantisation;
	out->layers = g->moe_layers;
	out->layer_ids = g->layer_ids;
	out->experts = g->experts;
	out->k = g->experts_used;
	out->shared_experts = g->experts_shared;
	out->vocabulary = g->vocabulary;
	out->blocks = g->blocks;
	out->normalised = g->weights_normalised;
	out->from_file = true;
	out->gate = gate_of(g->gating_function);
	out->groups = g->expert_groups == GGUF_UNKNOWN ? 0 : g->expert_groups;
	out->groups_used = g->expert_groups_used == GGUF_UNKNOWN ? 0 : g->expert_groups_used;
	out->scale = g->weights_scale;
	out->kv_type = m->kv_type;
	out->model_digest = is_set(g->header_digest) ? g->header_digest : NULL;
	out->tokenizer_digest = is_set(g->tokens_digest) ? g->tokens_digest : NULL;
}

static void describe_context(struct engine_context *out, const struct llama_context *c)
{
	out->architecture = out->name = out->path = out->quantisation = "";
	out->layers = c->layers;
	out->layer_ids = c->layer_ids;
	out->experts = c->experts;
	out->k = c->k;
	out->shared_experts = out->vocabulary = out->blocks = out->normalised = ENGINE_UNKNOWN;
	out->from_file = false;
}

int llama_contexts__new(struct llama_contexts **out, const struct llama_models *models, pid_t pid)
{
	struct llama_contexts *s = calloc(1, sizeof(*s));

	*out = s;
	if (!s)
		return -ENOMEM;
	s->models = models;
	s->pid = pid;
	if (models->count == 1) {
		describe_model(&s->from_file, &models->item[0]);
		s->from_file.pid = pid;
	}
	return 0;
}

uint32_t llama_contexts__continue(struct llama_contexts *s, const struct llama_contexts *before)
{
	s->next_id = before->next_id;
	s->from_file.context = s->next_id + 1;
	return s->next_id + 1;
}

void llama_contexts__free(struct llama_contexts *s)
{
	free(s);
}

const struct engine_context *llama_contexts__from_file(const struct llama_contexts *s)
{
	return s->models->count == 1 ? &s->from_file : NULL;
}

static bool has_layer(const struct llama_context *c, uint32_t layer)
{
	for (uint32_t i = 0; i < c->layers; i++)
		if (c->layer_ids[i] == layer)
			return true;
	return false;
}

/* Ascending. false: more layers than any model has. */
static bool add_layer(struct llama_context *c, uint32_t layer)
{
	uint32_t i = c->layers;

	if (c->layers == GGUF_LAYERS_MAX)
		return false;
	for (; i && c->layer_ids[i - 1] > layer; i--)
		c->layer_ids[i] = c->layer_ids[i - 1];
	c->layer_ids[i] = (uint16_t)layer;
	c->layers++;
	c->changed = true;
	return true;
}

static bool is_warm_up(const struct llama_contexts *s, const struct llama_route_head *h)
{
	if (h->k != h->stride)
		return false;
	/* Ids that lie densely have stride k too: then only a model with k experts is warmed up. */
	if (!s->models->count)
		return true;
	for (size_t i = 0; i < s->models->count; i++) {
		const struct gguf_model *g = &s->models->item[i].gguf;

		if (g->experts == h->k && g->experts_used != h->k)
			return true;
	}
	return false;
}

static struct llama_context *context__new(struct llama_contexts *s)
{
	struct llama_context *c = &s->item[0];

	if (s->count < CONTEXTS_MAX) {
		c = &s->item[s->count++];
	} else {
		for (size_t i = 1; i < s->count; i++)
			if (s->item[i].used < c->used)
				c = &s->item[i];
	}
	memset(c, 0, sizeof(*c));
	c->last_layer = ENGINE_UNKNOWN;
	c->changed = true;
	return c;
}

/* The first route of a context: which model is it? NULL: none. */
static struct llama_context *context__begin(struct llama_contexts *s, uint32_t tid,
					    const struct llama_route_head *h)
{
	const struct llama_model *m = llama_models__find(s->models, h->stride, h->k, h->layer);
	struct llama_context *c;

	/* With a file, a geometry that is not the file's is a layout misread, unless the layout has
	 * already proved right: then it is a model whose file we do not know. */
	if (!m && s->models->count == 1 && !s->file_confirmed)
		return NULL;
	c = context__new(s);
	c->tid = tid;
	c->k = h->k;
	if (!m) {
		c->experts = h->stride;
		add_layer(c, h->layer);
		return c;
	}
	s->file_confirmed = true;
	c->model = m;
	c->experts = m->gguf.experts;
	c->layers = m->gguf.moe_layers;
	memcpy(c->layer_ids, m->gguf.layer_ids, sizeof(c->layer_ids));
	c->last_layer = c->layer_ids[c->layers - 1];
	return c;
}

static bool context__takes(const struct llama_context *c, uint32_t tid,
			   const struct llama_route_head *h)
{
	return c->tid == tid && c->k == h->k &&
	       (c->experts == h->stride || (c->model && h->stride == h->k)) &&
	       (!c->model || has_layer(c, h->layer));
}

struct llama_context *llama_contexts__by_id(struct llama_contexts *s, uint32_t id)
{
	for (size_t i = 0; i < s->count; i++)
		if (s->item[i].id == id)
			return &s->item[i];
	return NULL;
}

enum llama_fit llama_contexts__fit(struct llama_contexts *s, uint32_t tid,
				   const struct llama_route_head *h, struct llama_context **out)
{
	struct llama_context *c = NULL;

	*out = NULL;
	if (is_warm_up(s, h))
		return LLAMA_FIT_WARM_UP;
	for (size_t i = 0; i < s->count && !c; i++)
		if (context__takes(&s->item[i], tid, h))
			c = &s->item[i];
	if (!c)
		c = context__begin(s, tid, h);
	if (!c || (!has_layer(c, h->layer) && !add_layer(c, h->layer)))
		return LLAMA_FIT_MISMATCH;
	c->used = ++s->calls;
	*out = c;
	return LLAMA_FIT_OK;
}

int llama_contexts__say(struct llama_contexts *s, struct llama_context *c,
			const struct engine_sink *sink)
{
	struct engine_context out = { 0 };

	if (!c->changed)
		return 0;
	c->changed = false;
	if (!c->id)
		c->id = ++s->next_id;
	if (c->model)
		describe_model(&out, c->model);
	else
		describe_context(&out, c);
	out.context = c->id;
	out.pid = s->pid;
	out.key = c->tid;
	return sink->context(sink->ctx, &out);
}
