/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vLLM on a CPU (V1 engine): an API server, which talks to clients; an engine core, which
 * schedules; workers, which compute. One decision on its way:
 *
 *   role.c      which of these a process is
 *   sites.c     where it is probed: vLLM's CPU kernels in a worker, what the others send
 *   aten/       tensors of the worker's thread become a step (intake.h: the first ones wait)
 *   channels.c  what is sent becomes messages and responses
 *   requests.c  messages become requests: prompt, generated tokens, end, names
 *   batches.c   a step's rows go on with sequences, which are requests
 *   passes.c    and the steps of a pipeline's stages are one forward pass
 *   held.c      what is said waits while it is not clear which of two requests some rows are of
 */
#include "probe/engine/vllm/vllm.h"

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
#include "probe/engine/vllm/batches.h"
#include "probe/engine/vllm/channels.h"
#include "probe/engine/vllm/entrance.h"
#include "probe/engine/vllm/gate.h"
#include "probe/engine/vllm/held.h"
#include "probe/engine/vllm/requests.h"
#include "probe/engine/vllm/role.h"
#include "probe/engine/vllm/sites.h"
#include "probe/engine/vllm/stages.h"
#include "probe/target/target.h"

#define SECOND_NS 1000000000ull
#define STEP_TIMEOUT_NS (60 * SECOND_NS) /* a step of a large model takes seconds */
#define ABORT_NS (SECOND_NS / 2)         /* from the message to the last row */
#define IDLE_NS (10 * SECOND_NS)         /* of what no message told */
#define MEMBERS_MAX 128
#define PIPELINES_MAX 32

struct member {
	pid_t pid;
	struct vllm_role role;
	struct mp_site *rows; /* NULL in a replay */
	size_t sites;
};

/* Workers that compute each some of the layers of the same rows; of data-parallel services each has
 * one. */
struct pipeline {
	uint32_t data; /* rank */
	uint32_t home; /* tgid of the first that showed a step; 0: none did */
	bool has_begun;
};

struct engine {
	pid_t pid; /* of the process that was opened */
	struct model_folders folders;
	struct captures *captures;
	struct aten_intake *intake;
	struct aten_contexts *contexts;
	struct aten_steps *steps;
	struct vllm_requests *requests;
	struct vllm_held *held;
	struct vllm_batches *batches;
	struct vllm_channels *channels;
	struct pipeline pipeline[PIPELINES_MAX];
	size_t pipelines;
	size_t members;
	struct member member[MEMBERS_MAX];
	struct error failed;
};

static void vllm_free(struct engine *g)
{
	if (!g)
		return;
	vllm_channels__free(g->channels);
	vllm_batches__free(g->batches);
	vllm_held__free(g->held);
	vllm_requests__free(g->requests);
	aten_steps__free(g->steps);
	aten_contexts__free(g->contexts);
	aten_intake__free(g->intake);
	captures__free(g->captures);
	free(g);
}

/* --- the model, and which part of it a worker holds ------------------------------------------ */

static const struct member *find_member(const struct engine *g, pid_t pid)
{
	for (size_t i = 0; i < g->members; i++)
		if (g->member[i].pid == pid)
			return &g->member[i];
	return NULL;
}

static uint32_t pipeline_stages(const struct engine *g)
{
	uint32_t stages = 1;

	for (size_t i = 0; i < g->members; i++) {
		const struct vllm_role *r = &g->member[i].role;

		if (r->pipeline != ENGINE_UNKNOWN && r->pipeline >= stages)
			stages = r->pipeline + 1;
	}
	return stages;
}

/* False if the stage of worker @m has dense layers only. */
static bool has_routers(const struct engine *g, const struct member *m)
{
	const struct model_config *c = &g->folders.item[0].config;
	uint16_t layer[MODEL_LAYERS_MAX];

	return g->folders.count != 1 || !c->moe_layers ||
	       vllm_stage__layers(layer, c, pipeline_stages(g), m->role.pipeline);
}

