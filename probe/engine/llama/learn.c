/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The struct of a queued task (server_task) is private and changes with every release. Three
 * numbers are wanted of it: its size, where the client's id is, where the prompt's tokens are.
 *
 * While they are unknown the kernel program looks through the first task of each call and
 * reports every text that begins like a client's id (how many there were) and every vector that
 * could be tokens. When the server later takes the task up (its number is in a log line), the
 * rows that it computes tell which vector is the prompt: row.token == vector[row.position] for
 * every row, in the slot of that task. One vector left, one text only, and enough tokens
 * compared: the three numbers are written into the kernel's table, and from then on one read
 * gives what the search gave. Each further request is held against its rows in the same way; one
 * that disagrees loses its identity and learning begins again.
 */
#include "probe/engine/llama/tasks.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "probe/base/hash.h"
#include "probe/engine/llama/layout.h"

#define TASKS_MAX 1024               /* remembered */
#define TOKENS_BYTES_MAX (16u << 20) /* of all their prompts together */
#define VECTORS_MAX 8                /* candidates for the prompt in one task */
#define SPAN_MAX 8192                /* bytes of a task that the kernel program looks through */
#define TOKENS_CONVINCE 8            /* compared tokens that settle which vector it is */
#define SERVERS_MAX 16               /* in one process */

struct vector {
	uint32_t offset; /* in the task */
	struct prompt *prompt;
};

struct task_key {
	uint64_t queue; /* address of the server's queue: which server */
	int32_t task;
	uint32_t zero;
};

struct task {
	UT_hash_handle hh;
	struct task_key key;
	uint32_t tid;
	uint64_t time_ns;
	uint32_t index;
	struct mp_event_task said;
	uint32_t vectors;
	struct vector vector[VECTORS_MAX];
	bool identified;
	struct prompt *prompt; /* once identified: a reference */
	size_t bytes;
};

struct layout {
	uint32_t element_size, text_offset, tokens_offset;
};

struct llama_tasks {
	struct task *tasks; /* uthash, in order of arrival */
	size_t bytes;
	bool learnt;
	struct layout layout;
	struct mp_tasks_site *row; /* live; NULL: there is none */
	struct {
		uint64_t queue;
		uint32_t tid; /* of the server's main thread */
	} server[SERVERS_MAX];
	size_t servers;
};

/* --- prompts ---------------------------------------------------------------------------------- */

struct prompt *prompt__get(struct prompt *p)
{
	if (p)
		p->references++;
	return p;
}

void prompt__put(struct prompt *p)
{
	if (p && !--p->references)
		free(p);
}

/* From the chunks of a capture. NULL with *@err set. */
static struct prompt *prompt__new(const struct capture *c, int *err)
{
	const struct mp_event *head = c->chunk[0];
	struct prompt *p;

	*err = -EBADMSG;
	if (!head->total || head->total > LLAMA_PROMPT_MAX)
		return NULL;
	*err = -ENOMEM;
	p = malloc(sizeof(*p) + (size_t)head->total * sizeof(int32_t));
	if (!p)
		return NULL;
	p->references = 1;
	p->count = head->total;
	p->cut = head->total == LLAMA_PROMPT_MAX;
	for (size_t i = 0; i < c->chunks; i++) {
		const struct mp_event *ev = c->chunk[i];

		memcpy(p->token + ev->first, (const uint8_t *)ev + sizeof(struct mp_event_tokens),
		       (size_t)ev->count * sizeof(int32_t));
	}
	*err = 0;
	return p;
}

/* --- the store -------------------------------------------------------------------------------- */

int llama_tasks__new(struct llama_tasks **out)
{
	*out = calloc(1, sizeof(**out));
	return *out ? 0 : -ENOMEM;
}

static void task__free(struct llama_tasks *s, struct task *t)
{
	HASH_DEL(s->tasks, t);
	s->bytes -= t->bytes;
	for (uint32_t i = 0; i < t->vectors; i++)
		prompt__put(t->vector[i].prompt);
	prompt__put(t->prompt);
	free(t);
}

static void forget_all(struct llama_tasks *s)
{
	struct task *t, *next;

	HASH_ITER(hh, s->tasks, t, next)
	task__free(s, t);
}

void llama_tasks__free(struct llama_tasks *s)
{
	if (!s)
		return;
	forget_all(s);
	free(s);
}

void llama_tasks__set_row(struct llama_tasks *s, struct mp_tasks_site *row)
{
	s->row = row;
}

static void make_room(struct llama_tasks *s, const struct task *keep)
{
	struct task *t, *next;

	HASH_ITER(hh, s->tasks, t, next)
	{
		if (HASH_COUNT(s->tasks) <= TASKS_MAX && s->bytes <= TOKENS_BYTES_MAX)
			return;
		if (t != keep)
			task__free(s, t);
	}
}

