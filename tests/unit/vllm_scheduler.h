/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A scheduler like vLLM's, driven by bytes: requests of few different tokens with equal beginnings,
 * prefixes from the cache, prompts in pieces, preemptions, blocks that are used again, and messages
 * that come late. It knows whose each row is; what the engine says of that must be so, or be said
 * to be inferred. Aborts where it is not, or where what is said cannot be.
 */
#ifndef MP_TESTS_VLLM_SCHEDULER_H
#define MP_TESTS_VLLM_SCHEDULER_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "probe/engine/sink.h"
#include "probe/engine/vllm/batches.h"
#include "probe/engine/vllm/held.h"
#include "probe/engine/vllm/requests.h"

#define REQUESTS_MAX 24  /* of one run */
#define RUNNING_MAX 6    /* at the same time */
#define LENGTH_MAX 40    /* tokens of a request */
#define PROMPT_MAX 20    /* of its prompt */
#define SLOTS_A_BLOCK 4u /* of the cache */
#define BLOCKS 48
#define ROWS_A_STEP 64
#define ROWS_MAX 4096

#define require(condition) \
	do { \
		if (!(condition)) { \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
			abort(); \
		} \
	} while (0)

/* A request as it is in truth. */
struct true_request {
	char id[16], external[16];
	uint8_t token[LENGTH_MAX];
	uint32_t prompt, known, told; /* tokens: known to the scheduler, told of */
	uint32_t computed;
	uint32_t cached; /* when it first began */
	uint32_t limit;  /* it ends with so many */
	uint32_t step;   /* of its last rows: whoever is preempted is left out of one at least */
	uint8_t block[LENGTH_MAX];
	bool is_open, is_running, is_over; /* over: all is computed */
};

/* A block of the cache: the tokens up to its end, if it is full. */
struct true_block {
	uint32_t users, tokens;
	uint8_t token[LENGTH_MAX];
};

struct said_request {
	int truth; /* -1: no name */
	bool begun, ended, inferred;
	uint32_t cached;
};

struct said_row {
	uint32_t sequence, request, position, truth, step;
};

struct scheduler {
	const uint8_t *at, *end; /* what drives it */
	uint32_t alphabet;       /* different tokens */
	uint32_t late;           /* tokens of a request that are computed before they are told */
	uint32_t requests, rows, said_rows, steps, said_steps, binds;
	struct true_request request[REQUESTS_MAX];
	struct true_block block[BLOCKS];
	uint32_t row_truth[ROWS_MAX];
	uint32_t row_position[ROWS_MAX];
	struct said_row row[ROWS_MAX];
	struct said_bind {
		struct engine_bind bind;
		uint32_t after; /* steps */
	} bind[ROWS_MAX];
	struct said_request said[4 * ROWS_MAX];
	uint64_t now_ns;
	struct vllm_requests *table;
	struct vllm_held *held;
	struct vllm_batches *batches;
	struct aten_context context;
	struct engine_sink heard_by, sink;
};

/* --- what is said --------------------------------------------------------------------------- */

static inline int scheduler__truth(const struct scheduler *s, const char *external)
{
	for (uint32_t i = 0; i < s->requests; i++)
		if (!strncmp(s->request[i].external, external, strlen(external)) && *external)
			return (int)i;
	return -1;
}

static inline int scheduler__on_begin(void *ctx, const struct engine_request *r)
{
	struct scheduler *s = ctx;
	struct said_request *q = &s->said[r->request];

	require(r->request && r->request < 4 * ROWS_MAX && !q->begun);
	*q = (struct said_request){
		.truth = scheduler__truth(s, r->client_id),
		.begun = true,
		.inferred = r->inferred,
		.cached = r->cached,
	};
	return 0;
}

static inline int scheduler__on_end(void *ctx, const struct engine_request_end *r)
{
	struct scheduler *s = ctx;

	require(s->said[r->request].begun && !s->said[r->request].ended);
	s->said[r->request].ended = true;
	s->said[r->request].inferred |= r->inferred;
	return 0;
}

