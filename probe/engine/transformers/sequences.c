/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/engine/transformers/sequences.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "probe/engine/transformers/rows.h"
#include "probe/engine/transformers/runs.h"
#include "probe/engine/transformers/sequences_internal.h"

/* Continuous batching leaves a sequence out of some steps where tokens or cache reads are scarce;
 * without a row in so many, and for so long, it is over. */
#define ABSENT_STEPS 64
#define ABSENT_NS 2000000000ull
/* What goes on without having begun began before us, if so few steps of its thread were seen. */
#define EARLY_STEPS 8

int transformers_sequences__new(struct transformers_sequences **out)
{
	*out = calloc(1, sizeof(**out));
	return *out ? 0 : -ENOMEM;
}

void transformers_sequences__free(struct transformers_sequences *q)
{
	if (!q)
		return;
	free(q->run);
	free(q->row);
	free(q->route);
	free(q->token);
	free(q);
}

static struct sequence *at(struct transformers_sequences *q, uint32_t i)
{
	return &q->item[(q->first + i) % SEQUENCES_MAX];
}

/* Make *@array hold @count entries of @size bytes. */
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

/* --- ends --------------------------------------------------------------------------------------
 */

static int sequence__end(struct sequence *s, uint64_t now_ns, uint32_t ending,
			 const struct engine_sink *sink)
{
	struct engine_request_end end = {
		.request = s->number,
		.ending = ending,
		.tokens = ENGINE_UNKNOWN,
		.prompt_rows = ENGINE_UNKNOWN,
		.generated = ENGINE_UNKNOWN,
		.prompt = ENGINE_UNKNOWN,
		.time_ns = now_ns,
	};

	if (s->ended)
		return 0;
	s->ended = true;
	return sink->request_end(sink->ctx, &end);
}

void transformers_sequences__missed(struct transformers_sequences *q)
{
	q->missed = true;
}

void transformers_sequences__busy(struct transformers_sequences *q, const struct aten_thread *t,
				  uint64_t now_ns)
{
	for (uint32_t i = q->live_from; i < q->count; i++) {
		struct sequence *s = at(q, i);

		if (!s->ended && s->tgid == t->tgid && s->tid == t->tid &&
		    (!t->context || t->context == s->context))
			s->busy_ns = now_ns;
	}
}

int transformers_sequences__end(struct transformers_sequences *q, uint64_t before_ns, uint32_t tgid,
				uint64_t now_ns, uint32_t ending, const struct engine_sink *sink)
{
	int err = 0;

	for (uint32_t i = 0; i < q->count; i++) {
		struct sequence *s = at(q, i);
		int err_one;

		if (s->ended || s->last_ns >= before_ns || s->busy_ns >= before_ns ||
		    (tgid && s->tgid != tgid))
			continue;
		err_one = sequence__end(s, now_ns, ending, sink);
		err = err ? err : err_one;
	}
	return err;
}

int transformers_sequences__finished(struct transformers_sequences *q,
				     const struct engine_request_end *end,
				     const struct engine_sink *sink)
{
	for (uint32_t i = 0; i < q->count; i++) {
		struct sequence *s = at(q, i);

		if (s->number != end->request || s->ended)
			continue;
		s->ended = true;
		return sink->request_end(sink->ctx, end);
	}
	return 0;
}

/* --- finding the sequence of a run -------------------------------------------------------------
 */

static bool is_live(const struct sequence *s, const struct aten_step *step, uint32_t context)
{
	return !s->ended && s->tgid == step->tgid && s->tid == step->tid && s->context == context;
}

static bool goes_on(const struct transformers_sequences *q, const struct sequence *s,
		    const struct aten_step *step, uint32_t context)
{
	return is_live(s, step, context) && !s->gone && s->step != q->steps;
}

/* The newest sequence that @r can continue. In *@count how many there are. At the beginning of a
 * page only a prompt that was cut goes on with several rows: else they are behind the shared prefix
 * of a new one. */
