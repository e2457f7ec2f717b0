/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/engine/vllm/batches_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "probe/engine/aten/layers.h"
#include "probe/engine/vllm/passes.h"

int vllm_batches__new(struct vllm_batches **out, struct vllm_requests *requests,
		      struct vllm_held *held)
{
	int err;

	*out = calloc(1, sizeof(**out));
	if (!*out)
		return -ENOMEM;
	(*out)->requests = requests;
	(*out)->held = held;
	err = vllm_passes__new(&(*out)->passes);
	if (err) {
		vllm_batches__free(*out);
		*out = NULL;
	}
	return err;
}

void vllm_batches__free(struct vllm_batches *b)
{
	if (!b)
		return;
	vllm_passes__free(b->passes);
	free(b->run);
	free(b->row);
	free(b->route);
	free(b);
}

static int reserve(void *array, uint32_t *capacity, uint32_t count, size_t size)
{
	void **block = array, *more;

	if (count <= *capacity)
		return 0;
	more = realloc(*block, count * size);
	if (!more)
		return -ENOMEM;
	*block = more;
	*capacity = count;
	return 0;
}

/* Forget the sequences whose requests ended. Indices change. */
static void forget_ended(struct vllm_batches *b)
{
	bool in_doubt = false;

	for (uint32_t i = 0; i < b->live;) {
		if (sequence__is_over(&b->sequence[i])) {
			b->sequence[i] = b->sequence[--b->live];
			continue;
		}
		in_doubt |= b->sequence[i++].asked->inferred;
	}
	b->is_distrusted &= in_doubt;
}

void vllm_batches__leave(struct vllm_batches *b, uint32_t tgid)
{
	for (uint32_t i = 0; i < b->live;) {
		if (b->sequence[i].tgid == tgid)
			b->sequence[i] = b->sequence[--b->live];
		else
			i++;
	}
}

/* --- a step's runs ------------------------------------------------------------------------------
 */

static int64_t column(const struct aten_column *c, uint32_t i)
{
	return i < c->count ? c->value[i] : -1;
}

/* Cut the step where it says that requests begin. False: what it says contradicts itself. */
static bool cut(struct vllm_batches *b, const struct aten_step *s, uint32_t runs)
{
	if (column(&s->start, 0) || column(&s->start, runs) != s->rows ||
	    s->position.count != s->rows)
		return false;
	for (uint32_t i = 0; i < runs; i++) {
		int64_t first = s->start.value[i], end = s->start.value[i + 1];
		struct run *r = &b->run[i];

		if (end <= first || end > s->rows || s->position.value[first] < 0 ||
		    s->position.value[first] + (end - first) > INT32_MAX)
			return false;
		for (int64_t row = first + 1; row < end; row++)
			if (s->position.value[row] != s->position.value[row - 1] + 1)
				return false;
		*r = (struct run){
			.first = (uint32_t)first,
			.rows = (uint32_t)(end - first),
			.position = (uint32_t)s->position.value[first],
			.slot = column(&s->slot, (uint32_t)first),
			.last_slot = column(&s->slot, (uint32_t)end - 1),
		};
	}
	return true;
}

/* --- saying the step
 * ------------------------------------------------------------------------------ */

/* The slot of @r's last row, which goes on with @q: where it was not captured, the one that follows
 * from @q's, within a block. */
static int64_t last_slot(const struct sequence *q, const struct run *r, int64_t block_size)
{
	int64_t at = block_size > 0 ? r->position % block_size : 0;

	if (r->last_slot >= 0 || q->slot < 0 || q->next != r->position)
		return r->last_slot;
	return at && at + r->rows <= block_size ? q->slot + r->rows : -1;
}

static void note_rows(struct vllm_batches *b, const struct aten_step *s, uint32_t number)
{
	const struct run *r = &b->run[number];
	struct sequence *q = &b->sequence[r->sequence - 1];

	q->slot = last_slot(q, r, s->scalar);
	q->next = r->position + r->rows;
	q->row = number;
	q->computation = s->computation;
	for (uint32_t i = r->rows < RECENT ? 0 : r->rows - RECENT; i < r->rows; i++)
		q->recent[(r->position + i) % RECENT] = (int32_t)column(&s->token, r->first + i);
	q->asked->last_ns = s->end_ns;
}

/* Whoever had a block that is written to now has it no more. */
static void note_written(struct vllm_batches *b, const struct aten_step *s,
			 const struct aten_context *c)
{
	for (uint32_t i = 0; s->scalar > 0 && i < b->live; i++) {
		struct sequence *q = &b->sequence[i];

		if (q->context != c->id || q->step == b->steps || q->slot < 0)
			continue;
		for (uint32_t row = 0; row < s->slot.count; row++)
			if (s->slot.value[row] / s->scalar == q->slot / s->scalar) {
				q->slot = -1;
				break;
			}
	}
}

static struct owner sequence__owner(const struct sequence *q)
{
	bool known = q->asked->hash && q->asked->prompt != ENGINE_UNKNOWN;

	return (struct owner){ q->number, q->request, known ? q->asked->prefill : ENGINE_UNKNOWN };
}

static void run__rows(const struct aten_step *s, const struct run *r, struct engine_row *to)
{
	const struct owner *o = &r->owner;
	bool known = o->prefill != ENGINE_UNKNOWN;

	for (uint32_t i = 0; i < r->rows; i++) {
		uint32_t position = r->position + i;
		int64_t token = column(&s->token, r->first + i);

		to[i] = (struct engine_row){
			.sequence = o->sequence,
			.request = o->request,
			.position = position,
			.token = token >= 0 && token <= INT32_MAX ? (int32_t)token : -1,
			.phase = !o->sequence || !known  ? ENGINE_PHASE_UNKNOWN
				 : position < o->prefill ? ENGINE_PREFILL
							 : ENGINE_DECODE,
			.output = known ? position + 1 >= o->prefill : i + 1 == r->rows,
		};
	}
}

