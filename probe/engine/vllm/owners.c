/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Whose run it is. Sure, whatever its tokens, is what goes on within a block of the cache. For the
 * other runs all requests are candidates that they can be, and what can be only one goes first:
 * what is given away is no candidate any more for the rest.
 */
#include <string.h>

#include "probe/engine/vllm/batches_internal.h"

/* What a run may be. */
struct choice {
	struct vllm_asked *asked;
	uint32_t sequence; /* index + 1 that goes on; 0: @asked begins, or begins again */
	uint32_t rank;     /* the higher, the likelier */
	uint32_t second;   /* the highest of the others */
	uint32_t count;    /* of requests that it may be */
	uint32_t taken;    /* of others that it may be if they are not what they are taken for */
};

#define UNTOLD 2 /* tokens that we did not hear of yet, as a rule: steps are scheduled ahead */

/* How likely a candidate is: a sum, of one of the second line. KNOWN: all its tokens are known to
 * be these; ROW: it had this place in the batch before. */
enum { RANK_ROW = 1, RANK_KNOWN = 8, RANK_NEW = 2, RANK_PREEMPTED = 4, RANK_GOES_ON = 6 };

/* The tokens of @r; NULL: not captured. */
static const int64_t *tokens_of(const struct aten_step *s, const struct run *r)
{
	return s->token.count >= r->first + r->rows ? s->token.value + r->first : NULL;
}

/* --- within a block -----------------------------------------------------------------------------
 */

/* True if @r is written to the cache right behind @q's last row, in the same block: a block that is
 * not full is of one sequence only. */
static bool is_next_slot(const struct sequence *q, const struct run *r, int64_t block_size)
{
	return q->next == r->position && q->slot >= 0 && q->slot + 1 == r->slot &&
	       (!block_size || r->position % block_size);
}

static void go_on(struct vllm_batches *b, struct run *r, uint32_t sequence)
{
	b->sequence[sequence].step = b->steps;
	r->sequence = sequence + 1;
	r->is_given = true;
}

static int assign_within_blocks(struct vllm_batches *b, const struct aten_step *s,
				struct aten_context *c, uint32_t runs,
				const struct engine_sink *sink)
{
	int err = 0;

	for (uint32_t i = 0; i < runs; i++) {
		struct run *r = &b->run[i];

		for (uint32_t n = 0; n < b->live && !r->is_given && r->position; n++)
			if (b->sequence[n].context == c->id && b->sequence[n].step != b->steps &&
			    is_next_slot(&b->sequence[n], r, s->scalar))
				go_on(b, r, n);
	}
	for (uint32_t i = 0; i < runs && !err; i++)
		if (b->run[i].sequence)
			err = batches__tell_apart(b, c, &b->sequence[b->run[i].sequence - 1], s,
						  &b->run[i], sink);
	return err;
}

/* --- candidates ---------------------------------------------------------------------------------
 */

/* True if @r can be what follows in @q, by the cache: it begins a block where @q filled one. */
static bool may_follow(const struct sequence *q, const struct run *r, int64_t block_size)
{
	if (q->next != r->position || !r->position)
		return false;
	if (r->slot < 0)
		return true;
	return q->slot >= 0 && block_size > 0 && !(r->position % block_size) &&
	       !((q->slot + 1) % block_size);
}

/* True if a request with @q cannot begin again: whoever is preempted is left out of a step. */
static bool was_in_last_step(const struct sequence *q, const struct aten_step *s)
{
	return q->computation + 1 == s->computation;
}

bool batches__has_room(const struct vllm_batches *b, const struct vllm_asked *a,
		       const struct run *r, bool goes_on)
{
	uint64_t end = (uint64_t)r->position + r->rows;

	if (a->prompt == ENGINE_UNKNOWN)
		return true;
	if (!a->number && !a->generated)
		return end <= a->prompt;
	if (goes_on && r->rows > 1 && !a->preempted)
		return end <= a->prefill;
	return end <= (uint64_t)a->prompt + a->generated + b->untold;
}

static void consider(struct choice *best, struct choice one)
{
	best->count++;
	if (one.rank <= best->rank) {
		best->second = one.rank > best->second ? one.rank : best->second;
		return;
	}
	best->second = best->rank;
	best->rank = one.rank;
	best->asked = one.asked;
	best->sequence = one.sequence;
}

/* How much likelier the likeliest is than the next one. */
static uint32_t margin(const struct choice *c)
{
	return c->rank - c->second;
}

static uint32_t rank_of(const struct vllm_asked *a, const struct run *r, uint32_t rank)
{
	return rank + (r->position + r->rows <= a->tokens ? (uint32_t)RANK_KNOWN : 0);
}

