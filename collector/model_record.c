/* SPDX-License-Identifier: BSD-2-Clause */
#include "collector/model_record.h"

#include <math.h>
#include <string.h>

#include "collector/trace/writer.h"
#include "probe/engine/sink.h"

int model_record__context(struct trace_writer *w, struct trace_record head, uint32_t process,
			  const struct engine_context *c)
{
	struct trace_context r = {
		.head = head,
		.context = c->context,
		.process = process,
		.key = c->key,
		.model_key = c->model_key,
		.replica_of = c->replica_of,
	};

	return trace_writer__append(w, TRACE_CONTEXT, &r, sizeof(r), NULL, 0);
}

int model_record__model(struct trace_writer *w, struct trace_record head, uint32_t context,
			const struct engine_context *c)
{
	struct trace_model r = {
		.head = head,
		.context = context,
		.layers = c->layers,
		.experts = c->experts,
		.k = c->k,
		.shared_experts = c->shared_experts,
		.vocabulary = c->vocabulary,
		.blocks = c->blocks,
		.normalised = c->normalised,
		.gate = c->gate,
		.groups = c->groups ? c->groups : TRACE_UNKNOWN,
		.groups_used = c->groups_used ? c->groups_used : TRACE_UNKNOWN,
		.scale = c->scale != 0 ? c->scale : NAN,
	};
	struct trace_column column[] = {
		{ c->layer_ids, c->layers * sizeof(*c->layer_ids) },
		trace_column__text(c->architecture, &r.architecture_length),
		trace_column__text(c->name, &r.name_length),
		trace_column__text(c->path, &r.path_length),
		trace_column__text(c->quantisation, &r.quantisation_length),
		trace_column__text(c->kv_type, &r.kv_type_length),
	};

	_Static_assert(sizeof(r.model_digest) == ENGINE_DIGEST_BYTES, "sink.h, records.h");
	if (c->model_digest)
		memcpy(r.model_digest, c->model_digest, sizeof(r.model_digest));
	if (c->tokenizer_digest)
		memcpy(r.tokenizer_digest, c->tokenizer_digest, sizeof(r.tokenizer_digest));

	if (c->from_file)
		r.head.flags |= TRACE_MODEL_FROM_FILE;
	if (c->ordinals)
		r.head.flags |= TRACE_MODEL_ORDINALS;
	return trace_writer__append(w, TRACE_MODEL, &r, sizeof(r), column, 6);
}
