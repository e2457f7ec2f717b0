/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * llama.cpp's server on a CPU. One decision on its way:
 *
 *   layout.c    which four places are probed, and where in the structs there to look
 *   capture.c   (for every engine) chunks become captures
 *   rows.c      what is computed: token, position, slot of each row
 *   route.c     what the router chose: ids and final weights, checked, in gate order
 *   assemble.c  rows and routes of one computation become a step
 *   requests.c  slots become requests, by the server's log lines
 *   learn.c     requests get the client's id and their prompt
 *   context.c   which model it is, held against the file that model.c read
 */
#include "probe/engine/llama/llama.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "probe/abi/event.h"
#include "probe/base/buffer.h"
#include "probe/base/error.h"
#include "probe/engine/capture.h"
#include "probe/engine/llama/assemble.h"
#include "probe/engine/llama/context.h"
#include "probe/engine/llama/layout.h"
#include "probe/engine/llama/model.h"
#include "probe/engine/llama/requests.h"
#include "probe/engine/llama/tasks.h"
#include "probe/engine/sink.h"
#include "probe/target/target.h"

/* One server process. A service has one at a time: what is started in its place goes on with its
 * numbers. */
struct engine {
	pid_t pid;      /* 0: it has ended */
	uint32_t sites; /* of the plan */
	struct llama_models *models;
	struct captures *captures;
	struct llama_contexts *contexts;
	struct llama_tasks *tasks;
	struct llama_requests *requests;
	struct llama_assembly *assembly;
	struct error failed;
};

static void free_parts(struct engine *g)
{
	llama_assembly__free(g->assembly);
	llama_requests__free(g->requests);
	llama_tasks__free(g->tasks);
	llama_contexts__free(g->contexts);
	captures__free(g->captures);
	free(g->models);
}

static void llama_free(struct engine *g)
{
	if (g)
		free_parts(g);
	free(g);
}

/* The vocabulary of the only model; 0: unknown. */
static uint32_t vocabulary_of(const struct llama_models *m)
{
	if (m->count != 1 || m->item[0].gguf.vocabulary == GGUF_UNKNOWN)
		return 0;
	return m->item[0].gguf.vocabulary;
}

static int create_parts(struct engine *g, pid_t pid)
{
	int err = captures__new(&g->captures);

	g->pid = pid;
	if (!err)
		err = llama_contexts__new(&g->contexts, g->models, pid);
	if (!err)
		err = llama_tasks__new(&g->tasks);
	if (!err)
		err = llama_requests__new(&g->requests, g->tasks);
	if (!err)
		err = llama_assembly__new(&g->assembly, g->contexts, g->requests,
					  vocabulary_of(g->models));
	return err;
}

/* @fresh, which is whole, takes the place of what was in @g. */
static void succeed(struct engine *g, struct engine *fresh)
{
	uint32_t first = llama_contexts__continue(fresh->contexts, g->contexts);

	llama_requests__continue(fresh->requests, g->requests, first);
	free_parts(g);
	*g = *fresh;
}

/* -t N, --threads N, --threads=N of the command line; ENGINE_UNKNOWN. */
static uint32_t threads_of(struct target *t)
{
	bool is_threads = false;
	size_t size, n;
	const char *text = target__cmdline(t, &size);

	for (size_t at = 0; at < size; at += n + 1) {
		const char *argument = text + at;
		const char *number = is_threads ? argument : NULL;
		long value;

		n = strnlen(argument, size - at);
		if (at + n == size)
			break;
		if (!strncmp(argument, "--threads=", 10))
			number = argument + 10;
		is_threads = !strcmp(argument, "-t") || !strcmp(argument, "--threads");
		value = number ? strtol(number, NULL, 10) : 0;
		if (value > 0 && value <= 4096)
			return (uint32_t)value;
	}
	return ENGINE_UNKNOWN;
}

/* A step costs one hit for its rows and, in each thread, one for each layer. */
static void predict_hits(struct engine_plan *plan, const struct llama_models *m, uint32_t threads)
{
	plan->threads = threads;
	plan->hits_per_step_thread = plan->hits_per_step = -1;
	if (m->count != 1)
		return;
	plan->hits_per_step_thread = m->item[0].gguf.moe_layers;
	if (threads != ENGINE_UNKNOWN)
		plan->hits_per_step = plan->hits_per_step_thread * threads + 1;
}

/* Fill the zeroed @g and @plan from what runs in @t; free its parts also after an error. */
static int read_server(struct engine *g, struct target *t, struct engine_plan *plan,
		       struct error *e)
{
	int err;