static inline int scheduler__on_bind(void *ctx, const struct engine_bind *b)
{
	struct scheduler *s = ctx;

	require(b->request != ENGINE_UNKNOWN && s->said[b->request].begun && s->binds < ROWS_MAX);
	s->said[b->request].inferred |= b->inferred;
	s->bind[s->binds++] = (struct said_bind){ *b, s->said_steps };
	return 0;
}

static inline int scheduler__on_info(void *ctx, const struct engine_request_info *i)
{
	struct scheduler *s = ctx;

	require(s->said[i->request].begun);
	s->said[i->request].inferred = i->inferred;
	return 0;
}

static inline int scheduler__on_step(void *ctx, const struct engine_step *step)
{
	struct scheduler *s = ctx;

	for (uint32_t i = 0; i < step->rows; i++) {
		const struct engine_row *r = &step->row[i];

		require(s->said_rows < s->rows && r->position == s->row_position[s->said_rows]);
		require(r->request != ENGINE_UNKNOWN && s->said[r->request].begun);
		s->row[s->said_rows] =
			(struct said_row){ r->sequence, r->request, r->position,
					   s->row_truth[s->said_rows], s->said_steps };
		s->said_rows++;
	}
	s->said_steps++;
	return 0;
}

static inline int scheduler__on_invalid(void *ctx, uint32_t cause, uint64_t count)
{
	require(!"nothing is invalid");
	return 0;
}

/* --- the scheduler --------------------------------------------------------------------------- */

static inline uint8_t scheduler__byte(struct scheduler *s)
{
	return s->at < s->end ? *s->at++ : 0;
}

static inline struct vllm_tokens scheduler__tokens(const uint8_t *t, uint32_t count)
{
	return (struct vllm_tokens){ count, false, msgpack__over((const char *)t, count, 0) };
}

/* Begins as an earlier one does, mostly. */
static inline void scheduler__ask(struct scheduler *s)
{
	struct true_request *q = &s->request[s->requests];
	uint8_t how = scheduler__byte(s);
	struct vllm_request asked;

	if (s->requests == REQUESTS_MAX)
		return;
	snprintf(q->id, sizeof(q->id), "r%u-12345678", s->requests);
	snprintf(q->external, sizeof(q->external), "r%u.", s->requests);
	q->prompt = q->known = q->told = 1 + how % PROMPT_MAX;
	q->limit = q->prompt + 1 + scheduler__byte(s) % (LENGTH_MAX - PROMPT_MAX);
	for (uint32_t i = 0; i < q->prompt; i++)
		q->token[i] = i < 8 ? 1 : 1 + scheduler__byte(s) % s->alphabet;
	q->is_open = true;
	s->requests++;
	asked = (struct vllm_request){
		.id = { q->id, (uint32_t)strlen(q->id) },
		.external = { q->external, (uint32_t)strlen(q->external) },
		.prompt = scheduler__tokens(q->token, q->prompt),
		.is_whole = true,
	};
	require(!vllm_requests__asked(s->table, ++s->now_ns, &asked, &s->sink));
}

static inline void scheduler__tell(struct scheduler *s, struct true_request *q)
{
	struct vllm_output o = {
		.id = { q->id, (uint32_t)strlen(q->id) },
		.is_whole = true,
		.finish = VLLM_RUNNING,
	};

	if (!q->is_open || q->told == q->known)
		return;
	o.tokens = scheduler__tokens(q->token + q->told, 1);
	o.has_prefill = q->told == q->prompt;
	o.cached_tokens = q->cached;
	q->told++;
	if (q->is_over && q->told == q->known) {
		o.finish = VLLM_LENGTH;
		q->is_open = false;
	}
	require(!vllm_requests__output(s->table, ++s->now_ns, &o, &s->sink));
}

static inline void scheduler__drop(struct scheduler *s, struct true_request *q)
{
	for (uint32_t i = 0; i * SLOTS_A_BLOCK < q->computed; i++)
		s->block[q->block[i]].users--;
	q->computed = 0;
	q->is_running = false;
}

