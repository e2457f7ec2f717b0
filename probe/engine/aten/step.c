/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/engine/aten/step.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "probe/abi/site.h"
#include "probe/engine/aten/choice.h"
#include "probe/engine/aten/layers.h"

#define THREADS_MAX 64
#define PATIENCE 3               /* so many steps wait in vain for tokens, no more */
#define NOT_A_ROUTERS UINT32_MAX /* a result that is somebody else's, and no loss */
#define UNDER_WAY_MAX 256        /* results of computations that had begun before the attach */

/* Of a result in two tensors, the first. */
struct pending {
	uint64_t time_ns; /* of its hit; 0: none */
	uint32_t rows, k;
	size_t capacity;
	int64_t *ids; /* [rows][k] */
};

struct thread {
	uint32_t tid, tgid;
	uint64_t used;
	bool open;
	uint32_t closed; /* computation that was closed complete */
	uint8_t without; /* steps in a row that had results and no tokens */
	uint8_t waits;   /* all results are there, tokens are to come; so often was it expired */
	struct pending pending;
	struct aten_column ahead; /* positions that came before the step that they are of */
	struct aten_step step;
	struct aten_step held; /* early: the one before, which waits for what it has shown */
};

struct aten_steps {
	struct aten_steps_options o;
	uint64_t calls;
	uint32_t unbegun; /* results of computations whose beginning was not seen */
	size_t threads;
	struct thread thread[THREADS_MAX];
};

int aten_steps__new(struct aten_steps **out, const struct aten_steps_options *o)
{
	*out = calloc(1, sizeof(**out));
	if (!*out)
		return -ENOMEM;
	(*out)->o = *o;
	return 0;
}

static void step__free(struct aten_step *s)
{
	aten_layers__free(s);
	free(s->token.value);
	free(s->position.value);
	free(s->slot.value);
	free(s->start.value);
	memset(s, 0, sizeof(*s));
}

void aten_steps__free(struct aten_steps *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->threads; i++) {
		free(s->thread[i].pending.ids);
		free(s->thread[i].ahead.value);
		step__free(&s->thread[i].step);
		step__free(&s->thread[i].held);
	}
	free(s);
}

/* --- threads and their steps -------------------------------------------------------------------
 */

/* NULL: it has no result, or its context has become another one meanwhile. */
static struct aten_context *step__context(struct aten_steps *s, const struct aten_step *step)
{
	struct aten_context *c =
		step->context ? aten_contexts__find(s->o.contexts, step->tgid, step->key) : NULL;

	return c && c->id == step->context ? c : NULL;
}

/* @step came early, and its model is known by now: its results become layers of it. NULL: not yet.
 */
static struct aten_context *step__settle(struct aten_steps *s, struct aten_step *step)
{
	struct aten_context *c = aten_contexts__find(s->o.contexts, step->tgid, step->key);

	if (!c || !aten_shown__agree(&c->router, &step->shown))
		return NULL;
	for (uint32_t i = 0; i < step->layers; i++)
		if (aten_shown__layer(&c->router, step->layer[i].ordinal) == UINT32_MAX)
			return NULL;
	for (uint32_t i = 0; i < step->layers; i++) {
		step->layer[i].ordinal = aten_shown__layer(&c->router, step->layer[i].ordinal);
		step->most_ordinal = step->layer[i].ordinal + 1;
	}
	return c;
}

/* Hand @step over, of @c; NULL: its results are lost. */
static int step__hand_over(struct aten_steps *s, struct aten_step *step, struct aten_context *c,
			   const struct engine_sink *sink)
{
	int err = 0;

	step->early = false;
	if (c) {
		aten_context__had_layers(c, step->most_ordinal);
		err = aten_contexts__say(s->o.contexts, c, sink);
		step->context = c->id;
	} else if (step->layers) {
		err = sink->lost(sink->ctx, ENGINE_LOSS_NO_STEP, step->layers,
				 (uint64_t)step->layers * step->rows);
	}
	return err ? err : s->o.step(s->o.ctx, step, c, sink);
}

