/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Models of transformers on a CPU, served by `transformers serve` or by a program of the operator's
 * own around generate(); and, as far as it has routers and embeddings like theirs, any program that
 * computes with libtorch. One decision on its way:
 *
 *   aten/sites.c     which places of libtorch are probed
 *   aten/intake.c    the first tensors wait until their own bytes confirm how they were read
 *   aten/step.c      tensors of one thread become a step: tokens, positions, results by layer
 *   aten/choice.c    scores become choices: torch's top-k redone, the family's gate
 *   runs.c           a step is cut into runs at consecutive positions
 *   sequences.c      runs go on with sequences, each of which is a request
 *   wire/http.c      what the server sends says the ids that its clients see
 *   names.c          and which sequence that was
 */
#include "probe/engine/transformers/transformers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "probe/abi/event.h"
#include "probe/base/buffer.h"
#include "probe/base/error.h"
#include "probe/engine/aten/context.h"
#include "probe/engine/aten/intake.h"
#include "probe/engine/aten/sites.h"
#include "probe/engine/aten/step.h"
#include "probe/engine/capture.h"
#include "probe/engine/sink.h"
#include "probe/engine/transformers/names.h"
#include "probe/engine/transformers/sequences.h"
#include "probe/engine/wire/sites.h"
#include "probe/target/target.h"

#define SECOND_NS 1000000000ull
#define STEP_TIMEOUT_NS (60 * SECOND_NS) /* a step of a large model takes seconds */
#define IDLE_NS (10 * SECOND_NS)         /* nothing computed for so long: its text ended */
#define MEMBERS_MAX 32
#define DEVICE_MAX 3 /* computations elsewhere, and none here, that show where the model is */

struct member {
	pid_t pid;
	struct mp_site *rows; /* NULL in a replay */
	size_t sites;
};

struct engine {
	pid_t pid; /* of the process that was opened */
	struct model_folders folders;
	struct captures *captures;
	struct aten_intake *intake;
	struct aten_contexts *contexts;
	struct aten_steps *steps;
	struct transformers_sequences *sequences;
	struct transformers_names *names;
	size_t members;
	struct member member[MEMBERS_MAX];
	uint32_t elsewhere; /* computations on a device */
	uint64_t here;      /* computations that were captured */
	struct error failed;
};

static void transformers_free(struct engine *g)
{
	if (!g)
		return;
	transformers_names__free(g->names);
	transformers_sequences__free(g->sequences);
	aten_steps__free(g->steps);
	aten_contexts__free(g->contexts);
	aten_intake__free(g->intake);
	captures__free(g->captures);
	free(g);
}

static int on_step(void *ctx, struct aten_step *s, struct aten_context *c,
		   const struct engine_sink *sink)
{
	struct engine *g = ctx;

	g->here++;
	return transformers_sequences__step(g->sequences, s, c, sink);
}

/* Results are read where scores are gathered if that is what all models do. */
static bool gathers(const struct model_folders *m)
{
	for (size_t i = 0; i < m->count; i++)
		if (!aten_gate__of(&m->item[i].config).gathered)
			return false;
	return m->count > 0;
}

/* What angle 0 of a row is of its position in a model; 0: no one knows. */
static float scale_of(const struct model_config *c)
{
	if (strcmp(c->rope_type, "linear"))
		return 1;
	return c->rope_factor > 0 ? (float)(1 / c->rope_factor) : 0;
}

/* That of all models; 0: they differ. */
static float position_scale(const struct model_folders *m)
{
	float scale = m->count ? scale_of(&m->item[0].config) : 1;

	for (size_t i = 1; i < m->count; i++)
		if (scale_of(&m->item[i].config) != scale)
			return 0;
	return scale;
}

static int on_capture(void *ctx, const struct capture *c, const struct engine_sink *sink);