static void on_context(void *ctx, struct aten_context *c)
{
	const struct engine *g = ctx;
	const struct member *m = find_member(g, (pid_t)c->tgid);
	const struct model_config *config = c->folder ? &c->folder->config : NULL;
	uint32_t stages = pipeline_stages(g);

	/* Weights are final, however the family comes to them, unless choices are made again. */
	c->gate = c->by_scores ? vllm_gate__of_logits(config) : aten_gate__of(config);
	if (m && (stages > 1 || m->role.data != ENGINE_UNKNOWN))
		c->model_key = 1;
	if (m && stages > 1 && c->layers_known && c->folder)
		c->layers = vllm_stage__layers(c->layer_id, &c->folder->config, stages,
					       m->role.pipeline);
}

/* The pipeline that process @m is a stage of; NULL: it is none. */
static struct pipeline *find_pipeline(struct engine *g, const struct member *m)
{
	size_t i = 0;

	if (!m || m->role.pipeline == ENGINE_UNKNOWN || pipeline_stages(g) < 2)
		return NULL;
	while (i < g->pipelines && g->pipeline[i].data != m->role.data)
		i++;
	if (i == PIPELINES_MAX)
		return NULL;
	if (i == g->pipelines)
		g->pipeline[g->pipelines++] = (struct pipeline){ .data = m->role.data };
	return &g->pipeline[i];
}

/* The context that speaks for pipeline @p, of which @c is a stage. */
static struct aten_context *find_home(struct engine *g, struct pipeline *p, struct aten_context *c)
{
	struct aten_context *home = aten_contexts__find(g->contexts, p->home, c->key);

	if (home && home->id)
		return home;
	p->home = c->tgid;
	return c;
}

/* True if a stage before that of @m computes routers too, and we read it. */
static bool is_later_stage(const struct engine *g, const struct member *m)
{
	for (size_t i = 0; i < g->members; i++) {
		const struct member *other = &g->member[i];

		if (other->role.part == VLLM_WORKER && other->role.data == m->role.data &&
		    other->role.pipeline < m->role.pipeline && has_routers(g, other))
			return true;
	}
	return false;
}

/* What later stages compute of a pass of which the first one's part was not read is left out, as it
 * is there: it was under way at attach, or layouts were being found out. */
static int on_step(void *ctx, struct aten_step *s, struct aten_context *c,
		   const struct engine_sink *sink)
{
	struct engine *g = ctx;
	const struct member *m = c ? find_member(g, (pid_t)c->tgid) : NULL;
	struct pipeline *p = find_pipeline(g, m);

	if (p && !p->has_begun && is_later_stage(g, m))
		return aten_intake__missed(g->intake) && s->layers
			       ? sink->lost(sink->ctx, ENGINE_LOSS_LAYOUT, s->layers,
					    (uint64_t)s->layers * s->rows)
			       : 0;
	if (p)
		p->has_begun = true;
	return vllm_batches__step(g->batches, s, c, p ? find_home(g, p, c) : NULL, sink);
}

static int on_capture(void *ctx, const struct capture *c, const struct engine_sink *sink);

static int create_parts(struct engine *g, pid_t pid)
{
	struct aten_steps_options o = {
		.step = on_step, .describe = on_context, .ctx = g, .tokens_follow = true
	};
	int err = captures__new(&g->captures);

	g->pid = pid;
	if (!err)
		err = aten_intake__new(&g->intake, on_capture, g);
	if (!err)
		err = aten_contexts__new(&g->contexts, &g->folders, false);
	o.contexts = g->contexts;
	if (!err)
		err = aten_steps__new(&g->steps, &o);
	if (!err)
		err = vllm_requests__new(&g->requests);
	if (!err)
		err = vllm_held__new(&g->held);
	if (!err)
		err = vllm_batches__new(&g->batches, g->requests, g->held);
	if (!err)
		err = vllm_channels__new(&g->channels, g->requests);
	return err;
}

/* --- which processes ------------------------------------------------------------------------- */

/* A core with workers has no kernels of its own. */
static bool takes_part(struct target *t)
{
	size_t size;
	const char *cmdline = target__cmdline(t, &size);

	return vllm_sites__match(t) || vllm_role__of(cmdline, size).part == VLLM_CORE;
}

static int add_member(struct engine *g, pid_t pid, const struct vllm_role *role, size_t sites)
{
	if (g->members == MEMBERS_MAX)
		return -ENOSPC;
	g->member[g->members++] = (struct member){ .pid = pid, .role = *role, .sites = sites };
	return 0;
}