/* The early step, if its model is known, or it is the @last chance. */
static int thread__release(struct aten_steps *s, struct thread *t, bool last,
			   const struct engine_sink *sink)
{
	struct aten_context *c = t->held.early ? step__settle(s, &t->held) : NULL;

	return t->held.early && (c || last) ? step__hand_over(s, &t->held, c, sink) : 0;
}

static int thread__close(struct aten_steps *s, struct thread *t, const struct engine_sink *sink)
{
	struct aten_step *step = &t->step, spare;
	struct aten_identity id = { step->tgid, step->key, step->vocabulary, 0, 0 };
	struct aten_context *c;
	bool early = step->early;
	int err, err_held;

	if (!t->open)
		return 0;
	t->open = false;
	t->waits = 0;
	if (step->layers)
		t->without = step->token.count       ? 0
			     : t->without < PATIENCE ? t->without + 1
						     : PATIENCE;
	t->pending.time_ns = 0;
	if (early)
		aten_contexts__learn(s->o.contexts, &id, &step->shown);
	err_held = thread__release(s, t, true, sink);
	c = early ? step__settle(s, step) : step__context(s, step);
	if (early && !c) {
		spare = t->held;
		t->held = *step;
		*step = spare;
		return err_held;
	}
	err = step__hand_over(s, step, c, sink);
	if (!early && step->shown.experts)
		aten_contexts__learn(s->o.contexts, &id, &step->shown);
	return err_held ? err_held : err;
}

/* All that is to come of the step has come. */
static int thread__complete(struct aten_steps *s, struct thread *t, const struct engine_sink *sink)
{
	t->closed = t->step.computation;
	return thread__close(s, t, sink);
}

static struct thread *thread__find(struct aten_steps *s, uint32_t tgid, uint32_t tid)
{
	for (size_t i = 0; i < s->threads; i++)
		if (s->thread[i].tid == tid && s->thread[i].tgid == tgid)
			return &s->thread[i];
	return NULL;
}

/* The thread, made if need be: the least recently used one makes room. */
static int thread__get(struct aten_steps *s, const struct mp_event *ev, struct thread **out,
		       const struct engine_sink *sink)
{
	struct thread *t = thread__find(s, ev->tgid, ev->tid);
	int err;

	*out = t;
	if (!t && s->threads < THREADS_MAX) {
		t = &s->thread[s->threads++];
	} else if (!t) {
		t = &s->thread[0];
		for (size_t i = 1; i < THREADS_MAX; i++)
			if (s->thread[i].used < t->used)
				t = &s->thread[i];
		err = thread__close(s, t, sink);
		if (!err)
			err = thread__release(s, t, true, sink);
		if (err)
			return err;
	}
	if (!*out) {
		t->tid = ev->tid;
		t->tgid = ev->tgid;
		t->closed = 0;
		t->without = 0;
		t->ahead.count = 0;
		t->pending.time_ns = 0;
	}
	t->used = ++s->calls;
	*out = t;
	return 0;
}

static void thread__begin(struct thread *t, const struct mp_event_tensor *head)
{
	struct aten_step *s = &t->step;
	struct aten_column spare = s->position;

	t->open = true;
	t->pending.time_ns = 0;
	s->tgid = t->tgid;
	s->tid = t->tid;
	s->computation = head->computation;
	s->key = 0;
	s->vocabulary = 0;
	s->dtype = ATEN_FLOAT;
	s->begin_ns = s->end_ns = head->event.time_ns;
	s->scalar = head->scalar[0];
	s->batch = s->length = 0;
	s->slots_bytes = 0;
	s->token.count = s->position.count = s->slot.count = 0;
	s->start.count = 0;
	s->rows = s->context = s->layers = s->most_ordinal = 0;
	s->shown = (struct aten_shown){ 0 };
	s->early = false;
	s->position = t->ahead;
	spare.count = 0;
	t->ahead = spare;
}

/* --- columns -----------------------------------------------------------------------------------
 */

static struct aten_column *column_of(struct aten_step *s, uint8_t role)
{
	switch (role) {
	case MP_ROLE_TOKENS:
		return &s->token;
	case MP_ROLE_POSITIONS:
		return &s->position;
	case MP_ROLE_SLOTS:
		return &s->slot;
	case MP_ROLE_STARTS:
		return &s->start;
	default:
		return NULL;
	}
}