/* What of @q is in the cache, in whole blocks; the last token is always computed. */
static inline void scheduler__start(struct scheduler *s, struct true_request *q)
{
	bool cached = scheduler__byte(s) % 4;

	q->is_running = true;
	while (cached && q->computed + SLOTS_A_BLOCK < q->known) {
		uint32_t end = q->computed + SLOTS_A_BLOCK, i;

		for (i = 0; i < BLOCKS; i++)
			if (s->block[i].tokens == end && !memcmp(s->block[i].token, q->token, end))
				break;
		if (i == BLOCKS)
			break;
		s->block[i].users++;
		q->block[q->computed / SLOTS_A_BLOCK] = (uint8_t)i;
		q->computed = end;
	}
	if (!q->step)
		q->cached = q->computed;
}

/* A block that nobody has, for @q at its position; false: there is none. */
static inline bool scheduler__allocate(struct scheduler *s, struct true_request *q)
{
	uint32_t first = scheduler__byte(s), i, n;

	for (n = 0; n < BLOCKS; n++) {
		i = (first + n) % BLOCKS;
		if (s->block[i].users)
			continue;
		s->block[i] = (struct true_block){ .users = 1 };
		q->block[q->computed / SLOTS_A_BLOCK] = (uint8_t)i;
		return true;
	}
	return false;
}

struct columns {
	int64_t token[ROWS_A_STEP], position[ROWS_A_STEP], slot[ROWS_A_STEP],
		start[RUNNING_MAX + 1];
	uint32_t rows, runs;
};

/* Compute up to @most further tokens of @q. */
static inline void scheduler__compute(struct scheduler *s, struct true_request *q, uint32_t most,
				      struct columns *c)
{
	uint32_t before = c->rows;

	for (uint32_t i = 0; i < most && q->computed < q->known && c->rows < ROWS_A_STEP; i++) {
		uint32_t p = q->computed;
		struct true_block *b;

		if (!(p % SLOTS_A_BLOCK) && !scheduler__allocate(s, q))
			break;
		b = &s->block[q->block[p / SLOTS_A_BLOCK]];
		c->token[c->rows] = q->token[p];
		c->position[c->rows] = p;
		c->slot[c->rows++] =
			q->block[p / SLOTS_A_BLOCK] * SLOTS_A_BLOCK + p % SLOTS_A_BLOCK;
		s->row_truth[s->rows] = (uint32_t)(q - s->request);
		s->row_position[s->rows++] = p;
		q->computed++;
		if (!(q->computed % SLOTS_A_BLOCK)) {
			b->tokens = q->computed;
			memcpy(b->token, q->token, q->computed);
		}
	}
	if (c->rows > before)
		c->start[++c->runs] = c->rows;
}

/* All of @q that is known is computed: the next token. */
static inline void scheduler__sample(struct scheduler *s, struct true_request *q)
{
	if (!q->is_running || q->computed < q->known)
		return;
	q->token[q->known++] = 1 + scheduler__byte(s) % s->alphabet;
	q->is_over = q->known == q->limit; /* the last one is never computed */
	if (q->is_over)
		scheduler__drop(s, q);
}

static inline void scheduler__step(struct scheduler *s)
{
	uint8_t first = scheduler__byte(s);
	struct columns c = { 0 };
	uint32_t running = 0;

	for (uint32_t i = 0; i < s->requests; i++)
		while (s->late <= 2 && s->request[i].is_open &&
		       s->request[i].told < s->request[i].known && s->request[i].step < s->steps)
			scheduler__tell(s, &s->request[i]);
	for (uint32_t i = 0; i < s->requests && running < RUNNING_MAX; i++) {
		struct true_request *q = &s->request[(first + i) % s->requests];
		uint8_t how = scheduler__byte(s);

		if (!q->is_open || q->is_over || (how & 7) == 7 ||
		    (!q->is_running && q->step && q->step == s->steps) ||
		    s->rows + ROWS_A_STEP >= ROWS_MAX)
			continue;
		while (q->known - q->told >= s->late)
			scheduler__tell(s, q);
		running++;
		if (!q->is_running)
			scheduler__start(s, q);
		q->step = s->steps + 1;
		scheduler__compute(s, q, how & 8 ? 1 + (how >> 4) : 16, &c);
	}
	for (uint32_t i = 0; i < s->requests; i++)
		scheduler__sample(s, &s->request[i]);
	if (!c.rows)
		return;
	s->steps++;
	struct aten_step step = {
		.computation = s->steps,
		.begin_ns = ++s->now_ns,
		.end_ns = ++s->now_ns,
		.scalar = SLOTS_A_BLOCK,
		.rows = c.rows,
		.token = { c.rows, c.rows, c.token },
		.position = { c.rows, c.rows, c.position },
		.slot = { c.rows, c.rows, c.slot },
		.start = { c.runs + 1, c.runs + 1, c.start },
	};
	require(!vllm_batches__step(s->batches, &step, &s->context, NULL, &s->sink));
}

