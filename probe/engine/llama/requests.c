/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A llama.cpp server numbers its slots; a row's sequence is its slot. Which request a slot works
 * on, from best to worst:
 *
 *   the server logs "launch_slot_with_task ... processing task", later "release ... stop
 *   processing", on the thread that computes: exact, in order with the rows;
 *   rows in a slot that was never launched: a request that began before we attached;
 *   rows in a released slot, or prompt rows in a slot that was generating: the line was lost or
 *   the server logs none; the request is marked as inferred.
 *
 * A request is said with its first rows, because only then are its cached prefix (the position of
 * the first row) and its identity (its prompt held against the rows) known.
 */
#include "probe/base/hash.h"
#include "probe/engine/llama/requests.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define THREADS_MAX 64 /* that log or compute */
#define ALL_SLOTS_MAX 8192
#define CHILDREN_MAX 64
/* A draft model's rejected rows are computed again: positions step back this far at most. */
#define DRAFT_ROWS_MAX 64
#define LINE_HEAD "slot %12.*s: id %2d | task %d | "

struct request {
	uint32_t id;      /* 0: not said yet */
	uint32_t context; /* 0: no row yet */
	uint32_t sequence, epoch;
	int32_t task;   /* -1: unknown */
	int32_t parent; /* task whose prompt it goes on with; -1: its own */
	bool launched, before_attach, inferred;
	bool generates; /* a row with output was seen: what follows is generated */
	bool drafts;    /* several such rows at once: speculative decoding */
	uint64_t begin_ns;
	uint64_t missed; /* the thread's count of lost computations when it was launched */
	uint32_t last_position;
	uint32_t prompt_rows, generated; /* by the server's word */
	struct prompt *prompt;
};

struct slot_key {
	uint32_t tid;
	int32_t slot;
};

struct slot {
	UT_hash_handle hh;
	struct slot_key key;
	uint32_t epoch;
	bool was_used;
	struct request *current;
	/* Of the computation at hand. */
	uint64_t serial;
	uint32_t rows, outputs, first;
	bool is_settled;
	struct request *here; /* NULL: its rows are nobody's */
};

struct server_thread {
	uint32_t tid;
	bool logs, computes;
	uint32_t context; /* that it computed last, 0: none yet */
	uint64_t missed;  /* computations lost */
	uint64_t used;
	int32_t child_slot[CHILDREN_MAX]; /* launched just before their parent */
	size_t children;
};

struct llama_requests {
	struct llama_tasks *tasks;
	struct slot *slots; /* uthash by (thread, slot) */
	struct server_thread thread[THREADS_MAX];
	size_t threads;
	uint64_t serial;
	uint32_t next_request, next_sequence;
	uint32_t first_context; /* the only one, in a process with one server */
	struct slot **row_slot; /* scratch: slot of each row */
	size_t row_capacity;
};

int llama_requests__new(struct llama_requests **out, struct llama_tasks *tasks)
{
	struct llama_requests *q = calloc(1, sizeof(*q));

	*out = q;
	if (!q)
		return -ENOMEM;
	q->tasks = tasks;
	q->first_context = 1;
	return 0;
}

void llama_requests__continue(struct llama_requests *q, const struct llama_requests *before,
			      uint32_t first_context)
{
	q->next_request = before->next_request;
	q->next_sequence = before->next_sequence;
	q->first_context = first_context;
}

static void request__free(struct request *r)
{
	if (r)
		prompt__put(r->prompt);
	free(r);
}

void llama_requests__free(struct llama_requests *q)
{
	struct slot *s, *next;

	if (!q)
		return;
	HASH_ITER(hh, q->slots, s, next)
	{
		HASH_DEL(q->slots, s);
		request__free(s->current);
		free(s);
	}
	free(q->row_slot);
	free(q);
}

/* --- threads and slots ------------------------------------------------------------------------ */

static struct server_thread *thread__find(const struct llama_requests *q, uint32_t tid)
{
	for (size_t i = 0; i < q->threads; i++)
		if (q->thread[i].tid == tid)
			return (struct server_thread *)&q->thread[i];
	return NULL;
}