static int plan_member(struct engine *g, struct target *t, struct engine_plan *plan,
		       struct error *e)
{
	const struct model_config *config = &g->folders.item[0].config;
	struct aten_range range = aten_range__of(&g->folders);
	struct vllm_role role;
	size_t size;
	const char *cmdline = target__cmdline(t, &size);
	int err;

	role = vllm_role__of(cmdline, size);
	engine_plan__clear(plan);
	vllm_role__plan(plan, &role);
	plan->serves_http = role.part == VLLM_SERVER;
	if (role.part == VLLM_WORKER) {
		plan->threads = 1;
		/* Router and cache in each layer, tokens and rows once. */
		if (g->folders.count == 1 && config->moe_layers)
			plan->hits_per_step = plan->hits_per_step_thread =
				2 * config->moe_layers + 2;
	}
	err = vllm_sites__plan(plan, t, &role, &range, e);
	aten_intake__presume(g->intake, aten_sites__presume(plan, t));
	return err ? err : add_member(g, target__info(t)->pid, &role, plan->sites);
}

/* A worker names no folder; who started it does. */
static int read_folders(struct engine *g, struct target *t, struct error *e)
{
	return g->folders.count ? 0 : model_folders__read(&g->folders, t, e);
}

static int vllm_open(struct engine **out, struct target *t, struct engine_plan *plan,
		     struct error *e)
{
	struct engine *g = calloc(1, sizeof(*g));
	int err = g ? 0 : -ENOMEM;

	*out = NULL;
	engine_plan__clear(plan);
	if (!err)
		err = read_folders(g, t, e);
	if (!err)
		err = create_parts(g, target__info(t)->pid);
	if (!err)
		err = plan_member(g, t, plan, e);
	if (err) {
		vllm_free(g);
		return error__set(e, EXIT_FAILED, -err, NULL, "vLLM: failed to open process %d: %s",
				  (int)target__info(t)->pid, strerror(-err));
	}
	*out = g;
	return 0;
}

static int vllm_join(struct engine *g, struct target *t, struct engine_plan *plan, struct error *e)
{
	int err;

	engine_plan__clear(plan);
	if (!takes_part(t))
		return 0;
	err = read_folders(g, t, e);
	if (!err)
		err = plan_member(g, t, plan, e);
	if (err)
		return error__set(e, EXIT_FAILED, -err, NULL,
				  "vLLM: failed to take process %d in: %s",
				  (int)target__info(t)->pid, strerror(-err));
	return 1;
}

static int vllm_leave(struct engine *g, pid_t pid, uint64_t now_ns, uint32_t ending,
		      const struct engine_sink *sink)
{
	const struct engine_sink to = vllm_held__sink(g->held, sink);
	const struct member *m = find_member(g, pid);
	int err = aten_steps__leave(g->steps, (uint32_t)pid, &to), err_channels, err_held,
	    err_end = 0;

	err_channels = vllm_channels__leave(g->channels, (uint32_t)pid, now_ns, &to);
	err_held = vllm_batches__settle(g->batches, UINT64_MAX, &to);
	vllm_batches__leave(g->batches, (uint32_t)pid);
	/* vLLM ends what runs when one of its processes does. */
	if (m)
		err_end = vllm_requests__expire(g->requests, UINT64_MAX, UINT64_MAX, now_ns, ending,
						&to);
	for (size_t i = 0; i < g->pipelines; i++)
		if (g->pipeline[i].home == (uint32_t)pid)
			g->pipeline[i--] = g->pipeline[--g->pipelines];
	for (size_t i = 0; i < g->members; i++)
		if (g->member[i].pid == pid)
			g->member[i--] = g->member[--g->members];
	err = err ? err : err_channels;
	return err ? err : err_held ? err_held : err_end;
}

static void vllm_headers(struct engine *g, const struct header_names *names)
{
	vllm_channels__headers(g->channels, names);
}

static void learn(const struct engine *g, const struct member *m)
{
	if (aten_intake__head(g->intake))
		aten_sites__learn(m->rows, m->sites, aten_intake__head(g->intake));
}

static void vllm_table(struct engine *g, pid_t pid, struct mp_site *rows)
{
	for (size_t i = 0; i < g->members; i++) {
		if (g->member[i].pid != pid)
			continue;
		g->member[i].rows = rows;
		learn(g, &g->member[i]);
	}
}

