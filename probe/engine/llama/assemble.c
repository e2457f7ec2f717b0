/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Rows and routes are joined by thread and by the number of the computation on it, which the
 * kernel counts also when a description is lost: a route is never given to other rows.
 *
 * A layer has as many rows as its step, except the last: there the server computes only the rows
 * whose logits were asked for, in their order. Whatever has another number of rows is refused.
 *
 * Which context computes shows with the first route; the graph object that the rows name is then
 * remembered, so that a step whose routes were all lost is still said. What never routes (a dense
 * draft model) stays unsaid, and its rows touch no request.
 */
#include "probe/engine/llama/assemble.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define THREADS_MAX 64
#define ROUTES_MAX GGUF_LAYERS_MAX
#define OBJECTS_MAX 8 /* graph objects remembered of a thread */
#define SILENT_MAX 3  /* computations without a route that show that a graph has none */
/* First captures that may fail their check before we give up. */
#define ROWS_FAILURES_MAX 8
#define ROUTE_FAILURES_MAX 64

/* A finished layer of the open step. Owns ids, whose block the weights share. */
struct layer {
	struct engine_route route;
	size_t capacity; /* choices that the block holds */
	uint16_t *ids;
	float *weights;
};

struct step {
	bool open, settled; /* settled: its rows have their requests */
	bool warm_up;
	struct llama_rows rows;
	struct engine_row *row; /* rows.count entries, once settled */
	uint32_t row_capacity;
	uint32_t context; /* id, 0: not known yet */
	uint64_t end_ns;  /* of its last event */
	uint32_t layers, layer_capacity;
	struct layer *layer;
};

/* A graph object of a thread. */
struct object {
	uint64_t address;
	uint32_t context; /* id of whose graph it is, 0: unknown */
	uint32_t silent;  /* computations without a route while that is unknown */
};

struct thread {
	uint32_t tid;
	uint32_t computation; /* number of its latest */
	bool refused;         /* the rows of that one failed their check */
	bool had_routes;
	uint64_t used;
	size_t objects, next_object;
	struct object object[OBJECTS_MAX];
	struct step step;
};

struct llama_assembly {
	struct llama_contexts *contexts;
	struct llama_requests *requests;
	uint32_t vocabulary;
	uint64_t calls;
	struct {
		uint32_t failed;
		bool succeeded;
	} rows, routes;
	const char *doubt;
	size_t threads;
	struct thread thread[THREADS_MAX];
	struct engine_route *route; /* scratch: what is said */
	uint32_t route_capacity;
};

int llama_assembly__new(struct llama_assembly **out, struct llama_contexts *contexts,
			struct llama_requests *requests, uint32_t vocabulary)
{
	struct llama_assembly *a = calloc(1, sizeof(*a));

	*out = a;
	if (!a)
		return -ENOMEM;
	a->contexts = contexts;
	a->requests = requests;
	a->vocabulary = vocabulary;
	a->doubt = "";
	return 0;
}

static void step__free(struct step *s)
{
	for (uint32_t i = 0; i < s->layer_capacity; i++)
		free(s->layer[i].weights);
	free(s->layer);
	free(s->row);
	llama_rows__free(&s->rows);
	memset(s, 0, sizeof(*s));
}

void llama_assembly__free(struct llama_assembly *a)
{
	if (!a)
		return;
	for (size_t i = 0; i < a->threads; i++)
		step__free(&a->thread[i].step);
	free(a->route);
	free(a);
}

const char *llama_assembly__doubt(const struct llama_assembly *a)
{
	return a->doubt;
}

/* --- saying a step ---------------------------------------------------------------------------- */

static int assembly__reserve_routes(struct llama_assembly *a, uint32_t count)
{
	struct engine_route *more;

	if (count <= a->route_capacity)
		return 0;
	more = realloc(a->route, count * sizeof(*more));
	if (!more)
		return -ENOMEM;
	a->route = more;
	a->route_capacity = count;
	return 0;
}