static struct sequence *find(struct transformers_sequences *q, const struct aten_step *step,
			     uint32_t context, const struct run *r, bool by_slot, uint32_t *count)
{
	struct sequence *found = NULL;

	*count = 0;
	while (q->live_from < q->count && at(q, q->live_from)->ended)
		q->live_from++;
	for (uint32_t i = q->live_from; i < q->count; i++) {
		struct sequence *s = at(q, i);

		if (!goes_on(q, s, step, context) || (!r->unplaced && s->next != r->position) ||
		    s->packed != r->packed || (!r->packed && s->batch_row != r->batch_row) ||
		    (by_slot && (s->slot < 0 || s->slot + 1 != r->slot)) ||
		    (r->packed && r->rows > 1 && !s->cut &&
		     (!by_slot || r->position % PAGE_UNIT == 0)))
			continue;
		if (!(*count)++ || by_slot)
			found = s;
	}
	return found;
}

/* @r may go on with @s although rows of it were lost in between. */
static bool spans(const struct transformers_sequences *q, const struct sequence *s,
		  const struct run *r, bool by_slot)
{
	uint64_t gap, most = (uint64_t)q->standing.lost * r->rows;
	bool same_page;

	if (r->unplaced || r->position <= s->next || s->packed != r->packed ||
	    (!r->packed && s->batch_row != r->batch_row))
		return false;
	gap = r->position - s->next;
	if (!s->cut && gap > most)
		return false;
	if (!r->packed || s->slot < 0 || r->slot < 0)
		return !by_slot;
	same_page = s->next / PAGE_UNIT == r->position / PAGE_UNIT && s->next % PAGE_UNIT;
	return s->slot + 1 + (int64_t)gap == r->slot || (!by_slot && !same_page);
}

/* As find(), where steps were lost: best one that had a row in each of them. */
static struct sequence *find_across(struct transformers_sequences *q, const struct aten_step *step,
				    uint32_t context, const struct run *r, bool by_slot)
{
	struct sequence *found = NULL;

	for (uint32_t i = q->live_from; q->standing.lost && r->position && i < q->count; i++) {
		struct sequence *s = at(q, i);

		if (!goes_on(q, s, step, context) || !spans(q, s, r, by_slot))
			continue;
		found = s;
		if (r->position - s->next == q->standing.lost)
			break;
	}
	return found;
}

static struct sequence *sequence__new(struct transformers_sequences *q)
{
	struct sequence *s;

	if (q->count < SEQUENCES_MAX) {
		s = at(q, q->count++);
	} else {
		q->first = (q->first + 1) % SEQUENCES_MAX;
		q->live_from -= q->live_from ? 1 : 0;
		s = at(q, q->count - 1);
	}
	*s = (struct sequence){ .number = ++q->said };
	return s;
}

/* The oldest makes room, and its request ends with it. */
static int make_room(struct transformers_sequences *q, uint64_t now_ns,
		     const struct engine_sink *sink)
{
	if (q->count < SEQUENCES_MAX)
		return 0;
	return sequence__end(at(q, 0), now_ns, ENGINE_ENDING_UNKNOWN, sink);
}

/* Its tokens, where the run is the whole prompt and all are known. */
static const int32_t *prompt_tokens(struct transformers_sequences *q, const struct aten_step *s,
				    const struct run *r)
{
	if (r->position || r->cut || s->token.count < r->first + r->rows)
		return NULL;
	if (reserve(&q->token, &q->token_capacity, r->rows, sizeof(*q->token)))
		return NULL;
	for (uint32_t i = 0; i < r->rows; i++) {
		int64_t token = s->token.value[r->first + i];

		if (token < 0 || token > INT32_MAX)
			return NULL;
		q->token[i] = (int32_t)token;
	}
	return q->token;
}

