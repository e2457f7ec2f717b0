/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/engine/aten/context.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "probe/abi/site.h"

/* Routers of models that nobody described. */
#define ANY_EXPERTS_MAX 1024
/* Below this an embedding is not one of tokens. */
#define ANY_VOCABULARY_MIN 128

struct aten_contexts {
	const struct model_folders *folders;
	bool gathers;
	uint64_t calls;
	uint32_t said; /* ids given */
	size_t count;
	struct aten_context item[ATEN_CONTEXTS_MAX];
	struct engine_context preview;
};

int aten_contexts__new(struct aten_contexts **out, const struct model_folders *folders,
		       bool gathers)
{
	*out = calloc(1, sizeof(**out));
	if (!*out)
		return -ENOMEM;
	(*out)->folders = folders;
	(*out)->gathers = gathers;
	return 0;
}

void aten_contexts__free(struct aten_contexts *s)
{
	free(s);
}

static uint32_t known(uint32_t value)
{
	return value == MODEL_UNKNOWN ? ENGINE_UNKNOWN : value;
}

static bool folder__fits(const struct model_folder *f, const struct aten_identity *i)
{
	const struct model_config *c = &f->config;

	return (c->experts == MODEL_UNKNOWN || c->experts == i->experts) &&
	       (c->k == MODEL_UNKNOWN || c->k == i->k) &&
	       (!i->vocabulary || c->vocabulary == MODEL_UNKNOWN || c->vocabulary == i->vocabulary);
}

/* The only folder that fits. In *@some whether any does. */
static const struct model_folder *find_folder(const struct model_folders *m,
					      const struct aten_identity *i, bool *some)
{
	const struct model_folder *found = NULL;
	size_t fits = 0;

	for (size_t n = 0; n < m->count; n++) {
		if (!folder__fits(&m->item[n], i))
			continue;
		found = &m->item[n];
		fits++;
	}
	*some = fits || !m->count;
	return fits == 1 ? found : NULL;
}

static void context__describe(struct aten_context *c, const struct model_folder *folder,
			      bool gathers)
{
	c->folder = folder;
	c->gate = aten_gate__of(folder ? &folder->config : NULL);
	if (c->gate.gathered != gathers)
		c->gate = (struct aten_gate){ ATEN_RAW, 1, gathers, false, false };
	if (!folder || !folder->config.moe_layers)
		return;
	c->layers = folder->config.moe_layers;
	c->layers_known = true;
	memcpy(c->layer_id, folder->config.layer_ids, c->layers * sizeof(*c->layer_id));
}

static struct aten_context *place_for_new(struct aten_contexts *s)
{
	struct aten_context *oldest = &s->item[0];

	if (s->count < ATEN_CONTEXTS_MAX)
		return &s->item[s->count++];
	for (size_t i = 1; i < s->count; i++)
		if (s->item[i].used < oldest->used)
			oldest = &s->item[i];
	return oldest;
}

struct aten_context *aten_contexts__find(struct aten_contexts *s, uint32_t tgid, uint64_t key)
{
	for (size_t i = 0; i < s->count; i++)
		if (s->item[i].tgid == tgid && s->item[i].key == key)
			return &s->item[i];
	return NULL;
}

struct aten_context *aten_contexts__fit(struct aten_contexts *s, const struct aten_identity *i)
{
	struct aten_context *c = aten_contexts__find(s, i->tgid, i->key);
	const struct model_folder *folder;
	bool some;

	if (c && c->experts == i->experts && c->k == i->k) {
		c->used = ++s->calls;
		return c;
	}
	folder = find_folder(s->folders, i, &some);
	if (!some)
		return NULL;
	if (!c)
		c = place_for_new(s);
	*c = (struct aten_context){
		.tgid = i->tgid,
		.key = i->key,
		.vocabulary = i->vocabulary,
		.experts = i->experts,
		.k = i->k,
		.used = ++s->calls,
		.changed = true,
	};
	context__describe(c, folder, s->gathers);
	return c;
}

bool aten_contexts__learn_routers(const struct aten_contexts *s)
{
	return !s->folders->count;
}

void aten_contexts__learn(struct aten_contexts *s, const struct aten_identity *i,
			  const struct aten_shown *shown)
{
	struct aten_context *c = aten_contexts__find(s, i->tgid, i->key);
	struct aten_identity id = *i;

	id.experts = shown->experts;
	id.k = shown->k;
	c = c ? c : aten_contexts__fit(s, &id);
	if (aten_shown__agree(&c->router, shown)) {
		c->candidate.experts = 0;
	} else if (aten_shown__agree(&c->candidate, shown)) {
		c = aten_contexts__fit(s, &id); /* another one if the router is */
		c->router = *shown;
		c->candidate.experts = 0;
	} else {
		c->candidate = *shown;
	}
}