static int add_column(struct aten_steps *s, struct thread *t, const struct aten_tensor *tensor)
{
	const struct mp_event_tensor *head = &tensor->head;
	struct aten_step *step = &t->step;
	struct aten_column *c = column_of(step, head->role);

	if (!c)
		return -EBADMSG;
	/* Some programs turn positions into angles before they look tokens up: behind the results
	 * of a step they are those of the next one. */
	if (head->role == MP_ROLE_POSITIONS && (!t->open || step->layers))
		return aten_column__fill(&t->ahead, tensor, s->o.position_scale);
	/* Results said already how many rows there are. */
	if (head->role == MP_ROLE_TOKENS && step->layers &&
	    aten_tensor__count(tensor) != step->rows)
		return -EBADMSG;
	if (head->event.time_ns > step->end_ns)
		step->end_ns = head->event.time_ns;
	if (head->role == MP_ROLE_TOKENS) {
		step->batch = head->dims > 1 ? head->size[0] : 1;
		step->length = head->dims > 1 ? head->size[head->dims - 1] : head->size[0];
	}
	if (head->role == MP_ROLE_SLOTS)
		step->slots_bytes = head->storage;
	if (head->key) {
		step->key = head->key;
		step->vocabulary = head->key_first;
		step->dtype = (uint8_t)head->key_dtype;
	}
	return aten_column__fill(c, tensor, s->o.position_scale);
}

/* --- results -----------------------------------------------------------------------------------
 */

/* Rows that the step has, or announced; 0: it did not say. */
static uint32_t step__announced(const struct aten_step *s)
{
	if (s->layers)
		return s->rows;
	return s->token.count ? s->token.count : s->position.count;
}

/* One result, and whose it is. */
struct result {
	uint32_t experts, k;
	uint32_t ordinal; /* among those of its router */
	uint32_t rows;
	struct aten_context *context; /* NULL: it came early */
};

/* Where no folder says what a router is. 0, or the cause why it is nobody's. */
static uint32_t fit_shown(struct aten_steps *s, struct aten_step *step, struct result *r)
{
	struct aten_context *c = aten_contexts__find(s->o.contexts, step->tgid, step->key);
	struct aten_shown before = step->shown;

	if (!step->layers && (!c || !c->router.experts))
		step->early = true;
	if (!step->early && step->layers && !(c = step__context(s, step)))
		return ENGINE_INVALID_SHAPE;
	aten_shown__add(&step->shown, r->experts, r->k, r->ordinal, r->rows);
	if (step->early) {
		if (step->shown.experts != before.experts || step->shown.k != before.k)
			step->layers = 0; /* what came before was none of the router's */
		return step->shown.experts == r->experts && step->shown.k == r->k ? 0
										  : NOT_A_ROUTERS;
	}
	if (r->experts < c->router.experts)
		return NOT_A_ROUTERS; /* a choice of groups */
	r->ordinal = aten_shown__layer(&c->router, r->ordinal);
	return r->experts != c->router.experts || r->k != c->router.k || r->ordinal == UINT32_MAX
		       ? ENGINE_INVALID_SHAPE
		       : 0;
}

/* Whose result @r is: in its context. 0, or the cause why it is nobody's; NOT_A_ROUTERS. */
static uint32_t fit_context(struct aten_steps *s, struct aten_step *step, struct result *r)
{
	struct aten_identity id = { step->tgid, step->key, step->vocabulary, r->experts, r->k };
	uint32_t announced = step__announced(step), cause = 0;
	struct aten_context *c;

	/* A sampler's choice among all tokens. */
	if (step->vocabulary && r->experts == step->vocabulary)
		return NOT_A_ROUTERS;
	if (announced && announced != r->rows)
		return ENGINE_INVALID_ROW_COUNT;
	if (!r->k || r->k > MP_TOP_K || r->k > r->experts || r->experts > MODEL_EXPERTS_MAX ||
	    r->ordinal >= ATEN_LAYERS_MAX)
		return ENGINE_INVALID_SHAPE;
	if (aten_contexts__learn_routers(s->o.contexts))
		cause = fit_shown(s, step, r);
	if (cause)
		return cause;
	if (step->layers && r->ordinal <= step->layer[step->layers - 1].ordinal)
		return ENGINE_INVALID_SHAPE;
	if (step->early)
		return 0;
	/* One step is of one model. */
	c = step->layers ? step__context(s, step) : aten_contexts__fit(s->o.contexts, &id);
	if (!c || c->experts != r->experts || c->k != r->k ||
	    (c->layers_known && r->ordinal >= c->layers))
		return ENGINE_INVALID_SHAPE;
	r->context = c;
	return 0;
}