/* How often the batch row of @r was used before; ENGINE_UNKNOWN: of packed ones nobody counts. */
static uint32_t epoch_of(struct transformers_sequences *q, const struct aten_step *s,
			 uint32_t context, const struct run *r)
{
	for (uint32_t i = q->count; i-- && !r->packed;) {
		const struct sequence *old = at(q, i);

		if (old->tgid == s->tgid && old->context == context && !old->packed &&
		    old->batch_row == r->batch_row)
			return old->epoch == ENGINE_UNKNOWN ? ENGINE_UNKNOWN : old->epoch + 1;
	}
	return r->packed || q->said > q->count ? ENGINE_UNKNOWN : 0;
}

static int begin(struct transformers_sequences *q, const struct aten_step *s, uint32_t context,
		 struct run *r, const struct engine_sink *sink)
{
	const struct standing *now = &q->standing;
	/* One row in the middle of nothing was begun before we came; or it is all of a prompt that
	 * was not cached. */
	bool before =
		r->position && r->rows == 1 && now->seen < EARLY_STEPS && !now->lost && !q->missed;
	/* Of more rows there may have been others. */
	bool unseen = r->position && (r->rows == 1 || !now->seen || now->lost);
	struct engine_request out = {
		.context = context,
		.slot = r->packed ? ENGINE_UNKNOWN : r->batch_row,
		.epoch = epoch_of(q, s, context, r),
		.task = ENGINE_UNKNOWN,
		.cached = unseen ? ENGINE_UNKNOWN : r->position,
		.prompt = unseen || r->cut ? ENGINE_UNKNOWN : r->position + r->rows,
		.tokens = prompt_tokens(q, s, r),
		.client_id = "",
		.before_attach = before,
		.inferred = r->unplaced, /* positions are counted, from where it seems to begin */
		.begin_ns = unseen ? UINT64_MAX : s->begin_ns,
		.time_ns = s->begin_ns,
	};
	int err = make_room(q, s->begin_ns, sink);
	struct sequence *new;

	if (err)
		return err;
	new = sequence__new(q);
	new->tgid = s->tgid;
	new->tid = s->tid;
	new->context = context;
	new->batch_row = r->batch_row;
	new->packed = r->packed;
	new->epoch = out.epoch;
	new->before_attach = before;
	new->unseen = unseen;
	new->inferred = r->unplaced;
	new->begin_ns = s->begin_ns;
	new->slot = -1;
	new->step = q->steps;
	r->sequence = new->number;
	out.request = out.sequence = new->number;
	return sink->request_begin(sink->ctx, &out);
}

static struct sequence *by_number(struct transformers_sequences *q, uint32_t number)
{
	uint32_t back = q->said - number;

	return number && back < q->count ? at(q, q->count - 1 - back) : NULL;
}

/* From @position on it is a guess that rows are those of @s: say so, once. */
static int sequence__guess(struct sequence *s, uint32_t position, uint64_t now_ns,
			   const struct engine_sink *sink)
{
	struct engine_bind bind = {
		.context = s->context,
		.sequence = s->number,
		.request = s->number,
		.position = position,
		.origin = ENGINE_ORIGIN_ORDER,
		.inferred = true,
		.time_ns = now_ns,
	};

	if (s->inferred)
		return 0;
	s->inferred = true;
	return sink->bind(sink->ctx, &bind);
}

static int claim(struct transformers_sequences *q, const struct aten_step *step, struct run *r,
		 struct sequence *s, bool inferred, const struct engine_sink *sink)
{
	s->step = q->steps;
	r->sequence = s->number;
	return inferred ? sequence__guess(s, r->position, step->begin_ns, sink) : 0;
}

/* Nothing tells that @r, alone at this position, goes on with @s but that: true where it may as
 * well be another one behind a prefix that they share. */
static bool is_guess(const struct transformers_sequences *q, const struct run *r,
		     const struct sequence *s)
{
	if (q->standing.lost || r->unplaced || r->behind)
		return true;
	if (!r->packed)
		return false;
	/* A text of which the last token was in the step before goes on with one. */
	return r->position % PAGE_UNIT || r->rows > 1 || s->cut || s->step != q->standing.previous;
}

/* A plain batch whose rows begin at 0 is a new call of generate(): what was computed on this thread
 * before is over. */