/* --- events ---------------------------------------------------------------------------------- */

static int on_tensor(struct engine *g, const struct capture *c, const struct engine_sink *sink)
{
	struct mp_event_tensor head;

	if (c->chunk[0]->size < sizeof(head))
		return -EBADMSG;
	memcpy(&head, c->chunk[0], sizeof(head));
	if (head.flags & MP_TENSOR_DEVICE)
		return 0;
	return aten_steps__tensor(g->steps, c, sink);
}

static int on_capture(void *ctx, const struct capture *c, const struct engine_sink *sink)
{
	struct engine *g = ctx;
	int err = 0;

	if (c->chunk[0]->kind == MP_EVENT_TENSOR)
		err = on_tensor(g, c, sink);
	else if (c->chunk[0]->kind == MP_EVENT_BYTES)
		err = vllm_channels__piece(g->channels, c, sink);
	return err == -EBADMSG ? sink->invalid(sink->ctx, ENGINE_INVALID_SHAPE, 1) : err;
}

static int on_intake(struct engine *g, const struct capture *c, const struct engine_sink *sink)
{
	unsigned head = aten_intake__head(g->intake);
	int err = aten_intake__add(g->intake, c, sink);

	for (size_t i = 0; i < g->members && head != aten_intake__head(g->intake); i++)
		learn(g, &g->member[i]);
	return err == -EPROTO && !error__is_set(&g->failed)
		       ? aten_intake__refuse("vLLM", &g->failed)
		       : err;
}

static int say_dropped(struct engine *g, const struct engine_sink *sink)
{
	uint64_t rows, dropped = captures__take_dropped(g->captures, &rows);

	return dropped ? sink->lost(sink->ctx, ENGINE_LOSS_CHUNKS, dropped, rows) : 0;
}

static int vllm_event(struct engine *g, const struct mp_event *ev, size_t size,
		      const struct engine_sink *sink)
{
	const struct engine_sink to = vllm_held__sink(g->held, sink);
	struct capture c;
	int err, err_dropped;

	if (error__is_set(&g->failed))
		return -EPROTO;
	if (size < sizeof(*ev) || ev->size < sizeof(*ev) || ev->size > size)
		return sink->invalid(sink->ctx, ENGINE_INVALID_SHAPE, 1);
	err = captures__add(g->captures, ev, &c);
	if (err == 1)
		err = on_intake(g, &c, &to);
	else if (err == -EINVAL)
		err = sink->invalid(sink->ctx, ENGINE_INVALID_SHAPE, 1);
	err_dropped = say_dropped(g, sink);
	return err ? err : err_dropped;
}

static const struct error *vllm_failure(const struct engine *g)
{
	return &g->failed;
}

static const struct engine_context *vllm_model(const struct engine *g)
{
	return aten_contexts__preview(g->contexts, g->pid);
}

static uint64_t before(uint64_t now_ns, uint64_t span_ns)
{
	return now_ns > span_ns ? now_ns - span_ns : 0;
}

static int vllm_tick(struct engine *g, uint64_t now_ns, const struct engine_sink *sink)
{
	/* Where no model folder says how many layers a step has, its end is when nothing comes. */
	uint64_t wait_ns = g->folders.count ? STEP_TIMEOUT_NS : SECOND_NS;
	const struct engine_sink to = vllm_held__sink(g->held, sink);
	int err, err_dropped, err_end, err_held;

	aten_intake__tick(g->intake, now_ns);
	captures__expire(g->captures, before(now_ns, STEP_TIMEOUT_NS));
	err_dropped = say_dropped(g, sink);
	err = aten_steps__expire(g->steps, before(now_ns, wait_ns), &to);
	err_end =
		vllm_requests__expire(g->requests, before(now_ns, ABORT_NS),
				      before(now_ns, IDLE_NS), now_ns, ENGINE_ENDING_UNKNOWN, &to);
	err_held = vllm_batches__settle(g->batches, now_ns, &to);
	err = err ? err : err_dropped;
	return err ? err : err_end ? err_end : err_held;
}