int llama_tasks__add(struct llama_tasks *s, const struct capture *c)
{
	struct task_key key = { 0 };
	struct mp_event_task said;
	struct task *t;

	if (c->chunk[0]->size < sizeof(said))
		return -EBADMSG;
	memcpy(&said, c->chunk[0], sizeof(said));
	said.client_id[sizeof(said.client_id) - 1] = '\0';
	if (said.task < 0) /* an order to the server (cancel): no request */
		return 0;
	key.queue = said.event.object;
	key.task = said.task;
	HASH_FIND(hh, s->tasks, &key, sizeof(key), t);
	if (t)
		task__free(s, t);
	t = calloc(1, sizeof(*t));
	if (!t)
		return -ENOMEM;
	t->key = key;
	t->tid = said.event.tid;
	t->time_ns = said.event.time_ns;
	t->index = said.index;
	t->said = said;
	HASH_ADD(hh, s->tasks, key, sizeof(t->key), t);
	if (!hash__has(t)) {
		free(t);
		return -ENOMEM;
	}
	make_room(s, t);
	return 0;
}

int llama_tasks__add_tokens(struct llama_tasks *s, const struct capture *c)
{
	struct mp_event_tokens head = { 0 }, part;
	struct task_key key = { 0 };
	struct vector *v;
	struct task *t;
	int err;

	for (size_t i = 0; i < c->chunks; i++) {
		if (c->chunk[i]->size < sizeof(part) + (uint64_t)c->chunk[i]->count * 4)
			return -EBADMSG;
		memcpy(&part, c->chunk[i], sizeof(part));
		if (!i)
			head = part;
		if (part.index != head.index || part.task != head.task ||
		    part.offset != head.offset)
			return -EBADMSG;
	}
	key.queue = head.event.object;
	key.task = head.task;
	HASH_FIND(hh, s->tasks, &key, sizeof(key), t);
	/* Its TASK was lost, or is another call's: tokens of nobody. */
	if (!t || t->tid != head.event.tid || t->time_ns != head.event.time_ns ||
	    t->index != head.index || t->vectors == VECTORS_MAX)
		return 0;
	v = &t->vector[t->vectors];
	v->offset = head.offset;
	v->prompt = prompt__new(c, &err);
	if (!v->prompt)
		return err;
	t->vectors++;
	t->bytes += (size_t)v->prompt->count * sizeof(int32_t);
	s->bytes += (size_t)v->prompt->count * sizeof(int32_t);
	make_room(s, t);
	return 0;
}

/* --- agreement of a prompt with rows ---------------------------------------------------------- */

struct agreement {
	uint32_t compared; /* tokens found equal */
	bool contradicted;
	bool ended; /* its last token was the row whose logits were asked for */
};

static struct agreement compare(const struct prompt *p, const struct llama_evidence *e)
{
	const struct llama_rows *rows = e->rows;
	struct agreement a = { 0 };

	if (e->first >= p->count && !p->cut)
		a.contradicted = true; /* at least one token of every prompt is computed */
	for (uint32_t i = 0; i < rows->count; i++) {
		uint32_t position = (uint32_t)rows->position[i];

		if (rows->sequence[i] != e->slot || position >= p->count || rows->token[i] < 0 ||
		    p->token[position] < 0)
			continue;
		if (p->token[position] != rows->token[i]) {
			a.contradicted = true;
			return a;
		}
		a.compared++;
		a.ended |= position == p->count - 1 && rows->output[i];
	}
	return a;
}

static bool same_tokens(const struct prompt *a, const struct prompt *b)
{
	return a->count == b->count &&
	       !memcmp(a->token, b->token, (size_t)a->count * sizeof(*a->token));
}

/*
 * The vector of @t that is its prompt; NULL if none agrees or if several that differ do. Copies of
 * the prompt are as good as it. @sure: enough was compared to learn from.
 */
static const struct vector *find_prompt(const struct task *t, const struct llama_evidence *e,
					bool *sure)
{
	const struct vector *found = NULL;
	bool found_ended = false;

	*sure = false;
	for (uint32_t i = 0; i < t->vectors; i++) {
		const struct vector *v = &t->vector[i];
		struct agreement a = compare(v->prompt, e);

		if (a.contradicted || !a.compared)
			continue;
		if (found && !same_tokens(found->prompt, v->prompt)) {
			if (found_ended && !a.ended)
				continue;
			if (found_ended || !a.ended)
				return NULL;
			found = NULL;
		}
		if (!found) {
			found = v;
			found_ended = a.ended;
			*sure = a.ended || a.compared >= TOKENS_CONVINCE;
		}
	}
	return found;
}

/* --- the layout ------------------------------------------------------------------------------- */

/* The kernel program reads the row while we write it: offsets count only once size is there, and
 * it looks for what is 0. */
static void publish(struct llama_tasks *s)
{
	struct mp_tasks_site *row = s->row;

	if (!row)
		return;
	__atomic_store_n(&row->tokens_offset, 0, __ATOMIC_SEQ_CST);
	__atomic_store_n(&row->text_offset, 0, __ATOMIC_SEQ_CST);
	__atomic_store_n(&row->element_size, s->layout.element_size, __ATOMIC_SEQ_CST);
	__atomic_store_n(&row->text_offset, s->layout.text_offset, __ATOMIC_SEQ_CST);
	__atomic_store_n(&row->tokens_offset, s->layout.tokens_offset, __ATOMIC_SEQ_CST);
}