static int end_earlier(struct transformers_sequences *q, const struct aten_step *s,
		       uint32_t context, uint32_t runs, const struct engine_sink *sink)
{
	bool begins = false;
	int err = 0;

	for (uint32_t i = 0; i < runs; i++)
		begins |= !q->run[i].packed && !q->run[i].position && !q->run[i].padding &&
			  !(q->run[i].unplaced && q->run[i].rows == 1);
	for (uint32_t i = q->live_from; begins && i < q->count; i++) {
		struct sequence *old = at(q, i);
		int err_one = 0;

		if (is_live(old, s, context) && !old->packed)
			err_one = sequence__end(old, s->begin_ns, ENGINE_ENDING_RELEASED, sink);
		err = err ? err : err_one;
	}
	return err;
}

/* Packed sequences that have no rows any more. */
static int end_absent(struct transformers_sequences *q, const struct aten_step *s, uint32_t context,
		      const struct engine_sink *sink)
{
	int err = 0;

	for (uint32_t i = q->live_from; i < q->count && !err; i++) {
		struct sequence *old = at(q, i);

		if (is_live(old, s, context) && old->packed &&
		    old->step + ABSENT_STEPS <= q->steps && old->last_ns + ABSENT_NS <= s->begin_ns)
			err = sequence__end(old, s->begin_ns, ENGINE_ENDING_RELEASED, sink);
	}
	return err;
}

/* Packed run @i begins a page of the cache where the run before it ends: one run, cut in two. */
static bool follows(const struct transformers_sequences *q, uint32_t i)
{
	const struct run *r = &q->run[i], *before = r - !!i;

	return i && r->packed && r->position && before->sequence && before->rows == 1 &&
	       before->position + 1 == r->position;
}

static int assign_by_slot(struct transformers_sequences *q, const struct aten_step *s,
			  uint32_t context, uint32_t runs, const struct engine_sink *sink)
{
	uint32_t count;
	int err = 0;

	for (uint32_t i = 0; i < runs && !err; i++) {
		struct run *r = &q->run[i];
		struct sequence *found;
		bool inferred;

		if (r->padding || !r->packed || r->slot < 0 || !r->position)
			continue;
		found = find(q, s, context, r, true, &count);
		inferred = !found || count > 1 || r->behind;
		if (!found)
			found = find_across(q, s, context, r, true);
		if (found)
			err = claim(q, s, r, found, inferred, sink);
	}
	return err;
}

/* A live sequence that has no other run explains run @i. */
static bool is_explained(struct transformers_sequences *q, const struct aten_step *s,
			 uint32_t context, uint32_t i, uint32_t runs)
{
	uint32_t count, others = 0;

	if (!find(q, s, context, &q->run[i], false, &count))
		return false;
	for (uint32_t j = 0; j < runs; j++)
		others += !q->run[j].sequence && !q->run[j].behind &&
			  q->run[j].position == q->run[i].position;
	return count > others;
}

/* A text that goes on in another page: a guess. Another one may begin there, behind a prefix that
 * is as long as what stands before it. Returns how many runs there are now. */
static uint32_t join(struct transformers_sequences *q, const struct aten_step *s, uint32_t context,
		     uint32_t runs)
{
	uint32_t to = 0;

	for (uint32_t i = 0; i < runs; i++) {
		struct run *r = &q->run[i], *before = to ? &q->run[to - 1] : NULL;

		if (!before || !r->behind || r->sequence || is_explained(q, s, context, i, runs)) {
			q->run[to++] = *r;
			continue;
		}
		before->rows += r->rows;
		before->last_slot = r->last_slot;
		before->cut = r->cut;
		if (!before->guessed)
			before->guessed = r->position;
	}
	return to;
}

