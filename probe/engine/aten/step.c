/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/engine/aten/step.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "probe/abi/site.h"
#include "probe/engine/aten/choice.h"

#define THREADS_MAX 64
#define UNDER_WAY_MAX 256 /* results of computations that had begun before the attach */
#define WHOLE 0.01f       /* a captured position is so near to a whole number */

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
	struct pending pending;
	struct aten_column ahead; /* positions that came before the step that they are of */
	struct aten_step step;
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
	for (uint32_t i = 0; i < s->layer_capacity; i++)
		free(s->layer[i].weights);
	free(s->layer);
	free(s->token.value);
	free(s->position.value);
	free(s->slot.value);
	free(s->start.value);
	free(s->block.value);
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

static int thread__close(struct aten_steps *s, struct thread *t, const struct engine_sink *sink)
{
	struct aten_step *step = &t->step;
	struct aten_context *c;
	int err = 0;

	if (!t->open)
		return 0;
	t->open = false;
	t->pending.time_ns = 0;
	c = step__context(s, step);
	if (c) {
		aten_context__had_layers(c, step->most_ordinal);
		err = aten_contexts__say(s->o.contexts, c, sink);
	} else if (step->layers) {
		err = sink->lost(sink->ctx, ENGINE_LOSS_NO_STEP, step->layers,
				 (uint64_t)step->layers * step->rows);
	}
	return err ? err : s->o.step(s->o.ctx, step, c, sink);
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
		if (err)
			return err;
	}
	if (!*out) {
		t->tid = ev->tid;
		t->tgid = ev->tgid;
		t->closed = 0;
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
	s->start.count = s->block.count = 0;
	s->rows = s->context = s->layers = s->most_ordinal = 0;
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
	case MP_ROLE_BLOCKS:
		return &s->block;
	default:
		return NULL;
	}
}

static int column__reserve(struct aten_column *c, uint32_t count)
{
	int64_t *more;

	if (count <= c->capacity)
		return 0;
	more = realloc(c->value, count * sizeof(*more));
	if (!more)
		return -ENOMEM;
	c->value = more;
	c->capacity = count;
	return 0;
}

/* A whole number that was captured as @value of @scale; -1: it is none. */
static int64_t whole(float value, float scale)
{
	float number = scale > 0 ? value / scale : NAN, nearest = roundf(number);

	if (!(nearest >= 0 && nearest < (float)INT32_MAX) || fabsf(number - nearest) > WHOLE)
		return -1;
	return (int64_t)nearest;
}