static int step__say(struct llama_assembly *a, struct step *s, const struct engine_sink *sink)
{
	struct llama_context *context = llama_contexts__by_id(a->contexts, s->context);
	struct engine_step out = {
		.context = s->context,
		.step = context ? ++context->steps : 1,
		.begin_ns = s->rows.time_ns,
		.end_ns = s->end_ns,
		.rows = s->rows.count,
		.row = s->row,
		.routes = s->layers,
	};
	int err = assembly__reserve_routes(a, s->layers);

	if (err)
		return err;
	for (uint32_t i = 0; i < s->layers; i++)
		a->route[i] = s->layer[i].route;
	out.route = a->route;
	return sink->step(sink->ctx, &out);
}

/* The graph object that the open step of @t names; never NULL. */
static struct object *thread__object(struct thread *t)
{
	struct object *o;

	for (size_t i = 0; i < t->objects; i++)
		if (t->object[i].address == t->step.rows.object)
			return &t->object[i];
	if (t->objects < OBJECTS_MAX)
		o = &t->object[t->objects++];
	else
		o = &t->object[t->next_object++ % OBJECTS_MAX];
	*o = (struct object){ .address = t->step.rows.object };
	return o;
}

static int thread__close(struct llama_assembly *a, struct thread *t, const struct engine_sink *sink)
{
	struct step *s = &t->step;

	if (!s->open)
		return 0;
	s->open = false;
	if (s->warm_up)
		return sink->invalid(sink->ctx, ENGINE_INVALID_WARM_UP, 1);
	if (s->settled)
		return step__say(a, s, sink);
	/* No route: none was made, or all were lost and so are these rows. */
	if (++thread__object(t)->silent < SILENT_MAX)
		llama_requests__missed(a->requests, t->tid);
	return 0;
}

/* Give the open step's rows their requests. */
static int step__settle(struct llama_assembly *a, struct step *s, const struct engine_sink *sink)
{
	if (s->rows.count > s->row_capacity) {
		struct engine_row *more = malloc(s->rows.count * sizeof(*more));

		if (!more)
			return -ENOMEM;
		free(s->row);
		s->row = more;
		s->row_capacity = s->rows.count;
	}
	s->settled = true;
	return llama_requests__rows(a->requests, &s->rows, s->context, s->row, sink);
}

/* --- threads ---------------------------------------------------------------------------------- */

static struct thread *thread__find(struct llama_assembly *a, uint32_t tid)
{
	for (size_t i = 0; i < a->threads; i++)
		if (a->thread[i].tid == tid)
			return &a->thread[i];
	return NULL;
}

/* The one that was quiet longest makes room: its step is said. */
static int thread__get(struct llama_assembly *a, uint32_t tid, struct thread **out,
		       const struct engine_sink *sink)
{
	struct thread *t = thread__find(a, tid);
	int err = 0;

	if (!t && a->threads < THREADS_MAX) {
		t = &a->thread[a->threads++];
	} else if (!t) {
		t = &a->thread[0];
		for (size_t i = 1; i < a->threads; i++)
			if (a->thread[i].used < t->used)
				t = &a->thread[i];
		err = thread__close(a, t, sink);
		t->computation = 0;
		t->refused = t->had_routes = false;
		t->objects = 0;
	}
	t->tid = tid;
	t->used = ++a->calls;
	*out = t;
	return err;
}

int llama_assembly__close(struct llama_assembly *a, uint32_t tid, const struct engine_sink *sink)
{
	struct thread *t = thread__find(a, tid);

	return t ? thread__close(a, t, sink) : 0;
}

int llama_assembly__expire(struct llama_assembly *a, uint64_t before_ns,
			   const struct engine_sink *sink)
{
	int err = 0;

	for (size_t i = 0; i < a->threads; i++) {
		struct thread *t = &a->thread[i];
		int err_close;

		if (!t->step.open || t->step.end_ns >= before_ns)
			continue;
		err_close = thread__close(a, t, sink);
		err = err ? err : err_close;
	}
	return err;
}

/* --- rows ------------------------------------------------------------------------------------- */

