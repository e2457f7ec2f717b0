/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/engine/vllm/batches_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "probe/engine/aten/layers.h"
#include "probe/engine/vllm/passes.h"

int vllm_batches__new(struct vllm_batches **out, struct vllm_requests *requests)
{
	int err;

	*out = calloc(1, sizeof(**out));
	if (!*out)
		return -ENOMEM;
	(*out)->requests = requests;
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
	for (uint32_t i = 0; i < b->live;) {
		if (sequence__is_over(&b->sequence[i]))
			b->sequence[i] = b->sequence[--b->live];
		else
			i++;
	}
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
			.block = column(&s->block, i),
		};
	}
	return true;
}

/* --- whose run it is ----------------------------------------------------------------------------
 */

/* True if @r can be what follows in @q, by the cache. */
static bool follows(const struct sequence *q, const struct run *r, int64_t block_size)
{
	if (q->next != r->position)
		return false;
	if (r->slot < 0 || q->slot < 0)
		return r->slot < 0 && q->block == r->block;
	if (!block_size || r->position % block_size)
		return q->slot + 1 == r->slot;
	return (q->slot + 1) % block_size == 0 && q->block == r->block;
}

static bool tokens_fit(const struct sequence *q, const struct aten_step *s, const struct run *r)
{
	return s->token.count < r->first + r->rows ||
	       vllm_asked__fits(q->asked, r->position, s->token.value + r->first, r->rows);
}

/* The sequence that run @number goes on with, 0: none; in *@sure whether another one could not. */
static uint32_t find_sequence(const struct vllm_batches *b, const struct aten_step *s,
			      const struct aten_context *c, uint32_t number, bool *sure)
{
	const struct run *r = &b->run[number];
	uint32_t found = 0, rank = 0, count = 0;

	for (uint32_t i = 0; i < b->live; i++) {
		const struct sequence *q = &b->sequence[i];
		uint32_t better;

		if (q->context != c->id || q->step == b->steps || !follows(q, r, s->scalar))
			continue;
		better = 1 + 2 * tokens_fit(q, s, r) + (q->row == number);
		count += better / 2 == rank / 2;
		if (better <= rank)
			continue;
		if (better / 2 > rank / 2)
			count = 1;
		rank = better;
		found = i + 1;
	}
	*sure = count < 2;
	return found;
}

/* How well a request that fits is what begins now: a preempted one, whose cache others have
 * written to since; one that did not begin; one of which nothing says that it was preempted. */
static uint32_t preference(const struct sequence *q)
{
	return !q ? 2 : q->slot < 0 ? 3 : 1;
}

/* The request whose tokens @r may be, the likeliest; NULL: none. In *@count how many there are, two
 * if that cannot be known. */
static struct vllm_asked *find_asked(struct vllm_batches *b, const struct aten_step *s,
				     const struct aten_context *c, const struct run *r,
				     uint32_t *count)
{
	bool captured = s->token.count >= r->first + r->rows;
	struct vllm_asked *found = NULL;
	uint32_t at = 0, best = 0;

	*count = captured ? 0 : 1;
	for (struct vllm_asked *a; (a = vllm_requests__next(b->requests, &at));) {
		struct sequence *q = batches__sequence(b, c, a);

		if (!a->hash || a->aborted_ns || (q && q->step == b->steps) ||
		    !vllm_asked__fits(a, r->position, captured ? s->token.value + r->first : NULL,
				      captured ? r->rows : 0))
			continue;
		++*count;
		if (preference(q) <= best)
			continue;
		best = preference(q);
		found = a;
	}
	return found;
}

/* A sequence for @a in @c, as if it had not begun. */
static struct sequence *sequence__make(struct vllm_batches *b, const struct aten_context *c,
				       struct vllm_asked *a)
{
	struct sequence *q = batches__sequence(b, c, a);

	if (!q && b->live == SEQUENCES_MAX)
		return NULL;
	if (!q)
		q = &b->sequence[b->live++];
	*q = (struct sequence){ .tgid = c->tgid, .context = c->id, .asked = a, .slot = -1 };
	return q;
}

/* True if rows before @r, or its tokens, were not captured, because it began before we came or
 * while we found our way: a prefix from the cache ends where a block does, and before the prompt
 * does. */
static bool began_unseen(const struct vllm_batches *b, const struct aten_step *s,
			 const struct run *r, const struct vllm_asked *a)
{
	if (!b->has_tokens && s->token.count < s->rows)
		return true;
	if (!a->hash)
		return r->position && r->rows == 1;
	return r->position &&
	       (r->position >= a->prompt || (s->scalar > 0 && r->position % s->scalar));
}

/* The run is the first of request @a (NULL: nobody told of it), or its first since it was
 * preempted. */
static int begin(struct vllm_batches *b, const struct aten_step *s, struct aten_context *c,
		 struct run *r, struct vllm_asked *a, bool sure, const struct engine_sink *sink)
{
	struct sequence *q;
	int err = 0;