static int column__fill(struct aten_column *c, const struct aten_tensor *t, float scale)
{
	uint64_t count = aten_tensor__count(t);
	float value;
	int err = column__reserve(c, (uint32_t)count);

	if (err)
		return err;
	c->count = 0;
	for (uint32_t row = 0; row < t->head.event.total; row++) {
		int64_t *to = c->value + (size_t)row * t->width;

		if (aten_tensor__integers(t, row, to))
			continue;
		if (t->width != 1 || !aten_tensor__floats(t, row, &value))
			return -EBADMSG;
		*to = whole(value, scale);
	}
	c->count = (uint32_t)count;
	return 0;
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
		return column__fill(&t->ahead, tensor, s->o.position_scale);
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
	return column__fill(c, tensor, s->o.position_scale);
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

/* Room for @rows x @k choices: weights, ids and flags in one block. */
static int layer__reserve(struct aten_layer *l, uint32_t rows, uint32_t k)
{
	size_t choices = (size_t)rows * k, bytes;
	uint8_t *block;

	if (choices > l->capacity) {
		bytes = choices * (sizeof(*l->weights) + sizeof(*l->ids) + sizeof(*l->flags));
		block = malloc(bytes);
		if (!block)
			return -ENOMEM;
		free(l->weights);
		l->weights = (float *)block;
		l->capacity = choices;
	}
	l->ids = (uint16_t *)(l->weights + l->capacity);
	l->flags = (uint8_t *)(l->ids + l->capacity);
	l->rows = rows;
	l->k = k;
	return 0;
}

static int step__next_layer(struct aten_step *s, struct aten_layer **out)
{
	struct aten_layer *more;
	uint32_t capacity;

	if (s->layers == s->layer_capacity) {
		capacity = s->layer_capacity ? 2 * s->layer_capacity : 16;
		more = realloc(s->layer, capacity * sizeof(*more));
		if (!more)
			return -ENOMEM;
		memset(more + s->layer_capacity, 0, (capacity - s->layer_capacity) * sizeof(*more));
		s->layer = more;
		s->layer_capacity = capacity;
	}
	*out = &s->layer[s->layers];
	return 0;
}

/* Whose result it is: in *@out. 0, or the cause why it is nobody's; UINT32_MAX: it is none. */
static uint32_t fit_context(struct aten_steps *s, struct aten_step *step,
			    const struct mp_event_tensor *head, uint32_t experts, uint32_t k,
			    struct aten_context **out)
{
	struct aten_identity id = { step->tgid, step->key, step->vocabulary, experts, k };
	uint32_t announced = step__announced(step);

	/* A sampler's choice among all tokens. */
	if (step->vocabulary && experts == step->vocabulary)
		return UINT32_MAX;
	if (announced && announced != head->event.total)
		return ENGINE_INVALID_ROW_COUNT;
	if (!k || k > MP_TOP_K || k > experts || experts > MODEL_EXPERTS_MAX ||
	    head->ordinal >= ATEN_LAYERS_MAX ||
	    (step->layers && head->ordinal <= step->layer[step->layers - 1].ordinal))
		return ENGINE_INVALID_SHAPE;
	/* One step is of one model. */
	*out = step->layers ? step__context(s, step) : aten_contexts__fit(s->o.contexts, &id);
	if (!*out || (*out)->experts != experts || (*out)->k != k ||
	    ((*out)->layers_known && head->ordinal >= (*out)->layers))
		return ENGINE_INVALID_SHAPE;
	return 0;
}

/* A whole result of @scores, and @ids unless they follow from it (NULL). */
static int add_result(struct aten_steps *s, struct thread *t, const struct aten_tensor *scores,
		      const struct pending *ids, const struct engine_sink *sink)
{
	const struct mp_event_tensor *head = &scores->head;
	struct aten_step *step = &t->step;
	uint32_t experts = head->role == MP_ROLE_WEIGHTS ? head->key_first : scores->width;
	uint32_t k = ids ? ids->k : (uint32_t)head->scalar[0];
	struct aten_context *c = NULL;
	struct aten_choices out;
	struct aten_layer *l;
	uint32_t cause = fit_context(s, step, head, experts, k, &c);
	int err;

	if (cause == UINT32_MAX)
		return 0;
	if (cause)
		return sink->invalid(sink->ctx, cause, 1);
	if (!c->id && s->o.describe)
		s->o.describe(s->o.ctx, c);
	err = step__next_layer(step, &l);
	if (!err)
		err = layer__reserve(l, head->event.total, k);
	if (!err)
		err = aten_contexts__say(s->o.contexts, c, sink);
	if (err)
		return err;
	out = (struct aten_choices){ l->ids, l->weights, l->flags, k, experts, step->dtype };
	cause = ids ? aten_choice__gather(&out, ids->ids, scores, &c->gate)
		    : aten_choice__select(&out, scores, &c->gate);
	if (cause)
		return sink->invalid(sink->ctx, cause, 1);
	l->ordinal = head->ordinal;
	step->most_ordinal = head->ordinal + 1;
	step->layers++;
	step->rows = head->event.total;
	step->context = c->id;
	step->end_ns = head->event.time_ns;
	if (!c->layers_known || step->most_ordinal < c->layers)
		return 0;
	t->closed = step->computation;
	return thread__close(s, t, sink);
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

/* One tensor of a result. */
static int add_route(struct aten_steps *s, struct thread *t, const struct aten_tensor *tensor,
		     const struct engine_sink *sink)
{
	const struct mp_event_tensor *head = &tensor->head;
	struct pending *p = &t->pending;
	bool second = p->time_ns && p->time_ns == head->event.time_ns;
	uint32_t number = head->computation & ~MP_COMPUTATION_REFUSED;

	if (!t->open && number == t->closed)
		return 0; /* behind the last layer: a sampler, or what no layer is */
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
	else if (!t->open && tensor.head.role != MP_ROLE_POSITIONS)
		return 0;
	return add_column(s, t, &tensor);
}

/* --- the end of steps --------------------------------------------------------------------------
 */

int aten_steps__expire(struct aten_steps *s, uint64_t before_ns, const struct engine_sink *sink)
{
	int err = 0;

	for (size_t i = 0; i < s->threads; i++) {
		struct thread *t = &s->thread[i];
		int err_one = 0;

		if (t->open && t->step.end_ns < before_ns)
			err_one = thread__close(s, t, sink);
		err = err ? err : err_one;
	}
	return err;
}

int aten_steps__leave(struct aten_steps *s, uint32_t tgid, const struct engine_sink *sink)
{
	int err = 0;

	for (size_t i = 0; i < s->threads; i++) {
		int err_one = s->thread[i].tgid == tgid ? thread__close(s, &s->thread[i], sink) : 0;

		err = err ? err : err_one;
	}
	return err;
}
