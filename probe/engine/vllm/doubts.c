/* SPDX-License-Identifier: BSD-2-Clause */
/* Which of several requests with equal beginnings a sequence is, when its tokens tell. */
#include <string.h>

#include "probe/engine/vllm/batches_internal.h"

#define TRIES 4 /* corrections of one sequence in one step */

bool sequence__is_over(const struct sequence *q)
{
	return !q->asked->open || q->asked->number != q->request;
}

struct sequence *batches__sequence(struct vllm_batches *b, const struct aten_context *c,
				   const struct vllm_asked *a)
{
	for (uint32_t i = 0; i < b->live; i++)
		if (b->sequence[i].context == c->id && b->sequence[i].asked == a &&
		    !sequence__is_over(&b->sequence[i]))
			return &b->sequence[i];
	return NULL;
}

int sequence__say_bind(const struct sequence *q, uint64_t time_ns, const struct engine_sink *sink)
{
	struct engine_bind bind = {
		.context = q->context,
		.sequence = q->number,
		.request = q->request,
		.position = q->first,
		.origin = ENGINE_ORIGIN_TOKENS,
		.inferred = q->asked->inferred,
		.time_ns = time_ns,
	};

	return sink->bind ? sink->bind(sink->ctx, &bind) : 0;
}

void batches__distrust(struct vllm_batches *b)
{
	b->is_distrusted = true;
	for (uint32_t i = 0; i < b->live; i++)
		b->sequence[i].asked->is_guess |= b->sequence[i].asked->inferred;
}

/* @a is taken for another than it was. */
static void asked__become(struct vllm_batches *b, struct vllm_asked *a)
{
	a->inferred = true;
	a->doubt_said = false;
	a->is_guess |= b->is_distrusted;
}

void batches__note_rivals(struct vllm_batches *b, struct sequence *q)
{
	for (uint32_t i = 0; i < b->live; i++) {
		struct sequence *other = &b->sequence[i];

		if (other != q && other->context == q->context && other->began == q->began &&
		    (other->asked->inferred || !other->asked->hash))
			q->has_rival = other->has_rival = true;
	}
}

void batches__doubt(struct vllm_batches *b, struct sequence *q, uint32_t position)
{
	struct vllm_asked *a = q->asked;

	/* What comes tells of the rows since then, not of those before, which are in doubt too. */
	if (a->inferred && q->doubt_step && q->doubt_step != b->steps)
		batches__distrust(b);
	q->doubt_from = position;
	q->doubt_end = UINT32_MAX;
	q->doubt_step = b->steps;
	asked__become(b, a);
	batches__note_rivals(b, q);
}

void sequence__doubt_link(struct sequence *q, uint32_t position)
{
	if (q->asked->inferred && position < q->doubt_end)
		q->doubt_end = position;
}

static int say_sure(struct vllm_batches *b, struct vllm_asked *a, uint64_t time_ns,
		    const struct engine_sink *sink)
{
	struct engine_request_info info = {
		.request = a->number,
		.origin = ENGINE_ORIGIN_TOKENS,
		.time_ns = time_ns,
	};

	if (!a->inferred || a->is_guess)
		return 0;
	a->inferred = a->doubt_said = false;
	if (vllm_held__make_sure(b->held, a->number))
		return 0;
	return sink->request_info ? sink->request_info(sink->ctx, &info) : 0;
}

bool batches__in_doubt(const struct vllm_batches *b)
{
	for (uint32_t i = 0; i < b->live; i++)
		if (!sequence__is_over(&b->sequence[i]) && b->sequence[i].asked->inferred &&
		    !b->sequence[i].asked->doubt_said && !b->sequence[i].asked->is_guess)
			return true;
	return false;
}

int batches__say_doubts(struct vllm_batches *b, uint64_t time_ns, const struct engine_sink *sink)
{
	int err = 0, err_one;

	for (uint32_t i = 0; i < b->live; i++) {
		struct sequence *q = &b->sequence[i];

		if (sequence__is_over(q) || !q->asked->inferred || q->asked->doubt_said)
			continue;
		q->asked->doubt_said = true;
		err_one = sequence__say_bind(q, time_ns, sink);
		err = err ? err : err_one;
	}
	return err;
}