static int vllm_finish(struct engine *g, uint64_t now_ns, uint32_t ending,
		       const struct engine_sink *sink)
{
	const struct engine_sink to = vllm_held__sink(g->held, sink);
	int err, err_intake, err_step, err_end, err_held;

	captures__expire(g->captures, UINT64_MAX);
	err = say_dropped(g, sink);
	err_intake = aten_intake__finish(g->intake, &to);
	err = err ? err : err_intake;
	err_step = aten_steps__expire(g->steps, UINT64_MAX, &to);
	err_held = vllm_batches__settle(g->batches, UINT64_MAX, &to);
	err_end = vllm_requests__expire(g->requests, before(now_ns, ABORT_NS), UINT64_MAX, now_ns,
					ending, &to);
	err = err ? err : err_step;
	return err ? err : err_held ? err_held : err_end;
}

/* --- raw logs -------------------------------------------------------------------------------- */

static int save_role(const struct engine *g, pid_t pid, struct buffer *out)
{
	const struct member *m = find_member(g, pid);
	struct vllm_role none = vllm_role__of("", 0);

	return buffer__append(out, m ? &m->role : &none, sizeof(none));
}

/* What any of the processes may have been the first to show. */
static int save_shared(const struct engine *g, struct buffer *out)
{
	int err = model_folders__save(&g->folders, out);

	return err ? err : aten_intake__save(g->intake, out);
}

static int vllm_save(const struct engine *g, struct buffer *out)
{
	int32_t pid = g->pid;
	int err = buffer__append(out, &pid, sizeof(pid));

	if (!err)
		err = save_role(g, g->pid, out);
	return err ? err : save_shared(g, out);
}

static int vllm_replay(struct engine **out, const void *saved, size_t size, struct error *e)
{
	struct cursor at = cursor__over(saved, size);
	struct engine *g = calloc(1, sizeof(*g));
	pid_t pid = (pid_t)cursor__u32(&at);
	struct vllm_role role = vllm_role__load(&at);
	int err = g ? model_folders__load(&g->folders, &at) : -ENOMEM;

	*out = NULL;
	if (!err)
		err = create_parts(g, pid);
	if (!err)
		err = add_member(g, pid, &role, 0);
	if (!err)
		aten_intake__load(g->intake, &at);
	if (err) {
		vllm_free(g);
		return error__set(e, EXIT_FAILED, -err, NULL,
				  "vLLM: failed to replay: what was saved of the model %s",
				  err == -ENOMEM ? "does not fit into memory" : "is damaged");
	}
	*out = g;
	return 0;
}

/* Who joins may be the first that names the model's folder. */
static int vllm_save_member(const struct engine *g, pid_t pid, struct buffer *out)
{
	int err = save_role(g, pid, out);

	return err ? err : save_shared(g, out);
}

static int vllm_load_member(struct engine *g, pid_t pid, const void *saved, size_t size,
			    struct error *e)
{
	struct cursor at = cursor__over(saved, size);
	struct vllm_role role = vllm_role__load(&at);
	struct model_folders *folders = malloc(sizeof(*folders));
	int err = folders ? model_folders__load(folders, &at) : -ENOMEM;

	if (!err)
		err = add_member(g, pid, &role, 0);
	/* As when it joined: what was known is kept, contexts point to it. */
	if (!err && !g->folders.count)
		g->folders = *folders;
	if (!err)
		aten_intake__load(g->intake, &at);
	free(folders);
	if (err)
		return error__set(e, EXIT_FAILED, -err, NULL,
				  "vLLM: failed to replay: what was saved of process %d %s",
				  (int)pid,
				  err == -ENOMEM ? "does not fit into memory" : "is damaged");
	return 0;
}

const struct engine_ops engine_vllm = {
	.name = "vLLM",
	.looked_for = "vllm/_C*.so",
	.match = vllm_match,
	.owns = vllm_role__is_part,
	.entrance = vllm_entrance,
	.open = vllm_open,
	.headers = vllm_headers,
	.join = vllm_join,
	.leave = vllm_leave,
	.model = vllm_model,
	.table = vllm_table,
	.event = vllm_event,
	.failure = vllm_failure,
	.tick = vllm_tick,
	.finish = vllm_finish,
	.save = vllm_save,
	.replay = vllm_replay,
	.save_member = vllm_save_member,
	.load_member = vllm_load_member,
	.free = vllm_free,
};