/* Never NULL: the one that was quiet longest makes room. */
static struct server_thread *thread__get(struct llama_requests *q, uint32_t tid)
{
	struct server_thread *t = thread__find(q, tid);

	if (!t && q->threads < THREADS_MAX) {
		t = &q->thread[q->threads++];
		memset(t, 0, sizeof(*t));
	} else if (!t) {
		t = &q->thread[0];
		for (size_t i = 1; i < q->threads; i++)
			if (q->thread[i].used < t->used)
				t = &q->thread[i];
		memset(t, 0, sizeof(*t));
		t->missed = q->serial; /* whatever it computed before is not known any more */
	}
	t->tid = tid;
	t->used = ++q->serial;
	return t;
}

/* A server that computes on one thread and logs on another, if there is no other way to read it:
 * rows of a thread that never logs belong to the only one that logs and never computes. */
static struct server_thread *thread__for_rows(struct llama_requests *q, uint32_t tid)
{
	struct server_thread *t = thread__get(q, tid), *other = NULL;

	t->computes = true;
	if (t->logs)
		return t;
	for (size_t i = 0; i < q->threads; i++) {
		if (!q->thread[i].logs || q->thread[i].computes)
			continue;
		if (other)
			return t;
		other = &q->thread[i];
	}
	return other ? other : t;
}

static struct slot *slot__get(struct llama_requests *q, uint32_t tid, int32_t number)
{
	struct slot_key key = { .tid = tid, .slot = number };
	struct slot *s;

	HASH_FIND(hh, q->slots, &key, sizeof(key), s);
	if (s || HASH_COUNT(q->slots) >= ALL_SLOTS_MAX)
		return s;
	s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	s->key = key;
	HASH_ADD(hh, q->slots, key, sizeof(s->key), s);
	if (!hash__has(s)) {
		free(s);
		return NULL;
	}
	return s;
}

/* --- begin and end ---------------------------------------------------------------------------- */

static struct request *request__new(struct llama_requests *q, struct slot *s, uint64_t begin_ns)
{
	struct request *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->sequence = ++q->next_sequence;
	r->epoch = s->epoch++;
	r->task = r->parent = -1;
	r->begin_ns = begin_ns;
	r->prompt_rows = r->generated = ENGINE_UNKNOWN;
	s->was_used = true;
	s->current = r;
	return r;
}

/* A request that ends without a row: the context of its server, if there is one to choose. */
static uint32_t context_of_server(const struct llama_requests *q, const struct server_thread *t)
{
	size_t servers = 0;

	if (t && t->context)
		return t->context;
	for (size_t i = 0; i < q->threads; i++)
		servers += q->thread[i].logs;
	return servers == 1 ? q->first_context : ENGINE_UNKNOWN;
}

/* Say that @r begins. @first: position of its first row, ENGINE_UNKNOWN if it had none. */
static int request__say_begin(struct llama_requests *q, struct request *r, const struct slot *s,
			      uint32_t first, const char *client_id, uint64_t time_ns,
			      const struct engine_sink *sink)
{
	const struct server_thread *t = thread__find(q, s->key.tid);
	bool is_whole = r->launched && t && r->missed == t->missed;
	struct engine_request out = {
		.request = ++q->next_request,
		.context = r->context ? r->context : context_of_server(q, t),
		.sequence = r->sequence,
		.slot = (uint32_t)s->key.slot,
		.epoch = r->epoch,
		.task = r->task < 0 ? ENGINE_UNKNOWN : (uint32_t)r->task,
		.cached = is_whole ? first : ENGINE_UNKNOWN,
		.prompt = r->prompt && !r->prompt->cut ? r->prompt->count : ENGINE_UNKNOWN,
		.tokens = r->prompt && !r->prompt->cut ? r->prompt->token : NULL,
		.client_id = client_id,
		.before_attach = r->before_attach,
		.inferred = r->inferred,
		.begin_ns = r->begin_ns,
		.time_ns = time_ns,
	};

	r->id = out.request;
	return sink->request_begin(sink->ctx, &out);
}