/* Run @i is the cache's word for none: by position, or a new one. */
static int assign_by_position(struct transformers_sequences *q, const struct aten_step *s,
			      uint32_t context, uint32_t i, const struct engine_sink *sink)
{
	struct run *r = &q->run[i];
	struct sequence *found = NULL;
	uint32_t count = 0;

	if (r->position || (r->unplaced && r->rows == 1))
		found = find(q, s, context, r, false, &count);
	if (!found)
		found = find_across(q, s, context, r, false);
	if (found && r->unplaced)
		r->position = found->next;
	/* In the middle of what was begun before us, nobody knows where. */
	if (!found && r->unplaced && r->rows == 1)
		return 0;
	if (!found && follows(q, i)) {
		found = by_number(q, r[-1].sequence);
		r[-1].more = true;
		count = 2; /* or a new one */
	}
	if (!found)
		return begin(q, s, context, r, sink);
	return claim(q, s, r, found, count > 1 || is_guess(q, r, found), sink);
}

/* Give each run its sequence: those that the cache tells first, then by position, then new ones. */
static int assign(struct transformers_sequences *q, const struct aten_step *s, uint32_t context,
		  uint32_t *runs, const struct engine_sink *sink)
{
	int err = end_earlier(q, s, context, *runs, sink);

	if (!err)
		err = assign_by_slot(q, s, context, *runs, sink);
	*runs = join(q, s, context, *runs);
	for (uint32_t i = 0; i < *runs && !err; i++) {
		struct run *r = &q->run[i];
		struct sequence *own;

		if (!r->padding && !r->sequence)
			err = assign_by_position(q, s, context, i, sink);
		own = by_number(q, r->sequence);
		if (own && r->guessed && !err)
			err = sequence__guess(own, r->guessed, s->begin_ns, sink);
	}
	return err;
}

/* Where a sequence without rows in this step had its last one, there is another's now. */
static void forget_overwritten(struct transformers_sequences *q, const struct aten_step *s,
			       uint32_t context)
{
	for (uint32_t i = q->live_from; i < q->count; i++) {
		struct sequence *old = at(q, i);

		if (!old->packed || old->slot < 0 || !goes_on(q, old, s, context))
			continue;
		for (uint32_t row = 0; row < s->slot.count && !old->gone; row++)
			old->gone = s->slot.value[row] == old->slot;
	}
}

/* --- steps -------------------------------------------------------------------------------------
 */

int transformers_sequences__step(struct transformers_sequences *q, struct aten_step *s,
				 struct aten_context *c, const struct engine_sink *sink)
{
	struct engine_step out = { .begin_ns = s->begin_ns, .end_ns = s->end_ns };
	uint32_t runs, most = transformers_runs__most(s);
	int err = reserve(&q->run, &q->run_capacity, most, sizeof(*q->run));

	if (!err)
		err = reserve(&q->row, &q->row_capacity, most, sizeof(*q->row));
	if (!err)
		err = reserve(&q->route, &q->route_capacity, s->layers, sizeof(*q->route));
	if (err)
		return err;
	if (!c || !most) {
		transformers_progress__unsaid(q->progress, s);
		return 0;
	}
	q->steps++;
	q->standing = transformers_progress__step(q->progress, s, c->id, q->steps);
	runs = transformers_runs__cut(q->run, s);
	err = assign(q, s, c->id, &runs, sink);
	if (!err)
		forget_overwritten(q, s, c->id);
	if (!err)
		err = end_absent(q, s, c->id, sink);
	if (err)
		return err;
	for (uint32_t i = 0; i < runs; i++)
		out.rows += transformers_rows__say(q->row + out.rows, s, c, &q->run[i],
						   by_number(q, q->run[i].sequence));
	for (uint32_t i = 0; i < s->layers; i++)
		transformers_rows__route(&q->route[i], &s->layer[i], c);
	out.context = c->id;
	out.step = ++c->steps;
	out.row = q->row;
	out.routes = s->layers;
	out.route = q->route;
	return sink->step(sink->ctx, &out);
}

/* --- names -------------------------------------------------------------------------------------
 */

void transformers_sequences__named(struct transformers_sequences *q, uint32_t request)
{
	struct sequence *s = by_number(q, request);

	if (s)
		s->named = true;
}