static void fill_route(struct engine_route *out, const struct aten_layer *l,
		       const struct aten_context *c)
{
	*out = (struct engine_route){
		.layer = l->ordinal < c->layers ? c->layer_id[l->ordinal] : l->ordinal,
		.rows = l->rows,
		.k = l->k,
		.ids = l->ids,
		.weights = l->weights,
		.flags = c->by_scores && c->gate.final == ATEN_RAW ? ENGINE_ROUTE_RAW : 0,
		.row_flags = aten_layer__has_flags(l) ? l->flags : NULL,
	};
}

static int say(struct vllm_batches *b, const struct aten_step *s, struct aten_context *c,
	       uint32_t runs, uint64_t batch, const struct engine_sink *sink)
{
	struct engine_step out = {
		.context = c->id,
		.step = ++c->steps,
		.begin_ns = s->begin_ns,
		.end_ns = s->end_ns,
		.rows = s->rows,
		.row = b->row,
		.routes = s->layers,
		.route = b->route,
		.batch = batch,
	};

	for (uint32_t i = 0; i < runs; i++)
		run__rows(s, &b->run[i], b->row + b->run[i].first);
	for (uint32_t i = 0; i < s->layers; i++)
		fill_route(&b->route[i], &s->layer[i], c);
	return sink->step(sink->ctx, &out);
}

/* Whose rows the step has, which nobody has said yet. */
static int find_owners(struct vllm_batches *b, const struct aten_step *s, struct aten_context *c,
		       uint32_t runs, const struct engine_sink *sink)
{
	int err;

	vllm_held__hold(b->held);
	err = batches__assign(b, s, c, runs, sink);
	for (uint32_t i = 0; i < runs && !err; i++) {
		struct run *r = &b->run[i];

		r->owner = (struct owner){ 0, ENGINE_UNKNOWN, ENGINE_UNKNOWN };
		if (!r->sequence)
			continue;
		note_rows(b, s, i);
		r->owner = sequence__owner(&b->sequence[r->sequence - 1]);
	}
	note_written(b, s, c);
	return err;
}

/* --- stages of a pipeline ----------------------------------------------------------------------
 */

static uint64_t hash_tokens(const struct aten_step *s, const struct run *r)
{
	uint64_t hash = 0xcbf29ce484222325ull; /* FNV-1a, by tokens */

	if (s->token.count < s->rows)
		return 0;
	for (uint32_t i = 0; i < r->rows; i++)
		hash = (hash ^ (uint64_t)s->token.value[r->first + i]) * 0x100000001b3ull;
	return hash | 1;
}

/* Another stage said whose rows these are; who is corrected meanwhile is another's. */
static void refresh_owners(struct vllm_batches *b, const struct aten_step *s, uint32_t runs)
{
	for (uint32_t i = 0; i < runs; i++) {
		struct owner *o = &b->run[i].owner;

		for (uint32_t n = 0; n < b->live; n++) {
			struct sequence *q = &b->sequence[n];

			if (q->number != o->sequence)
				continue;
			q->asked->last_ns = s->end_ns;
			if (q->request != o->request && q->first <= b->run[i].position)
				*o = sequence__owner(q);
			break;
		}
	}
}

/* The same as find_owners() of a stage of @home's pipeline; in *@batch which pass it is. */
static int find_pass(struct vllm_batches *b, const struct aten_step *s,
		     const struct aten_context *c, struct aten_context *home, uint32_t runs,
		     uint64_t *batch, const struct engine_sink *sink)
{
	int err;

	for (uint32_t i = 0; i < runs; i++)
		b->run[i].tokens = hash_tokens(s, &b->run[i]);
	*batch = vllm_passes__join(b->passes, home->id, c->id, b->run, runs);
	if (*batch) {
		refresh_owners(b, s, runs);
		return 0;
	}
	err = find_owners(b, s, home, runs, sink);
	return err ? err : vllm_passes__add(b->passes, home->id, c->id, b->run, runs, batch);
}

int vllm_batches__step(struct vllm_batches *b, struct aten_step *s, struct aten_context *c,
		       struct aten_context *home, const struct engine_sink *sink)
{
	uint32_t runs = s->start.count > 1 ? s->start.count - 1 : 0;
	uint64_t batch = 0;
	int err, err_settle;

	if (!c || !s->rows)
		return 0;
	err = reserve(&b->run, &b->run_capacity, runs, sizeof(*b->run));
	if (!err)
		err = reserve(&b->row, &b->row_capacity, s->rows, sizeof(*b->row));
	if (!err)
		err = reserve(&b->route, &b->route_capacity, s->layers, sizeof(*b->route));
	if (err)
		return err;
	if (!runs || !cut(b, s, runs))
		return sink->invalid(sink->ctx, ENGINE_INVALID_ROW, s->layers);
	b->steps++;
	forget_ended(b);
	err = home ? find_pass(b, s, c, home, runs, &batch, sink)
		   : find_owners(b, s, c, runs, sink);
	err_settle = vllm_batches__settle(b, s->end_ns, sink);
	err = err ? err : err_settle;
	return err ? err : say(b, s, c, runs, batch, sink);
}

int vllm_batches__settle(struct vllm_batches *b, uint64_t now_ns, const struct engine_sink *sink)
{
	int err, err_release;

	if (batches__in_doubt(b) && !vllm_held__is_full(b->held, now_ns))
		return 0;
	err = batches__say_doubts(b, now_ns, sink);
	err_release = vllm_held__release(b->held);
	return err ? err : err_release;
}