/* A whole result of @scores, and @ids unless they follow from it (NULL). */
static int add_result(struct aten_steps *s, struct thread *t, const struct aten_tensor *scores,
		      const struct pending *ids, const struct engine_sink *sink)
{
	const struct mp_event_tensor *head = &scores->head;
	struct aten_step *step = &t->step;
	struct result r = {
		.experts = head->role == MP_ROLE_WEIGHTS ? head->key_first : scores->width,
		.k = ids ? ids->k : (uint32_t)head->scalar[0],
		.ordinal = head->ordinal,
		.rows = head->event.total,
	};
	struct aten_gate gate = aten_gate__of(NULL);
	struct aten_choices out;
	struct aten_layer *l;
	uint32_t cause = fit_context(s, step, &r);
	int err;

	if (cause)
		return cause == NOT_A_ROUTERS ? 0 : sink->invalid(sink->ctx, cause, 1);
	if (r.context && !r.context->id)
		r.context->by_scores = !ids;
	if (r.context && !r.context->id && s->o.describe)
		s->o.describe(s->o.ctx, r.context);
	err = aten_layers__next(step, r.rows, r.k, &l);
	if (!err && r.context)
		err = aten_contexts__say(s->o.contexts, r.context, sink);
	if (err)
		return err;
	if (r.context)
		gate = r.context->gate;
	out = (struct aten_choices){ l->ids, l->weights, l->flags, r.k, r.experts, step->dtype };
	cause = ids ? aten_choice__gather(&out, ids->ids, scores, &gate)
		    : aten_choice__select(&out, scores, &gate);
	if (cause)
		return sink->invalid(sink->ctx, cause, 1);
	l->ordinal = r.ordinal;
	step->most_ordinal = r.ordinal + 1;
	step->layers++;
	step->rows = r.rows;
	step->context = r.context ? r.context->id : 0;
	step->end_ns = head->event.time_ns;
	if (!r.context || !r.context->layers_known || step->most_ordinal < r.context->layers)
		return 0;
	t->waits = s->o.tokens_follow && t->without < PATIENCE && !step->token.count;
	return t->waits ? 0 : thread__complete(s, t, sink);
}

static int hold_ids(struct pending *p, const struct aten_tensor *t)
{
	uint64_t count = aten_tensor__count(t);
	int64_t *more;

	if (count > p->capacity) {
		more = realloc(p->ids, count * sizeof(*more));
		if (!more)
			return -ENOMEM;
		p->ids = more;
		p->capacity = count;
	}
	for (uint32_t row = 0; row < t->head.event.total; row++)
		if (!aten_tensor__integers(t, row, p->ids + (size_t)row * t->width))
			return -EBADMSG;
	p->time_ns = t->head.event.time_ns;
	p->rows = t->head.event.total;
	p->k = t->width;
	return 0;
}

/* Behind the last layer of a step that is closed: a sampler, or what no layer is. */
static bool is_behind(const struct thread *t, const struct mp_event_tensor *head)
{
	return !t->open && head->computation == t->closed && head->ordinal >= t->step.most_ordinal;
}

/* One tensor of a result. */
static int add_route(struct aten_steps *s, struct thread *t, const struct aten_tensor *tensor,
		     const struct engine_sink *sink)
{
	const struct mp_event_tensor *head = &tensor->head;
	struct pending *p = &t->pending;
	bool second = p->time_ns && p->time_ns == head->event.time_ns;

	if (is_behind(t, head))
		return 0;
	if (!t->open || t->step.computation != head->computation) {
		if (head->role == MP_ROLE_IDS)
			p->time_ns = head->event.time_ns; /* the other tensor is not lost again */
		if (head->role == MP_ROLE_IDS || !second)
			return sink->lost(sink->ctx, ENGINE_LOSS_NO_STEP, 1, head->event.total);
		return 0;
	}
	if (head->role == MP_ROLE_IDS)
		return hold_ids(p, tensor);
	p->time_ns = 0;
	if (second && p->rows != head->event.total)
		return sink->invalid(sink->ctx, ENGINE_INVALID_ROW_COUNT, 1);
	if (!second && head->role == MP_ROLE_WEIGHTS)
		return 0; /* its ids were given up, and counted */
	return add_result(s, t, tensor, second ? p : NULL, sink);
}

