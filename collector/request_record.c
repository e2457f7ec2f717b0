/* SPDX-License-Identifier: BSD-2-Clause */
#include "collector/request_record.h"

#include <math.h>
#include <string.h>

#include "collector/trace/writer.h"
#include "probe/engine/sink.h"

#define TOKENS_MAX (1u << 20) /* of a prompt */

#define APPEND(w, type, record, column, columns) \
	trace_writer__append((w), (type), (record), sizeof(*(record)), (column), (columns))

/* Entries of the prompt that are written. */
static uint32_t prompt_tokens(const struct engine_request *q)
{
	return q->tokens && q->prompt != ENGINE_UNKNOWN && q->prompt <= TOKENS_MAX ? q->prompt : 0;
}

size_t request_record__begin_bytes(const struct engine_request *q)
{
	size_t client_id = q->client_id ? strnlen(q->client_id, TRACE_TEXT_MAX) : 0;

	return sizeof(struct trace_context) + sizeof(struct trace_sequence) +
	       sizeof(struct trace_request_begin) + client_id + 8 +
	       prompt_tokens(q) * sizeof(*q->tokens) + 8 + sizeof(struct trace_bind);
}

int request_record__begin(struct trace_writer *w, struct trace_record head,
			  const struct engine_request *q)
{
	static const struct engine_sampling unknown = { NAN, NAN, ENGINE_UNKNOWN, ENGINE_UNKNOWN };
	const struct engine_sampling *sampling = q->sampling ? q->sampling : &unknown;
	struct trace_request_begin r = {
		.head = head,
		.request = q->request,
		.context = q->context,
		.sequence = q->sequence,
		.slot = q->slot,
		.task = q->task,
		.cached = q->cached,
		.prompt = q->prompt,
		.prompt_known = prompt_tokens(q),
		.begin_ns = q->before_attach ? UINT64_MAX : q->begin_ns,
		.temperature = sampling->temperature,
		.top_p = sampling->top_p,
		.top_k = sampling->top_k,
		.max_tokens = sampling->max_tokens,
	};
	struct trace_column column[2] = {
		trace_column__text(q->client_id, &r.client_id_length),
		{ q->tokens, prompt_tokens(q) * sizeof(*q->tokens) },
	};

	r.head.flags = q->before_attach ? TRACE_REQUEST_BEFORE_ATTACH : 0;
	return APPEND(w, TRACE_REQUEST_BEGIN, &r, column, 2);
}

size_t request_record__info_bytes(const struct engine_request_info *i)
{
	const char *const text[] = { i->client_id, i->request_id, i->trace_id, i->adapter,
				     i->labels };
	size_t bytes = sizeof(struct trace_request_info);

	for (size_t n = 0; n < sizeof(text) / sizeof(*text); n++)
		bytes += text[n] ? strnlen(text[n], TRACE_TEXT_MAX) + 8 : 0;
	return bytes;
}

int request_record__info(struct trace_writer *w, struct trace_record head,
			 const struct engine_request_info *i)
{
	struct trace_request_info r = {
		.head = head,
		.request = i->request,
		.certainty = i->inferred ? TRACE_INFERRED : TRACE_EXACT,
		.origin = i->origin,
	};
	struct trace_column column[] = {
		trace_column__text(i->client_id, &r.client_id_length),
		trace_column__text(i->request_id, &r.request_id_length),
		trace_column__text(i->trace_id, &r.trace_id_length),
		trace_column__text(i->adapter, &r.adapter_length),
		trace_column__text(i->labels, &r.labels_length),
	};

	return APPEND(w, TRACE_REQUEST_INFO, &r, column, 5);
}

int request_record__bind(struct trace_writer *w, struct trace_record head,
			 const struct engine_bind *b)
{
	struct trace_bind r = {
		.head = head,
		.sequence = b->sequence,
		.request = b->request,
		.position = b->position,
		.certainty = b->inferred ? TRACE_INFERRED : TRACE_EXACT,
		.origin = b->origin,
	};

	return APPEND(w, TRACE_BIND, &r, NULL, 0);
}

int request_record__end(struct trace_writer *w, struct trace_record head,
			const struct engine_request_end *q, uint32_t rows)
{
	struct trace_request_end r = {
		.head = head,
		.request = q->request,
		.ending = q->ending,
		.rows = rows,
		.tokens = q->tokens,
		.finish = q->finish,
		.certainty = q->inferred ? TRACE_INFERRED : TRACE_EXACT,
		.prompt = q->prompt ? q->prompt : TRACE_UNKNOWN,
		.generated = q->generated,
	};

	return APPEND(w, TRACE_REQUEST_END, &r, NULL, 0);
}