	engine_plan__clear(plan);
	g->models = calloc(1, sizeof(*g->models));
	err = g->models ? llama_models__read(g->models, t, e) : -ENOMEM;
	if (!err)
		err = llama_layout__plan(plan, t, vocabulary_of(g->models), e);
	if (!err)
		err = create_parts(g, target__info(t)->pid);
	if (err == -ENOMEM)
		error__set(e, EXIT_FAILED, ENOMEM, NULL,
			   "llama: failed to open process %d: out of memory",
			   (int)target__info(t)->pid);
	if (err)
		return err;
	predict_hits(plan, g->models, threads_of(t));
	strcpy(plan->role, "server");
	g->sites = (uint32_t)plan->sites;
	return 0;
}

static int llama_open(struct engine **out, struct target *t, struct engine_plan *plan,
		      struct error *e)
{
	struct engine *g = calloc(1, sizeof(*g));
	int err = g ? read_server(g, t, plan, e) : -ENOMEM;

	*out = NULL;
	if (err) {
		llama_free(g);
		return err;
	}
	*out = g;
	return 0;
}

/* A server that was started again. While it maps its libraries it looks like one that we cannot
 * read, so that it is none until all is there. */
static int llama_join(struct engine *g, struct target *t, struct engine_plan *plan, struct error *e)
{
	struct engine fresh = { 0 };
	int err;

	if (g->pid || llama_layout__match(t, NULL) <= 0)
		return 0;
	err = read_server(&fresh, t, plan, NULL);
	if (!err) {
		succeed(g, &fresh);
		return 1;
	}
	free_parts(&fresh);
	return err == -ENOMEM ? error__set(e, EXIT_FAILED, ENOMEM, NULL, "llama: out of memory")
			      : 0;
}

static int llama_save(const struct engine *g, struct buffer *out)
{
	const uint32_t head[2] = { (uint32_t)g->pid, g->sites };
	int err = buffer__append(out, head, sizeof(head));

	return err ? err : llama_models__save(g->models, out);
}

static int llama_save_member(const struct engine *g, pid_t pid, struct buffer *out)
{
	return llama_save(g, out);
}

/* Fill the zeroed @g from untrusted bytes; free its parts also after an error. */
static int load_server(struct engine *g, const void *saved, size_t size, struct error *e)
{
	struct cursor at = cursor__over(saved, size);
	pid_t pid = (pid_t)cursor__u32(&at);
	int err;

	g->sites = cursor__u32(&at);
	g->models = calloc(1, sizeof(*g->models));
	err = g->models ? llama_models__load(g->models, &at) : -ENOMEM;
	if (!err && g->sites > ENGINE_SITES_MAX)
		err = -EBADMSG;
	if (!err)
		err = create_parts(g, pid);
	return err ? error__set(e, EXIT_FAILED, -err, NULL,
				"llama: failed to replay: what was saved of the model %s",
				err == -ENOMEM ? "does not fit into memory" : "is damaged")
		   : 0;
}

static int llama_replay(struct engine **out, const void *saved, size_t size, struct error *e)
{
	struct engine *g = calloc(1, sizeof(*g));
	int err = g ? load_server(g, saved, size, e)
		    : error__set(e, EXIT_FAILED, ENOMEM, NULL, "llama: out of memory");

	*out = NULL;
	if (err) {
		llama_free(g);
		return err;
	}
	*out = g;
	return 0;
}

static int llama_load_member(struct engine *g, pid_t pid, const void *saved, size_t size,
			     struct error *e)
{
	struct engine fresh = { 0 };
	int err;

	if (g->pid)
		return error__set(e, EXIT_FAILED, EBADMSG, NULL,
				  "llama: failed to replay: two servers at one time");
	err = load_server(&fresh, saved, size, e);
	if (err)
		free_parts(&fresh);
	else
		succeed(g, &fresh);
	return err;
}

static const struct engine_context *llama_model(const struct engine *g)
{
	return llama_contexts__from_file(g->contexts);
}

static void llama_table(struct engine *g, pid_t pid, struct mp_site *rows)
{
	for (uint32_t i = 0; i < g->sites; i++)
		if (rows[i].program == MP_PROGRAM_TASKS)
			llama_tasks__set_row(g->tasks, &rows[i].tasks);
}