/* End the slot's request, said or not. */
static int slot__end(struct llama_requests *q, struct slot *s, uint32_t ending, uint32_t tokens,
		     uint64_t time_ns, const struct engine_sink *sink)
{
	struct request *r = s->current;
	struct engine_request_end out = { .ending = ending, .tokens = tokens, .time_ns = time_ns };
	int err = 0, err_end;

	if (!r)
		return 0;
	s->current = NULL;
	if (!r->id)
		err = request__say_begin(q, r, s, ENGINE_UNKNOWN, "", time_ns, sink);
	out.request = r->id;
	out.prompt_rows = r->prompt_rows;
	out.generated = r->generated;
	err_end = sink->request_end(sink->ctx, &out);
	request__free(r);
	return err ? err : err_end;
}

/* --- log lines -------------------------------------------------------------------------------- */

static bool begins(const char *text, const char *with)
{
	return !strncmp(text, with, strlen(with));
}

/* The parent follows its children ("is_child"): it was launched on the same thread, next. */
static void adopt_children(struct llama_requests *q, struct server_thread *t, int32_t parent)
{
	for (size_t i = 0; i < t->children; i++) {
		struct slot *s = slot__get(q, t->tid, t->child_slot[i]);

		if (s && s->current && !s->current->id)
			s->current->parent = parent;
	}
	t->children = 0;
}

static int on_launch(struct llama_requests *q, const struct mp_event_line *line,
		     struct server_thread *t, struct slot *s, bool is_child,
		     const struct engine_sink *sink)
{
	uint64_t now = line->event.time_ns;
	struct request *r;
	int err;

	err = slot__end(q, s, ENGINE_ENDING_REPLACED, ENGINE_UNKNOWN, now, sink);
	r = request__new(q, s, now);
	if (!r)
		return -ENOMEM;
	r->task = line->task;
	r->launched = true;
	r->missed = t->missed;
	if (!is_child)
		adopt_children(q, t, line->task);
	else if (t->children < CHILDREN_MAX)
		t->child_slot[t->children++] = line->slot;
	return err;
}

static int on_release(struct llama_requests *q, const struct mp_event_line *line, struct slot *s,
		      const struct engine_sink *sink)
{
	struct request *r = s->current;
	uint32_t tokens = (uint32_t)line->args[0];

	s->was_used = true;
	if (!r)
		return 0;
	/* Another task's release: the launch in between was lost, and with it this one's end. */
	if (r->task >= 0 && r->task != line->task)
		return slot__end(q, s, ENGINE_ENDING_REPLACED, ENGINE_UNKNOWN, line->event.time_ns,
				 sink);
	return slot__end(q, s, ENGINE_ENDING_RELEASED, tokens > INT32_MAX ? ENGINE_UNKNOWN : tokens,
			 line->event.time_ns, sink);
}

/* Variable arguments that are int lie in the low half of their stack slot. */
static uint32_t count_argument(const struct mp_event_line *line)
{
	int32_t value = (int32_t)line->args[0];

	return value < 0 ? ENGINE_UNKNOWN : (uint32_t)value;
}

int llama_requests__line(struct llama_requests *q, const struct mp_event_line *line,
			 const struct engine_sink *sink)
{
	const char *text = line->format + sizeof(LINE_HEAD) - 1;
	struct server_thread *t;
	struct slot *s;

	/* Lines of another form are not understood; what they would say stays unknown. */
	if (!begins(line->format, LINE_HEAD))
		return 0;
	t = thread__get(q, line->event.tid);
	t->logs = true;
	if (line->task < 0)
		return 0;
	if (line->slot < 0 || line->slot >= LLAMA_SLOTS_MAX)
		return -EBADMSG;
	s = slot__get(q, t->tid, line->slot);
	if (!s)
		return -ENOMEM;
	if (!strcmp(line->function, "launch_slot_with_task") && begins(text, "processing task"))
		return on_launch(q, line, t, s,
				 begins(text, "processing task, is_child = %d") &&
					 (int32_t)line->args[0],
				 sink);
	if (!strcmp(line->function, "release") && begins(text, "stop processing: n_"))
		return on_release(q, line, s, sink);
	if (s->current && (s->current->task == line->task || s->current->task < 0)) {
		if (begins(text, "prompt eval time = %10.2f ms / %5d tokens"))
			s->current->prompt_rows = count_argument(line);
		else if (begins(text, "       eval time = %10.2f ms / %5d tokens"))
			s->current->generated = count_argument(line);
	}
	return 0;
}