/* --- what speaks for whom ----------------------------------------------------------------------
 */

/* The token of @q at @position, of @r if it goes on with that; -1: not captured, or forgotten. */
static int64_t token_at(const struct sequence *q, const struct aten_step *s, const struct run *r,
			uint32_t position)
{
	uint32_t row = r->first + (position - r->position);

	if (position >= r->position)
		return row < s->token.count ? s->token.value[row] : -1;
	return position >= q->first && position + RECENT >= q->next ? q->recent[position % RECENT]
								    : -1;
}

/* The first position in [from, end) whose token is known not to be @a's; @end: none. */
static uint32_t find_contradiction(const struct vllm_asked *a, const struct sequence *q,
				   const struct aten_step *s, const struct run *r, uint32_t from,
				   uint32_t end)
{
	for (uint32_t p = from; p < end && p < a->tokens; p++) {
		int64_t token = token_at(q, s, r, p);

		if (token >= 0 && token != a->token[p])
			return p;
	}
	return end;
}

/* The same, or a piece of a prompt that is longer than its request's: for good if that was said. */
static uint32_t find_impossible(const struct vllm_batches *b, const struct sequence *q,
				const struct aten_step *s, const struct run *r, uint32_t end)
{
	const struct vllm_asked *a = q->asked;
	uint32_t position = find_contradiction(a, q, s, r, q->checked, end);

	if (position == end && !a->is_guess && r->rows > 1 && !batches__has_room(b, a, r, true))
		return a->prompt + a->generated;
	return position;
}

/* True if @a was given so many tokens, of which we may not have heard of some. */
static bool reaches(const struct vllm_batches *b, const struct vllm_asked *a, uint32_t position)
{
	return a->prompt == ENGINE_UNKNOWN ||
	       position <= (uint64_t)a->prompt + a->generated + b->untold;
}

/* True if nothing tells @a and @other apart in [from, end). */
static bool are_alike(const struct vllm_asked *a, const struct vllm_asked *other, uint32_t from,
		      uint32_t end)
{
	uint32_t known = a->tokens < other->tokens ? a->tokens : other->tokens;

	end = end < known ? end : known;
	return end <= from ||
	       !memcmp(a->token + from, other->token + from, (end - from) * sizeof(*a->token));
}

/* True if @other may be what was taken for @a, whose token at @position is another one: it has all
 * those of @q that speak for nobody or for it, and goes on as @r does. */
static bool is_instead(const struct vllm_batches *b, const struct vllm_asked *a,
		       const struct vllm_asked *other, uint32_t position, const struct sequence *q,
		       const struct aten_step *s, const struct run *r)
{
	uint32_t end = r->position + r->rows;

	return other != a && other->hash && !other->aborted_ns &&
	       are_alike(a, other, q->doubt_from, position) &&
	       find_contradiction(other, q, s, r, position, end) == end && reaches(b, other, end);
}

/* --- corrections --------------------------------------------------------------------------------
 */

/* @q is @asked from @position on, and was taken for another one. */
static int re_own(struct vllm_batches *b, struct sequence *q, struct vllm_asked *asked,
		  uint32_t position, uint64_t time_ns)
{
	struct vllm_correction c = { .is_first = position == q->first, .time_ns = q->begin_ns };
	bool known = asked->hash && asked->prompt != ENGINE_UNKNOWN;

	q->asked = asked;
	q->request = asked->number;
	if (!asked->hash)
		batches__note_rivals(b, q);
	q->checked = q->first = position;
	c.prefill = known ? asked->prefill : ENGINE_UNKNOWN;
	c.bind = (struct engine_bind){
		.context = q->context,
		.sequence = q->number,
		.request = q->request,
		.position = position,
		.origin = ENGINE_ORIGIN_TOKENS,
		.inferred = asked->inferred,
		.time_ns = time_ns,
	};
	return vllm_held__correct(b->held, &c);
}

/* The first position of @q that may be another one's. */
static uint32_t doubted_from(const struct sequence *q)
{
	return q->doubt_from > q->first ? q->doubt_from : q->first;
}