static void learn(struct llama_tasks *s, const struct task *t, const struct vector *v)
{
	const struct mp_event_task *said = &t->said;
	uint32_t size = said->tasks ? said->span / said->tasks : said->span;

	/* Several tasks in one call show several texts: only a lone one says how long it is. */
	if (said->texts != 1 || !said->text_offset || !v->offset || size > SPAN_MAX ||
	    said->text_offset + 8 > size || v->offset + 16 > size || t->index)
		return;
	s->layout.element_size = size;
	s->layout.text_offset = said->text_offset;
	s->layout.tokens_offset = v->offset;
	s->learnt = true;
	publish(s);
}

void llama_tasks__distrust(struct llama_tasks *s)
{
	if (!s->learnt)
		return;
	s->learnt = false;
	memset(&s->layout, 0, sizeof(s->layout));
	publish(s);
	/* What was read by the wrong layout is no evidence. */
	forget_all(s);
}

/* --- identity --------------------------------------------------------------------------------- */

static void give(struct llama_identity *out, const struct task *t)
{
	/* Of several texts, the first is that of the first task, which this is. */
	if (t->said.texts &&
	    !strncmp(t->said.client_id, LLAMA_CLIENT_PREFIX, sizeof(LLAMA_CLIENT_PREFIX) - 1))
		memcpy(out->client_id, t->said.client_id, sizeof(out->client_id));
	out->prompt = prompt__get(t->prompt);
}

static bool queue_of(const struct llama_tasks *s, uint32_t tid, uint64_t *queue)
{
	for (size_t i = 0; i < s->servers; i++) {
		if (s->server[i].tid == tid) {
			*queue = s->server[i].queue;
			return true;
		}
	}
	return false;
}

static bool is_claimed(const struct llama_tasks *s, uint64_t queue)
{
	for (size_t i = 0; i < s->servers; i++)
		if (s->server[i].queue == queue)
			return true;
	return false;
}

static void claim(struct llama_tasks *s, uint32_t tid, uint64_t queue)
{
	uint64_t known;

	if (queue_of(s, tid, &known) || s->servers == SERVERS_MAX)
		return;
	s->server[s->servers].tid = tid;
	s->server[s->servers++].queue = queue;
}

static bool agrees(const struct task *t, const struct llama_evidence *e)
{
	bool sure;

	return !t->vectors || find_prompt(t, e, &sure);
}

/*
 * The task called @task. Each server in a process counts from 0; until it is known which queue
 * belongs to the thread @tid, the rows decide, and two that both agree are nobody's.
 */
static struct task *find_task(struct llama_tasks *s, uint32_t tid, int32_t task,
			      const struct llama_evidence *e)
{
	struct task_key key = { .task = task };
	struct task *t, *next, *found = NULL;

	if (queue_of(s, tid, &key.queue)) {
		HASH_FIND(hh, s->tasks, &key, sizeof(key), t);
		return t;
	}
	HASH_ITER(hh, s->tasks, t, next)
	{
		if (t->key.task != task || is_claimed(s, t->key.queue) || !agrees(t, e))
			continue;
		if (found)
			return NULL;
		found = t;
	}
	return found;
}

/* With the layout known there is one vector to hold against the rows. -EBADMSG: they differ. */
static int verify(const struct llama_tasks *s, const struct task *t, const struct llama_evidence *e,
		  const struct vector **out)
{
	*out = NULL;
	for (uint32_t i = 0; i < t->vectors; i++) {
		if (t->vector[i].offset != s->layout.tokens_offset)
			continue;
		if (compare(t->vector[i].prompt, e).contradicted)
			return -EBADMSG;
		*out = &t->vector[i];
		return 0;
	}
	return 0;
}

int llama_tasks__identify(struct llama_tasks *s, struct llama_identity *out, uint32_t tid,
			  int32_t task, const struct llama_evidence *evidence)
{
	struct task *t = find_task(s, tid, task, evidence);
	const struct vector *v;
	bool sure = false;

	memset(out, 0, sizeof(*out));
	if (!t)
		return 0;
	if (s->learnt && verify(s, t, evidence, &v)) {
		llama_tasks__distrust(s);
		return -EBADMSG;
	}
	if (!s->learnt)
		v = find_prompt(t, evidence, &sure);
	if (v) {
		claim(s, tid, t->key.queue);
		prompt__put(t->prompt);
		t->prompt = prompt__get(v->prompt);
		if (sure)
			learn(s, t, v);
	}
	t->identified = true;
	give(out, t);
	return 0;
}

void llama_tasks__identify_child(struct llama_tasks *s, struct llama_identity *out, uint32_t tid,
				 int32_t parent)
{
	struct task_key key = { .task = parent };
	struct task *t = NULL;

	memset(out, 0, sizeof(*out));
	if (queue_of(s, tid, &key.queue))
		HASH_FIND(hh, s->tasks, &key, sizeof(key), t);
	if (t && t->identified)
		give(out, t);
}