static int create_parts(struct engine *g, pid_t pid)
{
	struct aten_steps_options o = { .step = on_step, .ctx = g };
	int err = captures__new(&g->captures);

	g->pid = pid;
	if (!err)
		err = aten_intake__new(&g->intake, on_capture, g);
	if (!err)
		err = aten_contexts__new(&g->contexts, &g->folders, gathers(&g->folders));
	o.contexts = g->contexts;
	o.position_scale = position_scale(&g->folders);
	if (!err)
		err = aten_steps__new(&g->steps, &o);
	if (!err)
		err = transformers_sequences__new(&g->sequences);
	if (!err)
		err = transformers_names__new(&g->names, g->sequences);
	return err;
}

/* --- which processes ----------------------------------------------------------------------------
 */

static int transformers_match(struct target *t, struct error *e)
{
	return aten_sites__match(t);
}

/* A step costs a hit for each router, and a few for its rows. */
static int plan_sites(struct engine *g, struct target *t, struct engine_plan *plan, struct error *e)
{
	struct aten_places places = { aten_range__of(&g->folders), gathers(&g->folders) };
	int err;

	engine_plan__clear(plan);
	plan->threads = 1;
	if (g->folders.count == 1 && g->folders.item[0].config.moe_layers)
		plan->hits_per_step = plan->hits_per_step_thread =
			g->folders.item[0].config.moe_layers + 2;
	err = aten_sites__plan(plan, t, &places, e);
	if (!err)
		aten_intake__presume(g->intake, aten_sites__presume(plan, t));
	if (!err)
		wire_sites__plan(plan, t);
	plan->serves_http = true;
	return err;
}

static int add_member(struct engine *g, pid_t pid, size_t sites)
{
	if (g->members == MEMBERS_MAX)
		return -ENOSPC;
	g->member[g->members++] = (struct member){ .pid = pid, .sites = sites };
	return 0;
}

static int transformers_open(struct engine **out, struct target *t, struct engine_plan *plan,
			     struct error *e)
{
	struct engine *g = calloc(1, sizeof(*g));
	int err = g ? 0 : -ENOMEM;

	*out = NULL;
	engine_plan__clear(plan);
	if (!err)
		err = model_folders__read(&g->folders, t, e);
	if (!err)
		err = create_parts(g, target__info(t)->pid);
	if (!err)
		err = plan_sites(g, t, plan, e);
	if (!err)
		err = add_member(g, target__info(t)->pid, plan->sites);
	if (err) {
		transformers_free(g);
		return error__set(e, EXIT_FAILED, -err, NULL,
				  "libtorch: failed to open process %d: %s",
				  (int)target__info(t)->pid, strerror(-err));
	}
	*out = g;
	return 0;
}

static int transformers_join(struct engine *g, struct target *t, struct engine_plan *plan,
			     struct error *e)
{
	int err;

	engine_plan__clear(plan);
	if (!aten_sites__match(t))
		return 0;
	err = plan_sites(g, t, plan, e);
	if (!err)
		err = add_member(g, target__info(t)->pid, plan->sites);
	if (err)
		return error__set(e, EXIT_FAILED, -err, NULL,
				  "libtorch: failed to take process %d in: %s",
				  (int)target__info(t)->pid, strerror(-err));
	return 1;
}

static int transformers_leave(struct engine *g, pid_t pid, uint64_t now_ns, uint32_t ending,
			      const struct engine_sink *sink)
{
	int err = aten_steps__leave(g->steps, (uint32_t)pid, sink), err_end;

	for (size_t i = 0; i < g->members; i++)
		if (g->member[i].pid == pid)
			g->member[i--] = g->member[--g->members];
	transformers_names__leave(g->names, (uint32_t)pid);
	err_end = transformers_sequences__end(g->sequences, UINT64_MAX, (uint32_t)pid, now_ns,
					      ending, sink);
	return err ? err : err_end;
}

static void transformers_headers(struct engine *g, const struct header_names *names)
{
	transformers_names__headers(g->names, names);
}

static void learn(const struct engine *g, const struct member *m)
{
	if (aten_intake__head(g->intake))
		aten_sites__learn(m->rows, m->sites, aten_intake__head(g->intake));
}