static int refuse_rows(struct llama_assembly *a, struct thread *t, const struct engine_sink *sink)
{
	int err = sink->invalid(sink->ctx, ENGINE_INVALID_ROW, 1);

	t->refused = true;
	if (err || a->rows.succeeded || ++a->rows.failed < ROWS_FAILURES_MAX)
		return err;
	a->doubt = "rows with impossible positions, sequences or flags: this build's llama_ubatch "
		   "is not known";
	return -EPROTO;
}

/* The run of two tokens with which a server warms up a model that it has just loaded: nothing
 * has been served, nothing has been computed in this context. */
static bool is_warm_up(const struct llama_assembly *a, const struct thread *t)
{
	const struct llama_rows *r = &t->step.rows;

	if (t->had_routes || r->count > 2 || !llama_requests__is_quiet(a->requests, t->tid))
		return false;
	for (uint32_t i = 0; i < r->count; i++)
		if (r->sequence[i] || r->position[i] != (int32_t)i)
			return false;
	return true;
}

int llama_assembly__rows(struct llama_assembly *a, const struct capture *c,
			 const struct engine_sink *sink)
{
	struct thread *t;
	struct step *s;
	uint32_t before;
	int err, bad;

	err = thread__get(a, c->chunk[0]->tid, &t, sink);
	if (!err)
		err = thread__close(a, t, sink);
	s = &t->step;
	before = t->computation;
	bad = llama_rows__decode(&s->rows, c, a->vocabulary);
	if (bad == -ENOMEM)
		return bad;
	t->computation = s->rows.computation;
	t->refused = false;
	if (s->rows.computation != before + 1)
		llama_requests__missed(a->requests, t->tid);
	if (bad) {
		llama_requests__missed(a->requests, t->tid);
		bad = refuse_rows(a, t, sink);
		return bad ? bad : err;
	}
	a->rows.succeeded = true;
	s->open = true;
	s->settled = false;
	s->context = thread__object(t)->context;
	s->warm_up = is_warm_up(a, t);
	s->end_ns = s->rows.time_ns;
	s->layers = 0;
	if (s->context && !s->warm_up) {
		bad = step__settle(a, s, sink);
		err = err ? err : bad;
	}
	return err;
}

/* --- routes ----------------------------------------------------------------------------------- */

static int refuse_route(struct llama_assembly *a, uint32_t cause, const char *doubt,
			const struct engine_sink *sink)
{
	int err = sink->invalid(sink->ctx, cause, 1);

	if (err || a->routes.succeeded || ++a->routes.failed < ROUTE_FAILURES_MAX)
		return err;
	a->doubt = doubt;
	return -EPROTO;
}

static const char bad_tensors[] =
	"router results with impossible shapes, ids or weights: this build's tensors are not known";
static const char bad_geometry[] =
	"router results do not have the model file's layers and numbers of experts";

/* Room for @choices ids and weights in the next layer of @s. NULL: no memory. */
static struct layer *step__next_layer(struct step *s, size_t choices)
{
	struct layer *l;

	if (s->layers == s->layer_capacity) {
		uint32_t capacity = s->layer_capacity ? 2 * s->layer_capacity : 64;
		struct layer *more = realloc(s->layer, capacity * sizeof(*more));

		if (!more)
			return NULL;
		memset(more + s->layer_capacity, 0, (capacity - s->layer_capacity) * sizeof(*more));
		s->layer = more;
		s->layer_capacity = capacity;
	}
	l = &s->layer[s->layers];
	if (choices > l->capacity) {
		free(l->weights);
		l->weights = malloc(choices * (sizeof(float) + sizeof(uint16_t)));
		l->capacity = l->weights ? choices : 0;
		if (!l->weights)
			return NULL;
		l->ids = (uint16_t *)(l->weights + choices);
	}
	return l;
}

static bool step__has_layer(const struct step *s, uint32_t layer)
{
	for (uint32_t i = 0; i < s->layers; i++)
		if (s->layer[i].route.layer == layer)
			return true;
	return false;
}

/* A route shows that thread @t computes something whose rows did not arrive: it is past its open
 * step, and what that is of is not known. */
static int thread__skip_to(struct llama_assembly *a, struct thread *t, uint32_t computation,
			   bool refused, const struct engine_sink *sink)
{
	int err = thread__close(a, t, sink);

	t->computation = computation;
	t->refused = refused;
	llama_requests__missed(a->requests, t->tid);
	return err;
}