/* --- rows ------------------------------------------------------------------------------------- */

uint32_t llama_requests__server(struct llama_requests *q, uint32_t tid)
{
	return thread__for_rows(q, tid)->tid;
}

void llama_requests__missed(struct llama_requests *q, uint32_t tid)
{
	thread__for_rows(q, tid)->missed++;
}

bool llama_requests__is_quiet(const struct llama_requests *q, uint32_t tid)
{
	const struct slot *s;

	for (size_t i = 0; i < q->threads; i++)
		if (q->thread[i].logs)
			return false;
	for (s = q->slots; s; s = s->hh.next)
		if (s->key.tid == tid && s->was_used)
			return false;
	return true;
}

/* Fill row_slot, and what each slot has in this computation. */
static int tally(struct llama_requests *q, const struct llama_rows *rows, uint32_t tid)
{
	uint64_t serial = ++q->serial;

	if (rows->count > q->row_capacity) {
		struct slot **more = realloc(q->row_slot, rows->count * sizeof(struct slot *));

		if (!more)
			return -ENOMEM;
		q->row_slot = more;
		q->row_capacity = rows->count;
	}
	for (uint32_t i = 0; i < rows->count; i++) {
		struct slot *s = i && rows->sequence[i] == rows->sequence[i - 1]
					 ? q->row_slot[i - 1]
					 : slot__get(q, tid, rows->sequence[i]);

		q->row_slot[i] = s;
		if (!s)
			continue;
		if (s->serial != serial) {
			s->serial = serial;
			s->rows = s->outputs = 0;
			s->first = (uint32_t)rows->position[i];
			s->is_settled = false;
			s->here = NULL;
		}
		s->rows++;
		s->outputs += rows->output[i];
	}
	return 0;
}

/* Prompt rows in a slot that was generating, or positions that step back: another request. */
static bool is_restart(const struct slot *s, const struct request *r)
{
	if (!r->context)
		return false;
	if (r->generates && s->outputs < s->rows)
		return true;
	if (r->launched || s->first > r->last_position)
		return false;
	return !r->drafts || s->first + DRAFT_ROWS_MAX < r->last_position;
}

static int request__identify(struct llama_requests *q, struct request *r, const struct slot *s,
			     const struct llama_rows *rows, char client_id[MP_CLIENT_ID_SIZE],
			     const struct engine_sink *sink)
{
	struct llama_evidence evidence = { .rows = rows, .slot = s->key.slot, .first = s->first };
	struct llama_identity identity = { 0 };
	int err = 0;

	if (!r->launched)
		return 0;
	if (r->parent >= 0)
		llama_tasks__identify_child(q->tasks, &identity, s->key.tid, r->parent);
	else if (llama_tasks__identify(q->tasks, &identity, s->key.tid, r->task, &evidence))
		err = sink->invalid(sink->ctx, ENGINE_INVALID_IDENTITY, 1);
	memcpy(client_id, identity.client_id, MP_CLIENT_ID_SIZE);
	r->prompt = identity.prompt;
	return err;
}