static void transformers_table(struct engine *g, pid_t pid, struct mp_site *rows)
{
	for (size_t i = 0; i < g->members; i++) {
		if (g->member[i].pid != pid)
			continue;
		g->member[i].rows = rows;
		learn(g, &g->member[i]);
	}
}

/* --- events -------------------------------------------------------------------------------------
 */

static int on_device(struct engine *g)
{
	if (g->here || ++g->elsewhere < DEVICE_MAX)
		return 0;
	return error__set(
		&g->failed, EXIT_UNSUPPORTED, EPROTO,
		"run the model on a CPU: this release reads routers on a GPU of no PyTorch "
		"server",
		"libtorch: failed to read tensors: the model of process %d computes on a "
		"GPU",
		(int)g->pid);
}

static int on_tensor(struct engine *g, const struct capture *c, const struct engine_sink *sink)
{
	struct mp_event_tensor head;
	int err;

	if (c->chunk[0]->size < sizeof(head))
		return sink->invalid(sink->ctx, ENGINE_INVALID_SHAPE, 1);
	memcpy(&head, c->chunk[0], sizeof(head));
	if (head.flags & MP_TENSOR_DEVICE)
		return head.role == MP_ROLE_TOKENS ? on_device(g) : 0;
	err = aten_steps__tensor(g->steps, c, sink);
	return err == -EBADMSG ? sink->invalid(sink->ctx, ENGINE_INVALID_SHAPE, 1) : err;
}

static int on_capture(void *ctx, const struct capture *c, const struct engine_sink *sink)
{
	struct engine *g = ctx;
	int err;

	if (c->chunk[0]->kind == MP_EVENT_TENSOR)
		return on_tensor(g, c, sink);
	err = c->chunk[0]->kind == MP_EVENT_BYTES ? transformers_names__bytes(g->names, c)
						  : -EBADMSG;
	/* Now: at the next tick of our clock other sequences compute. */
	if (!err)
		err = transformers_names__match(g->names, c->chunk[0]->time_ns, sink);
	return err == -EBADMSG ? sink->invalid(sink->ctx, ENGINE_INVALID_IDENTITY, 1) : err;
}

static int on_intake(struct engine *g, const struct capture *c, const struct engine_sink *sink)
{
	unsigned head = aten_intake__head(g->intake);
	int err = aten_intake__add(g->intake, c, sink);

	if (aten_intake__missed(g->intake))
		transformers_sequences__missed(g->sequences);
	for (size_t i = 0; i < g->members && head != aten_intake__head(g->intake); i++)
		learn(g, &g->member[i]);
	return err == -EPROTO && !error__is_set(&g->failed)
		       ? aten_intake__refuse("libtorch", &g->failed)
		       : err;
}

static int say_dropped(struct engine *g, const struct engine_sink *sink)
{
	uint64_t rows, dropped = captures__take_dropped(g->captures, &rows);

	return dropped ? sink->lost(sink->ctx, ENGINE_LOSS_CHUNKS, dropped, rows) : 0;
}

static int transformers_event(struct engine *g, const struct mp_event *ev, size_t size,
			      const struct engine_sink *sink)
{
	struct capture c;
	int err, err_dropped;

	if (error__is_set(&g->failed))
		return -EPROTO;
	if (size < sizeof(*ev) || ev->size < sizeof(*ev) || ev->size > size)
		return sink->invalid(sink->ctx, ENGINE_INVALID_SHAPE, 1);
	err = captures__add(g->captures, ev, &c);
	if (err == 1)
		err = on_intake(g, &c, sink);
	else if (err == -EINVAL)
		err = sink->invalid(sink->ctx, ENGINE_INVALID_SHAPE, 1);
	err_dropped = say_dropped(g, sink);
	return err ? err : err_dropped;
}

static const struct error *transformers_failure(const struct engine *g)
{
	return &g->failed;
}

static const struct engine_context *transformers_model(const struct engine *g)
{
	return aten_contexts__preview(g->contexts, g->pid);
}