/* What was taken for @q's is @other's, and the reverse: they were taken for each other. */
static int exchange(struct vllm_batches *b, struct sequence *q, struct sequence *other,
		    uint64_t time_ns)
{
	struct vllm_asked *asked = q->asked, *its = other->asked;
	uint32_t from = doubted_from(q), from_other = doubted_from(other);
	int err, err_other;

	asked__become(b, asked);
	asked__become(b, its);
	err = re_own(b, q, its, from, time_ns);

	err_other = re_own(b, other, asked, from_other, time_ns);
	return err ? err : err_other;
}

/* @a, which @q was taken for, has no rows: as if it had never begun, if that was not said yet. */
static void take_back(struct vllm_batches *b, struct vllm_asked *a)
{
	for (uint32_t i = 0; i < b->live; i++)
		if (b->sequence[i].asked == a && !sequence__is_over(&b->sequence[i]))
			return;
	if (!vllm_held__take_back(b->held, a->number))
		return;
	a->number = 0;
	a->sequenced = a->inferred = a->preempted = false;
	a->cached = ENGINE_UNKNOWN;
}

/* @q is not what it was taken for, but @other, which has no rows now; NULL: nobody that we know. */
static int give_away(struct vllm_batches *b, struct aten_context *c, struct sequence *q,
		     struct vllm_asked *other, uint64_t time_ns, const struct engine_sink *sink)
{
	struct vllm_asked *a = q->asked;
	uint32_t from = doubted_from(q);
	struct sequence *old;
	int err = 0;

	if (!other) {
		other = vllm_requests__nameless(b->requests, time_ns, &err, sink);
		if (!other)
			return err;
	}
	old = batches__sequence(b, c, other);
	if (old)
		old->request = 0; /* it is over */
	asked__become(b, other);
	if (!other->number) {
		other->cached = other->hash ? from : ENGINE_UNKNOWN;
		err = vllm_asked__begin(b->requests, other, c->id, q->begin_ns, sink);
		other->sequenced = true;
	}
	if (!err)
		err = re_own(b, q, other, from, time_ns);
	take_back(b, a);
	return err;
}

/* Another sequence that was taken for what @q is; NULL: none. */
static struct sequence *find_partner(struct vllm_batches *b, const struct sequence *q,
				     const struct aten_step *s, const struct run *r,
				     uint32_t position)
{
	for (uint32_t i = 0; i < b->live; i++) {
		struct sequence *other = &b->sequence[i];

		if (other->context == q->context && other->asked->inferred &&
		    !sequence__is_over(other) &&
		    is_instead(b, q->asked, other->asked, position, q, s, r))
			return other;
	}
	return NULL;
}

/* True if @a has rows of its own in step @step or later. */
static bool had_rows_since(struct vllm_batches *b, const struct aten_context *c,
			   const struct vllm_asked *a, uint64_t step)
{
	const struct sequence *its = batches__sequence(b, c, a);

	return its && its->step >= step;
}

/* A request that @q may be instead; NULL: none. */
static struct vllm_asked *find_other(struct vllm_batches *b, const struct aten_context *c,
				     const struct sequence *q, const struct aten_step *s,
				     const struct run *r, uint32_t position)
{
	uint32_t at = 0;

	for (struct vllm_asked *other; (other = vllm_requests__next(b->requests, &at));) {
		if (is_instead(b, q->asked, other, position, q, s, r) &&
		    !had_rows_since(b, c, other, q->doubt_step))
			return other;
	}
	return NULL;
}

/* The rows of @r say that @q is not what it was taken for. */
static int correct(struct vllm_batches *b, struct aten_context *c, struct sequence *q,
		   const struct aten_step *s, const struct run *r, uint32_t position,
		   const struct engine_sink *sink)
{
	struct sequence *partner = find_partner(b, q, s, r, position);
	struct vllm_asked *other = NULL;

	if (!partner)
		other = find_other(b, c, q, s, r, position);
	if (!partner && !other && position >= q->asked->tokens) {
		/* It has more tokens than we heard that it was given: lost messages, or a guess. */
		asked__become(b, q->asked);
		batches__distrust(b);
		return sequence__say_bind(q, s->begin_ns, sink);
	}
	if (!q->asked->inferred) { /* what was compared is its own */
		q->doubt_from = q->checked;
		q->doubt_end = UINT32_MAX;
		q->doubt_step = q->begin_step;
	}
	if (partner)
		return exchange(b, q, partner, s->begin_ns);
	if (!other)
		batches__distrust(b);
	return give_away(b, c, q, other, s->begin_ns, sink);
}