	if (!a) {
		a = vllm_requests__nameless(b->requests, s->begin_ns, &err, sink);
		if (!a)
			return err;
	}
	a->inferred |= !sure;
	a->preempted |= a->number && batches__sequence(b, c, a);
	if (a->hash && a->prompt != ENGINE_UNKNOWN)
		a->prefill = a->prompt + a->generated;
	if (!a->number) {
		a->before_attach = began_unseen(b, s, r, a);
		a->cached = a->before_attach ? ENGINE_UNKNOWN : r->position;
		err = vllm_asked__begin(b->requests, a, c->id, s->begin_ns, sink);
	}
	if (err)
		return err;
	q = sequence__make(b, c, a);
	if (!q)
		return 0;
	q->request = a->number;
	q->number = a->sequenced ? vllm_requests__number(b->requests) : a->number;
	q->first = r->position;
	q->step = b->steps;
	r->sequence = (uint32_t)(q - b->sequence) + 1;
	err = a->sequenced ? sequence__say_bind(q, s->begin_ns, sink) : 0;
	a->sequenced = true;
	return err;
}

/* --- a step -------------------------------------------------------------------------------------
 */

/* Begin those of the runs that go on with nothing which can be of one request only; with @forced
 * also the first of the others. */
static int begin_round(struct vllm_batches *b, const struct aten_step *s, struct aten_context *c,
		       uint32_t runs, bool forced, bool *progress, bool *pending,
		       const struct engine_sink *sink)
{
	int err = 0;

	*progress = *pending = false;
	for (uint32_t i = 0; i < runs && !err; i++) {
		struct run *r = &b->run[i];
		struct vllm_asked *a;
		uint32_t count;

		if (r->is_given)
			continue;
		a = find_asked(b, s, c, r, &count);
		r->in_doubt |= count > 1;
		if (count > 1 && !forced) {
			*pending = true;
			continue;
		}
		forced = forced && count < 2;
		err = begin(b, s, c, r, a, !r->in_doubt, sink);
		r->is_given = *progress = true;
	}
	return err;
}

static int begin_new(struct vllm_batches *b, const struct aten_step *s, struct aten_context *c,
		     uint32_t runs, const struct engine_sink *sink)
{
	bool progress = true, pending;
	int err;

	do
		err = begin_round(b, s, c, runs, !progress, &progress, &pending, sink);
	while (!err && pending);
	return err;
}

/* Give each run its sequence: those that go on first. */
static int assign(struct vllm_batches *b, const struct aten_step *s, struct aten_context *c,
		  uint32_t runs, const struct engine_sink *sink)
{
	bool sure;
	int err = 0;

	for (uint32_t i = 0; i < runs; i++) {
		struct run *r = &b->run[i];

		r->sequence = r->position ? find_sequence(b, s, c, i, &sure) : 0;
		if (!r->sequence)
			continue;
		r->is_given = true;
		b->sequence[r->sequence - 1].step = b->steps;
		b->sequence[r->sequence - 1].asked->inferred |= !sure;
	}
	for (uint32_t i = 0; i < runs && !err; i++)
		if (b->run[i].sequence)
			err = batches__tell_apart(b, c, &b->sequence[b->run[i].sequence - 1], s,
						  &b->run[i], sink);
	return err ? err : begin_new(b, s, c, runs, sink);
}

/* --- saying the step
 * ------------------------------------------------------------------------------ */

static void note_rows(struct vllm_batches *b, const struct aten_step *s, uint32_t number)
{
	const struct run *r = &b->run[number];
	struct sequence *q = &b->sequence[r->sequence - 1];

	q->next = r->position + r->rows;
	q->slot = r->last_slot;
	q->block = r->block;
	q->row = number;
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

/* The owner of @r's rows by its sequence. */
static struct owner owner_of(const struct vllm_batches *b, const struct run *r)
{
	const struct sequence *q = r->sequence ? &b->sequence[r->sequence - 1] : NULL;
	bool known = q && q->asked->hash && q->asked->prompt != ENGINE_UNKNOWN;

	return (struct owner){
		.sequence = q ? q->number : 0,
		.request = q ? q->request : ENGINE_UNKNOWN,
		.prefill = known ? q->asked->prefill : ENGINE_UNKNOWN,
	};
}

static void run__rows(const struct aten_step *s, const struct run *r, struct engine_row *to)
{
	const struct owner *o = &r->owner;
	bool known = o->prefill != ENGINE_UNKNOWN;

	for (uint32_t i = 0; i < r->rows; i++) {
		uint32_t position = r->position + i;
		int64_t token = column(&s->token, r->first + i);
		bool prefill = known ? position < o->prefill : r->rows > 1 || !position;

		to[i] = (struct engine_row){
			.sequence = o->sequence,
			.request = o->request,
			.position = position,
			.token = token >= 0 && token <= INT32_MAX ? (int32_t)token : -1,
			.phase = !o->sequence ? ENGINE_PHASE_UNKNOWN
				 : prefill    ? ENGINE_PREFILL
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
	int err = assign(b, s, c, runs, sink);

	for (uint32_t i = 0; i < runs && !err; i++) {
		if (b->run[i].sequence)
			note_rows(b, s, i);
		b->run[i].owner = owner_of(b, &b->run[i]);
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
			if (b->sequence[n].number != o->sequence)
				continue;
			o->request = b->sequence[n].request;
			b->sequence[n].asked->last_ns = s->end_ns;
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
	int err;

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
	b->has_tokens |= s->token.count >= s->rows;
	forget_ended(b);
	err = home ? find_pass(b, s, c, home, runs, &batch, sink)
		   : find_owners(b, s, c, runs, sink);
	return err ? err : say(b, s, c, runs, batch, sink);
}