static uint64_t before(uint64_t now_ns, uint64_t span_ns)
{
	return now_ns > span_ns ? now_ns - span_ns : 0;
}

/* A step may take longer than what is silence elsewhere. */
static void see_busy(struct engine *g, uint64_t now_ns)
{
	struct aten_thread t;

	for (size_t i = 0; aten_steps__thread(g->steps, i, &t); i++)
		if (t.open)
			transformers_sequences__busy(g->sequences, &t, now_ns);
}

static int transformers_tick(struct engine *g, uint64_t now_ns, const struct engine_sink *sink)
{
	/* Where no model folder says how many layers a step has, its end is when nothing comes. */
	uint64_t wait_ns = g->folders.count ? STEP_TIMEOUT_NS : SECOND_NS;
	int err, err_dropped, err_names, err_end;

	aten_intake__tick(g->intake, now_ns);
	captures__expire(g->captures, before(now_ns, STEP_TIMEOUT_NS));
	err_dropped = say_dropped(g, sink);
	err = aten_steps__expire(g->steps, before(now_ns, wait_ns), sink);
	see_busy(g, now_ns);
	err_names = transformers_names__match(g->names, now_ns, sink);
	err_end = transformers_sequences__end(g->sequences, before(now_ns, IDLE_NS), 0, now_ns,
					      ENGINE_ENDING_UNKNOWN, sink);
	return err ? err : err_dropped ? err_dropped : err_names ? err_names : err_end;
}

static int transformers_finish(struct engine *g, uint64_t now_ns, uint32_t ending,
			       const struct engine_sink *sink)
{
	int err, err_intake, err_step, err_names, err_end;

	captures__expire(g->captures, UINT64_MAX);
	err = say_dropped(g, sink);
	err_intake = aten_intake__finish(g->intake, sink);
	err = err ? err : err_intake;
	err_step = aten_steps__expire(g->steps, UINT64_MAX, sink);
	/* Nothing more is to come: what is silent now was cancelled. */
	err_names = transformers_names__match(g->names, now_ns + IDLE_NS, sink);
	err_end = transformers_sequences__end(g->sequences, UINT64_MAX, 0, now_ns, ending, sink);
	return err ? err : err_step ? err_step : err_names ? err_names : err_end;
}

/* --- raw logs -----------------------------------------------------------------------------------
 */

static int transformers_save(const struct engine *g, struct buffer *out)
{
	int32_t pid = g->pid;
	int err = buffer__append(out, &pid, sizeof(pid));

	if (!err)
		err = model_folders__save(&g->folders, out);
	return err ? err : aten_intake__save(g->intake, out);
}

static int transformers_replay(struct engine **out, const void *saved, size_t size, struct error *e)
{
	struct cursor at = cursor__over(saved, size);
	struct engine *g = calloc(1, sizeof(*g));
	pid_t pid = (pid_t)cursor__u32(&at);
	int err = g ? model_folders__load(&g->folders, &at) : -ENOMEM;

	*out = NULL;
	if (!err)
		err = create_parts(g, pid);
	if (!err)
		aten_intake__load(g->intake, &at);
	if (err) {
		transformers_free(g);
		return error__set(e, EXIT_FAILED, -err, NULL,
				  "libtorch: failed to replay: what was saved of the model %s",
				  err == -ENOMEM ? "does not fit into memory" : "is damaged");
	}
	*out = g;
	return 0;
}

const struct engine_ops engine_transformers = {
	.name = "PyTorch",
	.looked_for = "libtorch_cpu.so",
	.match = transformers_match,
	.open = transformers_open,
	.headers = transformers_headers,
	.join = transformers_join,
	.leave = transformers_leave,
	.model = transformers_model,
	.table = transformers_table,
	.event = transformers_event,
	.failure = transformers_failure,
	.tick = transformers_tick,
	.finish = transformers_finish,
	.save = transformers_save,
	.replay = transformers_replay,
	.free = transformers_free,
};