/* One thing that happens. */
static inline void scheduler__act(struct scheduler *s)
{
	uint8_t what = scheduler__byte(s);
	struct true_request *q = &s->request[s->requests ? what / 8u % s->requests : 0];

	switch (what % 8) {
	case 0:
		scheduler__ask(s);
		break;
	case 1:
		if (s->requests && q->is_running)
			scheduler__drop(s, q);
		break;
	case 2:
	case 3:
		for (uint32_t i = 0; i < s->requests; i++)
			scheduler__tell(s, &s->request[i]);
		break;
	case 4:
		s->now_ns += what < 32 ? 3000000000ull : 0;
		require(!vllm_batches__settle(s->batches, s->now_ns, &s->sink));
		break;
	default:
		scheduler__step(s);
	}
}

/* --- the whole ------------------------------------------------------------------------------ */

/* Whose row @r is by all that was said. */
static inline uint32_t scheduler__owner(const struct scheduler *s, const struct said_row *r)
{
	uint32_t owner = r->request;

	for (uint32_t i = 0; i < s->binds; i++) {
		const struct said_bind *b = &s->bind[i];

		if (b->bind.sequence == r->sequence && b->bind.position <= r->position &&
		    b->after > r->step)
			owner = b->bind.request;
	}
	return owner;
}

/* What came of a run. */
struct scheduler_result {
	uint32_t rows, inferred, nameless, wrong; /* wrong: and said to be sure */
};

static inline struct scheduler_result scheduler__judge(struct scheduler *s)
{
	struct scheduler_result result = { .rows = s->rows };

	require(s->said_rows == s->rows);
	for (uint32_t i = 0; i < s->said_rows; i++) {
		const struct said_request *q = &s->said[scheduler__owner(s, &s->row[i])];

		require(q->begun && q->ended);
		result.inferred += q->inferred;
		result.nameless += q->truth < 0;
		result.wrong +=
			!q->inferred && q->truth >= 0 && (uint32_t)q->truth != s->row[i].truth;
	}
	return result;
}

/* A run with @size bytes of accidents, tokens that are one of @alphabet, and messages that come up
 * to @late tokens late. */
static inline struct scheduler_result scheduler__run(const uint8_t *bytes, size_t size,
						     uint32_t alphabet, uint32_t late)
{
	struct scheduler *s = calloc(1, sizeof(*s));
	struct scheduler_result result;

	require(s);
	s->at = bytes;
	s->end = bytes + size;
	s->alphabet = alphabet;
	s->late = late;
	s->context.id = 1;
	s->heard_by = (struct engine_sink){
		.request_begin = scheduler__on_begin,
		.request_end = scheduler__on_end,
		.bind = scheduler__on_bind,
		.request_info = scheduler__on_info,
		.step = scheduler__on_step,
		.invalid = scheduler__on_invalid,
		.ctx = s,
	};
	require(!vllm_requests__new(&s->table) && !vllm_held__new(&s->held) &&
		!vllm_batches__new(&s->batches, s->table, s->held));
	s->sink = vllm_held__sink(s->held, &s->heard_by);
	while (s->at < s->end)
		scheduler__act(s);
	require(!vllm_batches__settle(s->batches, UINT64_MAX, &s->sink));
	require(!vllm_requests__expire(s->table, UINT64_MAX, UINT64_MAX, ++s->now_ns,
				       ENGINE_ENDING_CAPTURE_END, &s->sink));
	require(!vllm_batches__settle(s->batches, UINT64_MAX, &s->sink));
	result = scheduler__judge(s);
	vllm_batches__free(s->batches);
	vllm_held__free(s->held);
	vllm_requests__free(s->table);
	free(s);
	return result;
}

#endif