/* Those that @r may go on with. */
static void consider_sequences(struct vllm_batches *b, const struct aten_step *s,
			       const struct aten_context *c, uint32_t number, struct choice *best)
{
	const struct run *r = &b->run[number];

	for (uint32_t i = 0; i < b->live; i++) {
		const struct sequence *q = &b->sequence[i];
		struct choice one = { .sequence = i + 1 };

		if (q->context != c->id || q->step == b->steps || sequence__is_over(q) ||
		    !may_follow(q, r, s->scalar))
			continue;
		one.asked = batches__owner(b, c, q, s, r);
		/* It may be another's than anybody that it is taken for now. */
		best->taken += !one.asked && q->asked->inferred;
		if (!one.asked || one.asked->tried == b->trials ||
		    !batches__has_room(b, one.asked, r, true))
			continue;
		one.asked->tried = b->trials;
		one.rank = rank_of(one.asked, r, RANK_GOES_ON) +
			   (q->row == number ? (uint32_t)RANK_ROW : 0);
		consider(best, one);
	}
}

/* Those whose first row @r may be, or their first since they were preempted. */
static void consider_requests(struct vllm_batches *b, const struct aten_step *s,
			      const struct aten_context *c, const struct run *r,
			      struct choice *best)
{
	const int64_t *tokens = tokens_of(s, r);
	uint32_t at = 0, before = best->count;

	for (struct vllm_asked *a; (a = vllm_requests__next(b->requests, &at));) {
		struct sequence *q = batches__sequence(b, c, a);
		bool taken = q && (q->step == b->steps || was_in_last_step(q, s));
		struct choice one = { .asked = a };

		if (!a->hash || a->aborted_ns || a->tried == b->trials || (taken && !a->inferred) ||
		    !batches__has_room(b, a, r, false) ||
		    vllm_asked__contradicts(a, r->position, tokens, r->rows))
			continue;
		if (taken) {
			best->taken++;
			continue;
		}
		a->tried = b->trials;
		one.rank = rank_of(a, r, q ? RANK_PREEMPTED : RANK_NEW);
		consider(best, one);
	}
	/* It may as well be one that nobody told of. */
	best->count += !tokens && best->count > before;
}

static struct choice choose(struct vllm_batches *b, const struct aten_step *s,
			    const struct aten_context *c, uint32_t number)
{
	struct choice best = { 0 };

	b->trials++;
	consider_sequences(b, s, c, number, &best);
	consider_requests(b, s, c, &b->run[number], &best);
	return best;
}

/* --- giving -------------------------------------------------------------------------------------
 */

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
	memset(q->recent, -1, sizeof(q->recent));
	return q;
}

/* True if rows before @r were not captured: a prefix from the cache ends where a block does, and
 * before the prompt does. */
static bool began_unseen(const struct aten_step *s, const struct run *r, const struct vllm_asked *a)
{
	if (!a->hash)
		return r->position && r->rows == 1;
	return r->position &&
	       (r->position >= a->prompt || (s->scalar > 0 && r->position % s->scalar));
}

/* The run is the first of request @a (NULL: nobody told of it), or its first since it was
 * preempted. */
static int begin(struct vllm_batches *b, const struct aten_step *s, struct aten_context *c,
		 struct run *r, struct vllm_asked *a, const struct engine_sink *sink)
{
	struct sequence *q;
	int err = 0;

	if (!a) {
		a = vllm_requests__nameless(b->requests, s->begin_ns, &err, sink);
		if (!a)
			return err;
	}
	if (a->inferred) /* what rows it had before stays in doubt */
		batches__distrust(b);
	a->preempted |= a->number && batches__sequence(b, c, a);
	if (a->hash && a->prompt != ENGINE_UNKNOWN)
		a->prefill = a->prompt + a->generated;
	a->inferred |= r->in_doubt;
	if (!a->number) {
		bool unseen = began_unseen(s, r, a);

		/* Of one that was told of we know that it began later. */
		a->before_attach = unseen && !a->hash;
		a->cached = unseen ? ENGINE_UNKNOWN : r->position;
		err = vllm_asked__begin(b->requests, a, c->id, s->begin_ns, sink);
	}
	if (err)
		return err;
	q = sequence__make(b, c, a);
	if (!q)
		return 0;
	q->request = a->number;
	q->number = a->sequenced ? vllm_requests__number(b->requests) : a->number;
	q->first = q->began = q->checked = r->position;
	q->computation = s->computation;
	q->begin_ns = s->begin_ns;
	q->begin_step = b->steps;
	q->step = b->steps;
	r->sequence = (uint32_t)(q - b->sequence) + 1;
	if (r->in_doubt)
		batches__doubt(b, q, r->position);
	else if (!a->hash)
		batches__note_rivals(b, q);
	err = a->sequenced ? sequence__say_bind(q, s->begin_ns, sink) : 0;
	a->sequenced = true;
	return err;
}

static int give(struct vllm_batches *b, const struct aten_step *s, struct aten_context *c,
		struct run *r, const struct choice *to, const struct engine_sink *sink)
{
	struct sequence *q;

	r->is_given = true;
	if (!to->sequence)
		return begin(b, s, c, r, to->asked, sink);
	q = &b->sequence[to->sequence - 1];
	go_on(b, r, to->sequence - 1);
	sequence__doubt_link(q, r->position);
	if (r->in_doubt)
		batches__doubt(b, q, r->position);
	return batches__tell_apart(b, c, q, s, r, sink);
}