static int on_line(struct engine *g, const struct mp_event *ev, const struct engine_sink *sink)
{
	struct mp_event_line line;
	int err, err_line;

	if (ev->size < sizeof(line))
		return -EBADMSG;
	memcpy(&line, ev, sizeof(line));
	line.format[sizeof(line.format) - 1] = '\0';
	line.function[sizeof(line.function) - 1] = '\0';
	err = llama_assembly__close(g->assembly, ev->tid, sink);
	err_line = llama_requests__line(g->requests, &line, sink);
	return err_line ? err_line : err;
}

/* -EBADMSG: the event contradicts itself. */
static int on_identity(struct engine *g, const struct capture *c, const struct engine_sink *sink)
{
	switch (c->chunk[0]->kind) {
	case MP_EVENT_TEXT_LINE:
		return on_line(g, c->chunk[0], sink);
	case MP_EVENT_TASK:
		return llama_tasks__add(g->tasks, c);
	case MP_EVENT_TASK_TOKENS:
		return llama_tasks__add_tokens(g->tasks, c);
	default:
		return -EBADMSG;
	}
}

static int on_capture(struct engine *g, const struct capture *c, const struct engine_sink *sink)
{
	int err;

	if (c->chunk[0]->kind == MP_EVENT_ROUTE)
		err = llama_assembly__route(g->assembly, c, sink);
	else if (c->chunk[0]->kind == MP_EVENT_ROWS)
		err = llama_assembly__rows(g->assembly, c, sink);
	else
		err = on_identity(g, c, sink);
	if (err == -EBADMSG)
		return sink->invalid(sink->ctx, ENGINE_INVALID_IDENTITY, 1);
	if (err == -EPROTO && llama_assembly__doubt(g->assembly)[0])
		error__set(&g->failed, EXIT_UNSUPPORTED, ENOTSUP,
			   "run a llama.cpp release that README.md lists",
			   "llama: failed to read the server's memory: layout check failed: %s",
			   llama_assembly__doubt(g->assembly));
	return err;
}

static int say_dropped(struct engine *g, const struct engine_sink *sink)
{
	uint64_t rows, dropped = captures__take_dropped(g->captures, &rows);

	return dropped ? sink->lost(sink->ctx, ENGINE_LOSS_CHUNKS, dropped, rows) : 0;
}

static int llama_event(struct engine *g, const struct mp_event *ev, size_t size,
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
		err = on_capture(g, &c, sink);
	else if (err == -EINVAL)
		err = sink->invalid(sink->ctx, ENGINE_INVALID_SHAPE, 1);
	err_dropped = say_dropped(g, sink);
	return err ? err : err_dropped;
}

static const struct error *llama_failure(const struct engine *g)
{
	return &g->failed;
}

static int llama_tick(struct engine *g, uint64_t now_ns, const struct engine_sink *sink)
{
	uint64_t before = now_ns > LLAMA_STEP_TIMEOUT_NS ? now_ns - LLAMA_STEP_TIMEOUT_NS : 0;
	int err, err_dropped;

	captures__expire(g->captures, before);
	err_dropped = say_dropped(g, sink);
	err = llama_assembly__expire(g->assembly, before, sink);
	return err ? err : err_dropped;
}

static int llama_finish(struct engine *g, uint64_t now_ns, uint32_t ending,
			const struct engine_sink *sink)
{
	int err, err_step, err_end;

	captures__expire(g->captures, UINT64_MAX);
	err = say_dropped(g, sink);
	err_step = llama_assembly__expire(g->assembly, UINT64_MAX, sink);
	err_end = llama_requests__finish(g->requests, now_ns, ending, sink);
	return err ? err : err_step ? err_step : err_end;
}

/* A server is one process, so its end is that of everything in it. */
static int llama_leave(struct engine *g, pid_t pid, uint64_t now_ns, uint32_t ending,
		       const struct engine_sink *sink)
{
	if (pid != g->pid)
		return 0;
	g->pid = 0;
	llama_tasks__set_row(g->tasks, NULL);
	return llama_finish(g, now_ns, ending, sink);
}

const struct engine_ops engine_llama = {
	.name = "llama.cpp",
	.looked_for = "a library with ggml_compute_forward_mul and llm_graph_result::set_inputs",
	.match = llama_layout__match,
	.open = llama_open,
	.join = llama_join,
	.leave = llama_leave,
	.model = llama_model,
	.table = llama_table,
	.event = llama_event,
	.failure = llama_failure,
	.tick = llama_tick,
	.finish = llama_finish,
	.save = llama_save,
	.replay = llama_replay,
	.save_member = llama_save_member,
	.load_member = llama_load_member,
	.free = llama_free,
};