/* The step that @h belongs to; NULL, then *@err is what saying so gave. */
static struct step *find_step(struct llama_assembly *a, struct thread *t,
			      const struct llama_route_head *h, int *err,
			      const struct engine_sink *sink)
{
	uint32_t computation = h->computation & ~MP_COMPUTATION_REFUSED;
	struct step *s = &t->step;
	int err_said;

	*err = 0;
	if (!computation) /* its rows went by before we attached: not a loss */
		return NULL;
	if (computation > t->computation)
		*err = thread__skip_to(a, t, computation, computation != h->computation, sink);
	if (s->open && t->computation == computation && !step__has_layer(s, h->layer))
		return s;
	if (t->computation == computation && t->refused)
		err_said = sink->invalid(sink->ctx, ENGINE_INVALID_ROW, 1);
	else
		err_said = sink->lost(sink->ctx, ENGINE_LOSS_NO_STEP, 1, h->rows);
	*err = *err ? *err : err_said;
	return NULL;
}

/* Check the numbers of @c and keep them as a layer of @s. */
static int step__add(struct llama_assembly *a, struct step *s, const struct capture *c,
		     const struct llama_route_head *h, uint32_t experts,
		     const struct engine_sink *sink)
{
	struct layer *l = step__next_layer(s, (size_t)h->rows * h->k);
	uint32_t cause;

	if (!l)
		return -ENOMEM;
	if (h->rows != s->rows.count && h->rows != s->rows.outputs)
		return sink->invalid(sink->ctx, ENGINE_INVALID_ROW_COUNT, 1);
	cause = llama_route__decode(l->ids, l->weights, c, h, experts);
	if (cause)
		return refuse_route(a, cause, bad_tensors, sink);
	a->routes.succeeded = true;
	l->route = (struct engine_route){
		.layer = h->layer,
		.rows = h->rows,
		.k = h->k,
		.row = h->rows == s->rows.count ? NULL : s->rows.output_row,
		.ids = l->ids,
		.weights = l->weights,
	};
	s->layers++;
	return 0;
}

/* A route of @context in the open step of @t: the first one tells whose step it is. */
static int step__join(struct llama_assembly *a, struct thread *t, struct llama_context *context,
		      const struct engine_sink *sink)
{
	struct step *s = &t->step;
	int err, err_settle;

	err = llama_contexts__say(a->contexts, context, sink);
	if (s->settled)
		return err;
	t->had_routes = true;
	s->context = context->id;
	thread__object(t)->context = context->id;
	err_settle = step__settle(a, s, sink);
	return err ? err : err_settle;
}

int llama_assembly__route(struct llama_assembly *a, const struct capture *c,
			  const struct engine_sink *sink)
{
	struct llama_context *context;
	struct llama_route_head h;
	enum llama_fit fit;
	struct thread *t;
	struct step *s;
	int err, err_add;

	if (llama_route__head(&h, c))
		return refuse_route(a, ENGINE_INVALID_SHAPE, bad_tensors, sink);
	err = thread__get(a, c->chunk[0]->tid, &t, sink);
	if (err)
		return err;
	s = find_step(a, t, &h, &err, sink);
	if (!s || s->warm_up)
		return err;
	s->end_ns = c->chunk[0]->time_ns;
	fit = llama_contexts__fit(a->contexts, llama_requests__server(a->requests, t->tid), &h,
				  &context);
	if (fit == LLAMA_FIT_WARM_UP && !s->settled) {
		s->warm_up = true;
		return 0;
	}
	if (fit != LLAMA_FIT_OK || (s->settled && s->context != context->id)) {
		thread__object(t)->context = 0;
		return refuse_route(a, ENGINE_INVALID_SHAPE, bad_geometry, sink);
	}
	err = step__join(a, t, context, sink);
	err_add = step__add(a, s, c, &h, context->experts, sink);
	err = err ? err : err_add;
	if (h.layer == context->last_layer) {
		err_add = thread__close(a, t, sink);
		err = err ? err : err_add;
	}
	return err;
}