/* True if @r goes on with just the tokens of the request that @q is taken for, which is in doubt.
 */
static bool is_expected(const struct vllm_batches *b, const struct aten_step *s,
			const struct aten_context *c, const struct sequence *q, const struct run *r)
{
	const int64_t *tokens = tokens_of(s, r);

	return tokens && !r->is_given && q->context == c->id && q->step != b->steps &&
	       !sequence__is_over(q) && q->asked->inferred && may_follow(q, r, s->scalar) &&
	       r->position + r->rows <= q->asked->tokens &&
	       batches__has_room(b, q->asked, r, true) &&
	       !vllm_asked__contradicts(q->asked, r->position, tokens, r->rows);
}

/* The only sequence that expects run @number, which no other run can be; 0: none. */
static uint32_t find_expecting(const struct vllm_batches *b, const struct aten_step *s,
			       const struct aten_context *c, uint32_t number, uint32_t runs)
{
	uint32_t found = 0, count = 0;

	for (uint32_t n = 0; n < b->live; n++) {
		if (!is_expected(b, s, c, &b->sequence[n], &b->run[number]))
			continue;
		found = n + 1;
		count++;
	}
	for (uint32_t i = 0; count == 1 && i < runs; i++)
		count += i != number && is_expected(b, s, c, &b->sequence[found - 1], &b->run[i]);
	return count == 1 ? found : 0;
}

/* What is expected goes before what begins alike, since that may begin here. */
static int give_expected(struct vllm_batches *b, const struct aten_step *s, struct aten_context *c,
			 uint32_t runs, const struct engine_sink *sink)
{
	int err = 0;

	for (uint32_t i = 0; i < runs && !err; i++) {
		struct choice to = { .sequence = find_expecting(b, s, c, i, runs) };

		if (to.sequence)
			err = give(b, s, c, &b->run[i], &to, sink);
	}
	return err;
}

/* Whatever may be several takes part in a guess. */
static void doubt_pending(struct vllm_batches *b, uint32_t runs)
{
	for (uint32_t i = 0; i < runs; i++)
		b->run[i].in_doubt |= !b->run[i].is_given && b->run[i].is_several;
}

/* Give those of the runs away that can be one only, or if there is none the likeliest of the
 * others. */
static int give_round(struct vllm_batches *b, const struct aten_step *s, struct aten_context *c,
		      uint32_t runs, bool *progress, const struct engine_sink *sink)
{
	struct choice likeliest = { 0 };
	struct run *guess = NULL;
	int err = 0;

	*progress = false;
	for (uint32_t i = 0; i < runs && !err; i++) {
		struct run *r = &b->run[i];
		struct choice to;

		if (r->is_given)
			continue;
		to = choose(b, s, c, i);
		r->is_several = to.count + to.taken > 1;
		if (to.count == 1 && !to.taken) {
			err = give(b, s, c, r, &to, sink);
			*progress = true;
		} else if (to.count && (!guess || margin(&to) > margin(&likeliest))) {
			likeliest = to;
			guess = r;
		}
	}
	if (err || *progress || !guess)
		return err;
	*progress = true;
	doubt_pending(b, runs);
	return give(b, s, c, guess, &likeliest, sink);
}

/* How many tokens of a request we may not have heard of: messages are late for all alike, so what
 * was computed of the others beyond what was told tells. */
static uint32_t untold_now(const struct vllm_batches *b)
{
	uint32_t most = 0;

	for (uint32_t i = 0; i < b->live; i++) {
		const struct sequence *q = &b->sequence[i];
		uint64_t told = (uint64_t)q->asked->prompt + q->asked->generated;

		if (sequence__is_over(q) || q->asked->prompt == ENGINE_UNKNOWN || q->next <= told)
			continue;
		if (q->next - told > most)
			most = (uint32_t)(q->next - told);
	}
	return most + UNTOLD;
}

int batches__assign(struct vllm_batches *b, const struct aten_step *s, struct aten_context *c,
		    uint32_t runs, const struct engine_sink *sink)
{
	const struct choice nobody = { 0 };
	bool progress = true;
	int err;

	b->untold = untold_now(b);
	err = assign_within_blocks(b, s, c, runs, sink);
	if (!err)
		err = give_expected(b, s, c, runs, sink);
	while (!err && progress)
		err = give_round(b, s, c, runs, &progress, sink);
	b->untold = UINT32_MAX; /* messages were lost */
	for (uint32_t i = 0; i < runs; i++)
		b->run[i].in_doubt |= !b->run[i].is_given;
	for (progress = true; !err && progress;)
		err = give_round(b, s, c, runs, &progress, sink);
	for (uint32_t i = 0; i < runs && !err; i++) {
		if (b->run[i].is_given)
			continue;
		b->run[i].in_doubt = false;
		err = give(b, s, c, &b->run[i], &nobody, sink);
	}
	return err;
}