/* Whose are the slot's rows in this computation? Begins a request if need be. */
static int slot__settle(struct llama_requests *q, struct slot *s, const struct llama_rows *rows,
			uint32_t context, const struct engine_sink *sink)
{
	char client_id[MP_CLIENT_ID_SIZE] = "";
	struct request *r = s->current;
	int err = 0, err_begin;

	if (r && r->context && r->context != context)
		return 0; /* a second model works for the slot (a draft): not the request's rows */
	if (r && is_restart(s, r)) {
		err = slot__end(q, s, ENGINE_ENDING_REPLACED, ENGINE_UNKNOWN, rows->time_ns, sink);
		r = NULL;
	}
	if (!r) {
		bool is_first = !s->was_used;

		r = request__new(q, s, is_first ? UINT64_MAX : rows->time_ns);
		if (!r)
			return -ENOMEM;
		r->before_attach = is_first;
		r->inferred = !is_first;
		/* Nothing but rows with output: it was generating before we came. */
		r->generates = is_first && s->rows == s->outputs;
	}
	s->here = r;
	if (r->id)
		return err;
	r->context = context;
	err_begin = request__identify(q, r, s, rows, client_id, sink);
	err = err ? err : err_begin;
	err_begin = request__say_begin(q, r, s, s->first, client_id, rows->time_ns, sink);
	return err ? err : err_begin;
}

static uint8_t phase_of(const struct request *r, uint32_t position)
{
	if (r->prompt && (position < r->prompt->count || !r->prompt->cut))
		return position < r->prompt->count ? ENGINE_PREFILL : ENGINE_DECODE;
	return r->generates ? ENGINE_DECODE : ENGINE_PREFILL;
}

/* The prompt that was believed says another token here. */
static bool contradicts(const struct request *r, const struct engine_row *row)
{
	return r->prompt && row->position < r->prompt->count && row->token >= 0 &&
	       r->prompt->token[row->position] >= 0 &&
	       r->prompt->token[row->position] != row->token;
}

static int row__fill(struct llama_requests *q, struct engine_row *out, const struct slot *s,
		     const struct engine_sink *sink)
{
	struct request *r = s ? s->here : NULL;
	int err = 0;

	out->sequence = out->request = ENGINE_UNKNOWN;
	out->phase = ENGINE_PHASE_UNKNOWN;
	if (!r)
		return 0;
	if (contradicts(r, out)) {
		prompt__put(r->prompt);
		r->prompt = NULL;
		llama_tasks__distrust(q->tasks);
		err = sink->invalid(sink->ctx, ENGINE_INVALID_IDENTITY, 1);
	}
	out->sequence = r->sequence;
	out->request = r->id;
	out->phase = phase_of(r, out->position);
	if (out->output && (!r->prompt || out->position + 1 >= r->prompt->count))
		r->generates = true;
	r->drafts |= s->outputs > 1 && s->outputs == s->rows;
	r->last_position = out->position;
	return err;
}

int llama_requests__rows(struct llama_requests *q, const struct llama_rows *rows, uint32_t context,
			 struct engine_row *out, const struct engine_sink *sink)
{
	struct server_thread *t = thread__for_rows(q, rows->tid);
	int err;

	t->context = context;
	err = tally(q, rows, t->tid);
	if (err)
		return err;
	for (uint32_t i = 0; i < rows->count; i++) {
		struct slot *s = q->row_slot[i];
		int err_row;

		out[i] = (struct engine_row){
			.position = (uint32_t)rows->position[i],
			.token = rows->token[i],
			.output = rows->output[i],
		};
		if (s && !s->is_settled) {
			s->is_settled = true;
			err_row = slot__settle(q, s, rows, context, sink);
			err = err ? err : err_row;
		}
		err_row = row__fill(q, &out[i], s, sink);
		err = err ? err : err_row;
	}
	return err;
}

int llama_requests__finish(struct llama_requests *q, uint64_t now_ns, uint32_t ending,
			   const struct engine_sink *sink)
{
	struct slot *s;
	int err = 0;

	for (s = q->slots; s; s = s->hh.next) {
		int err_end = slot__end(q, s, ending, ENGINE_UNKNOWN, now_ns, sink);

		err = err ? err : err_end;
	}
	return err;
}