static bool is_route(uint8_t role)
{
	return role == MP_ROLE_SCORES || role == MP_ROLE_IDS || role == MP_ROLE_WEIGHTS;
}

/* Of a computation that was under way at attach; or, where there are more than that can be, of a
 * model whose beginnings cannot be seen: its embedding was compiled away, or is too small. */
static int add_unbegun(struct aten_steps *s, const struct mp_event_tensor *head,
		       const struct engine_sink *sink)
{
	if (!is_route(head->role) || head->role == MP_ROLE_IDS)
		return 0;
	if (s->unbegun < UNDER_WAY_MAX) {
		s->unbegun++;
		return 0;
	}
	return sink->lost(sink->ctx, ENGINE_LOSS_NO_STEP, 1, head->event.total);
}

int aten_steps__tensor(struct aten_steps *s, const struct capture *c,
		       const struct engine_sink *sink)
{
	struct aten_tensor tensor;
	struct thread *t;
	int err = aten_tensor__open(&tensor, c);

	if (!err && !tensor.head.computation)
		return add_unbegun(s, &tensor.head, sink);
	if (err)
		return err;
	err = thread__get(s, c->chunk[0], &t, sink);
	if (err)
		return err;
	if (t->open && t->step.computation != tensor.head.computation)
		err = thread__close(s, t, sink);
	if (err || !tensor.element_bytes)
		return err;
	if (is_route(tensor.head.role))
		return add_route(s, t, &tensor, sink);
	if (tensor.head.computation & MP_COMPUTATION_REFUSED)
		return 0;
	if (!t->open && tensor.head.computation != t->closed)
		thread__begin(t, &tensor.head);
	else if (!t->open && tensor.head.role != MP_ROLE_POSITIONS) {
		if (tensor.head.role == MP_ROLE_TOKENS)
			t->without = 0;
		return 0;
	}
	err = add_column(s, t, &tensor);
	return !err && t->waits && t->step.token.count ? thread__complete(s, t, sink) : err;
}

/* --- the end of steps --------------------------------------------------------------------------
 */

int aten_steps__expire(struct aten_steps *s, uint64_t before_ns, const struct engine_sink *sink)
{
	int err = 0;

	for (size_t i = 0; i < s->threads; i++) {
		struct thread *t = &s->thread[i];
		int err_one = 0;

		if (t->open && (t->step.end_ns < before_ns || (t->waits && t->waits++ > 1)))
			err_one = thread__close(s, t, sink);
		if (!err_one && t->held.end_ns < before_ns)
			err_one = thread__release(s, t, before_ns == UINT64_MAX, sink);
		err = err ? err : err_one;
	}
	return err;
}

bool aten_steps__thread(const struct aten_steps *s, size_t at, struct aten_thread *out)
{
	const struct aten_context *c = NULL;
	const struct thread *t;

	if (at >= s->threads)
		return false;
	t = &s->thread[at];
	if (t->open && t->step.key)
		c = aten_contexts__find(s->o.contexts, t->tgid, t->step.key);
	*out = (struct aten_thread){ t->tgid, t->tid, t->open, c ? c->id : 0 };
	return true;
}

int aten_steps__leave(struct aten_steps *s, uint32_t tgid, const struct engine_sink *sink)
{
	int err = 0;

	for (size_t i = 0; i < s->threads; i++) {
		struct thread *t = &s->thread[i];
		int err_one = 0;

		if (t->tgid == tgid)
			err_one = thread__close(s, t, sink);
		if (t->tgid == tgid && !err_one)
			err_one = thread__release(s, t, true, sink);
		err = err ? err : err_one;
	}
	return err;
}