struct vllm_asked *batches__owner(struct vllm_batches *b, const struct aten_context *c,
				  const struct sequence *q, const struct aten_step *s,
				  const struct run *r)
{
	uint32_t end = r->position + r->rows, position;
	struct sequence *partner;

	if (find_contradiction(q->asked, q, s, r, q->checked, end) == end)
		return q->asked;
	if (!q->asked->inferred)
		return NULL;
	position = find_contradiction(q->asked, q, s, r, q->checked, end);
	if (position == end)
		return NULL;
	partner = find_partner(b, q, s, r, position);
	return partner ? partner->asked : find_other(b, c, q, s, r, position);
}

/* True if @other's rows cannot begin where @q does, by the server's word on what it took from the
 * cache, nor go on there. */
static bool is_other_prefix(struct vllm_batches *b, const struct aten_context *c,
			    const struct sequence *q, const struct vllm_asked *other)
{
	const struct sequence *its = batches__sequence(b, c, other);

	return !(its && its->next == q->began) && other->cached_told != ENGINE_UNKNOWN &&
	       !other->preempted && !q->asked->preempted && q->doubt_from == q->began &&
	       other->cached_told != q->began;
}

/* True if the server's word does not speak against @q's beginning where its request's rows do. */
static bool is_prefix_told(const struct sequence *q)
{
	return q->asked->preempted || q->began != q->doubt_from ||
	       q->asked->cached_told == q->began;
}

/* True if @other has rows of its own where @q has those in doubt. */
static bool has_those(struct vllm_batches *b, const struct aten_context *c,
		      const struct sequence *q, const struct vllm_asked *other)
{
	const struct sequence *its = batches__sequence(b, c, other);

	return its && its->step >= q->doubt_step && its->first <= q->doubt_from;
}

/* Up to where @q's tokens tell whose its first ones in doubt are. Those behind a link do not,
 * unless its request, which has rows from where @q begins, can have them nowhere else. */
static uint32_t telling_end(const struct sequence *q)
{
	if (q->doubt_end >= q->checked ||
	    (q->began == q->doubt_from && !q->asked->preempted && !q->has_rival))
		return q->checked;
	return q->doubt_end;
}

/* True if the rows of @q may still turn out to be @other's: it has no others, and nothing told so
 * far speaks against it. */
static bool may_be(struct vllm_batches *b, const struct aten_context *c, const struct sequence *q,
		   const struct vllm_asked *other, uint32_t end)
{
	return other != q->asked && other->hash &&
	       (other->inferred || !has_those(b, c, q, other)) &&
	       reaches(b, other, q->doubt_from) && !is_other_prefix(b, c, q, other) &&
	       are_alike(q->asked, other, q->doubt_from, end);
}

int batches__tell_apart(struct vllm_batches *b, struct aten_context *c, struct sequence *q,
			const struct aten_step *s, const struct run *r,
			const struct engine_sink *sink)
{
	uint32_t at = 0, position, end = r->position + r->rows;
	struct vllm_asked *a;
	int err;

	for (int tries = 0; tries < TRIES; tries++) {
		position = find_impossible(b, q, s, r, end);
		if (position == end)
			break;
		err = correct(b, c, q, s, r, position, sink);
		if (err)
			return err;
	}
	a = q->asked;
	end = end < a->tokens ? end : a->tokens;
	q->checked = q->checked > end ? q->checked : end;
	if (!a->inferred || s->token.count < r->first + r->rows || !is_prefix_told(q))
		return 0;
	end = telling_end(q);
	for (struct vllm_asked *other; (other = vllm_requests__next(b->requests, &at));)
		if (may_be(b, c, q, other, end))
			return 0;
	return say_sure(b, a, s->begin_ns, sink);
}