void aten_context__had_layers(struct aten_context *c, uint32_t layers)
{
	if (c->layers_known || layers > ATEN_LAYERS_MAX)
		return;
	for (; c->layers < layers; c->layers++) {
		c->layer_id[c->layers] = (uint16_t)c->layers;
		c->changed = true;
	}
}

static void fill_from_folder(struct engine_context *out, const struct model_folder *f)
{
	const struct model_config *c = &f->config;

	out->architecture = c->model_type;
	out->name = f->name;
	out->path = f->path;
	out->quantisation = c->quantisation[0] ? c->quantisation : c->dtype;
	out->layers = c->moe_layers;
	out->layer_ids = c->layer_ids;
	out->experts = known(c->experts);
	out->k = known(c->k);
	out->shared_experts = known(c->shared_experts);
	out->vocabulary = known(c->vocabulary);
	out->blocks = known(c->blocks);
	out->normalised = known(c->weights_normalised);
	out->from_file = true;
	out->groups = c->groups == MODEL_UNKNOWN ? 0 : c->groups;
	out->groups_used = c->groups_used == MODEL_UNKNOWN ? 0 : c->groups_used;
	if (f->has_digest)
		out->model_digest = f->digest;
	if (f->has_tokenizer_digest)
		out->tokenizer_digest = f->tokenizer_digest;
}

/* What the family's code makes of its logits. */
static uint32_t gate_function(const struct aten_gate *g)
{
	if (g->final == ATEN_RAW)
		return 0;
	if (g->final == ATEN_SOFTMAX)
		return ENGINE_GATE_SOFTMAX_CHOSEN;
	return g->gathered ? ENGINE_GATE_SIGMOID : ENGINE_GATE_SOFTMAX;
}

static struct engine_context empty_context(uint32_t tgid)
{
	return (struct engine_context){
		.pid = (pid_t)tgid,
		.architecture = "",
		.name = "",
		.path = "",
		.quantisation = "",
		.shared_experts = ENGINE_UNKNOWN,
		.vocabulary = ENGINE_UNKNOWN,
		.blocks = ENGINE_UNKNOWN,
		.normalised = ENGINE_UNKNOWN,
		.whole_last_layer = true,
	};
}

int aten_contexts__say(struct aten_contexts *s, struct aten_context *c,
		       const struct engine_sink *sink)
{
	struct engine_context out = empty_context(c->tgid);

	if (!c->changed)
		return 0;
	if (!c->id)
		c->id = ++s->said;
	c->changed = false;
	if (c->folder)
		fill_from_folder(&out, c->folder);
	if (c->vocabulary)
		out.vocabulary = c->vocabulary;
	out.context = c->id;
	out.key = c->key;
	out.model_key = c->model_key;
	out.replica_of = c->replica_of;
	out.experts = c->experts;
	out.k = c->k;
	out.layers = c->layers;
	out.layer_ids = c->layer_id;
	out.ordinals = !c->layers_known;
	out.gate = gate_function(&c->gate);
	if (c->gate.final != ATEN_RAW)
		out.scale = c->gate.scale;
	if (c->gate.final != ATEN_RAW)
		out.normalised = c->gate.scale == 1 && (c->gate.final == ATEN_NORMALISED ||
							c->gate.final == ATEN_SOFTMAX);
	return sink->context(sink->ctx, &out);
}

const struct engine_context *aten_contexts__preview(struct aten_contexts *s, pid_t pid)
{
	if (s->folders->count != 1)
		return NULL;
	s->preview = empty_context((uint32_t)pid);
	fill_from_folder(&s->preview, &s->folders->item[0]);
	s->preview.context = 1;
	s->preview.ordinals = !s->preview.layers;
	return &s->preview;
}

static void widen(uint32_t *min, uint32_t *max, uint32_t value, uint32_t least, uint32_t most)
{
	if (value == MODEL_UNKNOWN || value < least || value > most) {
		*min = least;
		*max = most;
		return;
	}
	*min = value < *min ? value : *min;
	*max = value > *max ? value : *max;
}

struct aten_range aten_range__of(const struct model_folders *folders)
{
	struct aten_range r = { UINT32_MAX, 0, UINT32_MAX, 0, UINT32_MAX, 0 };

	for (size_t i = 0; i < folders->count; i++) {
		const struct model_config *c = &folders->item[i].config;

		widen(&r.experts_min, &r.experts_max, c->experts, 2, UINT16_MAX);
		widen(&r.k_min, &r.k_max, c->k, 1, MP_TOP_K);
		widen(&r.vocabulary_min, &r.vocabulary_max, c->vocabulary, 2, INT32_MAX);
	}
	if (folders->count)
		return r;
	return (struct aten_range){
		2, ANY_EXPERTS_MAX, 1, MP_TOP_K, ANY_VOCABULARY_MIN, INT32_MAX
	};
}
