/* SPDX-License-Identifier: BSD-2-Clause */
#include "collector/model_record.h"

#include <string.h>

#include "collector/trace/writer.h"
#include "probe/engine/sink.h"

#define STRING_MAX 4096u /* bytes of a name or path */

static struct trace_column text_column(const char *text, uint16_t *length)
{
	size_t n = text ? strnlen(text, STRING_MAX) : 0;

	*length = (uint16_t)n;
	return (struct trace_column){ text, n };
}

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
	};
	struct trace_column column[] = {
		{ c->layer_ids, c->layers * sizeof(*c->layer_ids) },
		text_column(c->architecture, &r.architecture_length),
		text_column(c->name, &r.name_length),
		text_column(c->path, &r.path_length),
		text_column(c->quantisation, &r.quantisation_length),
	};

	if (c->from_file)
		r.head.flags |= TRACE_MODEL_FROM_FILE;
	return trace_writer__append(w, TRACE_MODEL, &r, sizeof(r), column, 5);
}
