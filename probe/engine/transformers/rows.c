/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/engine/transformers/rows.h"

#include "probe/engine/aten/layers.h"

#include <stddef.h>

static bool is_stop(const struct aten_context *c, int64_t token)
{
	for (uint32_t i = 0; c->folder && i < c->folder->config.eos_count; i++)
		if (token == (int64_t)c->folder->config.eos[i])
			return true;
	return false;
}

/* -1: not known, or none that a model has. */
static int32_t token_of(const struct aten_step *s, uint32_t row)
{
	int64_t token = s->token.count > row ? s->token.value[row] : -1;

	return token < 0 || token > INT32_MAX ? -1 : (int32_t)token;
}

/* Rows of a run that is nobody's: padding, in the middle of what began before us, or of a sequence
 * that had to make room. */
static uint32_t run__strangers(const struct aten_step *s, const struct run *r,
			       struct engine_row *to)
{
	for (uint32_t i = 0; i < r->rows; i++)
		to[i] = (struct engine_row){
			.sequence = ENGINE_UNKNOWN,
			.request = ENGINE_UNKNOWN,
			.position = ENGINE_UNKNOWN,
			.token = token_of(s, r->first + i),
			.phase = ENGINE_PHASE_UNKNOWN,
			.output = i + 1 == r->rows && !r->padding,
			.flags = r->padding ? ENGINE_ROW_PADDING : 0,
		};
	return r->rows;
}

/* One row is a piece of a prompt that was cut, or of a text; where what came before it was not seen
 * nobody knows. */
static uint8_t phase_of(const struct run *r, const struct sequence *own)
{
	if (r->rows > 1 || !r->position)
		return ENGINE_PREFILL;
	if (!own->next || (own->cut && r->position > own->next))
		return ENGINE_PHASE_UNKNOWN;
	return own->cut ? ENGINE_PREFILL : ENGINE_DECODE;
}

/* @own goes on with @r. */
static void advance(struct sequence *own, const struct aten_step *s, const struct run *r,
		    uint8_t phase)
{
	/* Rows of lost steps were of the text, if its prompt was over. */
	if (own->next && r->position > own->next && !own->cut && !own->stopped)
		own->generated += r->position - own->next;
	/* How long its prompt was is known only where its end was seen. */
	if (own->next && phase == ENGINE_PHASE_UNKNOWN)
		own->unseen = true;
	own->cut = r->cut && phase != ENGINE_DECODE;
	own->next = r->position + r->rows;
	own->slot = r->last_slot;
	own->last_ns = s->end_ns;
	if (phase == ENGINE_PREFILL)
		own->prompt = own->next;
	else if (phase == ENGINE_DECODE && !own->stopped)
		own->generated++;
}

uint32_t transformers_rows__say(struct engine_row *to, const struct aten_step *s,
				const struct aten_context *c, const struct run *r,
				struct sequence *own)
{
	uint8_t phase;
	bool cut;

	if (!own)
		return run__strangers(s, r, to);
	phase = phase_of(r, own);
	cut = r->cut && phase != ENGINE_DECODE;
	/* Of a batch that goes on for the others: what is fed behind the end is no text of his. */
	if (phase != ENGINE_PREFILL && s->batch > 1 && s->token.count > r->first &&
	    is_stop(c, s->token.value[r->first]))
		own->stopped = true;
	for (uint32_t i = 0; i < r->rows; i++)
		to[i] = (struct engine_row){
			.sequence = r->sequence,
			.request = own->stopped ? ENGINE_UNKNOWN : r->sequence,
			.position = r->position + i,
			.token = token_of(s, r->first + i),
			.phase = own->stopped ? ENGINE_PHASE_UNKNOWN : phase,
			.output = i + 1 == r->rows && !cut && !r->more,
			.flags = own->stopped ? ENGINE_ROW_FINISHED : 0,
		};
	advance(own, s, r, phase);
	return r->rows;
}

void transformers_rows__route(struct engine_route *out, const struct aten_layer *l,
			      const struct aten_context *c)
{
	*out = (struct engine_route){
		.layer = l->ordinal < c->layers ? c->layer_id[l->ordinal] : l->ordinal,
		.rows = l->rows,
		.k = l->k,
		.ids = l->ids,
		.weights = l->weights,
		.flags = c->gate.final == ATEN_RAW ? ENGINE_ROUTE_RAW : 0,
		.row_flags = aten_layer__has_flags(l) ? l->flags : NULL,
	};
}
