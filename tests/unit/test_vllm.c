/* SPDX-License-Identifier: BSD-2-Clause */
/* vLLM's processes by their titles, and whose rows these are: messages and steps of our own making.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "probe/engine/sink.h"
#include "probe/engine/vllm/batches.h"
#include "probe/engine/vllm/held.h"
#include "probe/engine/vllm/requests.h"
#include "probe/engine/vllm/role.h"
#include "probe/engine/vllm/stages.h"
#include "probe/target/model_config.h"

#define BLOCK 4 /* slots of a block of the cache */
#define ROWS_MAX 32
#define STEPS_MAX 16

static struct vllm_role role(const char *title)
{
	return vllm_role__of(title, strlen(title) + 1);
}

static void roles(void **state)
{
	struct vllm_role r = role("VLLM::Worker_DP3_PP1_TP12_EP4");

	assert_int_equal(r.part, VLLM_WORKER);
	assert_int_equal(r.data, 3);
	assert_int_equal(r.pipeline, 1);
	assert_int_equal(r.tensor, 12);
	assert_int_equal(r.expert, 4);
	r = role("VLLM::Worker");
	assert_int_equal(r.part, VLLM_WORKER);
	assert_int_equal(r.tensor, ENGINE_UNKNOWN);
	r = role("VLLM::EngineCore_DP0");
	assert_int_equal(r.part, VLLM_CORE);
	assert_int_equal(r.data, 0);
	assert_string_equal(vllm_role__name(&r), "engine core");
	assert_int_equal(role("/usr/bin/python3").part, VLLM_SERVER);
	assert_int_equal(role("VLLM::Worker_TP").tensor, ENGINE_UNKNOWN);
	assert_int_equal(role("VLLM::Worker_TP99999999999").tensor, ENGINE_UNKNOWN);
	assert_int_equal(vllm_role__of("", 0).part, VLLM_SERVER);
	assert_int_equal(vllm_role__of("VLLM::Worker", 8).part, VLLM_SERVER); /* cut */
}

/* What get_pp_indices of vLLM 0.32 gives; the first @dense layers have no router. */
static void stages(void **state)
{
	static const struct {
		uint32_t blocks, stages, dense, first[4], count[4];
	} cases[] = {
		{ 4, 2, 0, { 0, 2 }, { 2, 2 } },
		{ 5, 2, 0, { 0, 3 }, { 3, 2 } },
		{ 4, 4, 0, { 0, 1, 2, 3 }, { 1, 1, 1, 1 } },
		{ 6, 4, 0, { 0, 1, 3, 5 }, { 1, 2, 2, 1 } },
		{ 27, 4, 1, { 1, 7, 14, 21 }, { 6, 7, 7, 6 } },
		{ 4, 2, 3, { 0, 3 }, { 0, 1 } },
		{ MODEL_UNKNOWN, 2, 0, { 0, 0 }, { 8, 8 } },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct model_config c = { .blocks = cases[i].blocks };
		uint32_t blocks = c.blocks == MODEL_UNKNOWN ? 8 : c.blocks;

		for (uint32_t n = cases[i].dense; n < blocks; n++)
			c.layer_ids[c.moe_layers++] = (uint16_t)n;
		for (uint32_t stage = 0; stage < cases[i].stages; stage++) {
			uint16_t to[32];
			uint32_t count = vllm_stage__layers(to, &c, cases[i].stages, stage);

			assert_int_equal(count, cases[i].count[stage]);
			for (uint32_t n = 0; n < count; n++)
				assert_int_equal(to[n], cases[i].first[stage] + n);
		}
	}
}

/* --- what is said --------------------------------------------------------------------------------
 */

struct heard {
	struct engine_request begin[16];
	char client_id[16][128];
	struct engine_request_end end[16];
	struct engine_bind bind[16];
	size_t begins, ends, binds, infos, invalid, steps;
	struct said {
		struct engine_row row[ROWS_MAX];
		uint32_t rows;
		size_t begins; /* said before it */
	} step[STEPS_MAX];
	struct engine_row *row; /* of the last one, and */
	uint32_t context;
	uint64_t batch;
};

static int on_begin(void *ctx, const struct engine_request *r)
{
	struct heard *h = ctx;

	strcpy(h->client_id[h->begins], r->client_id);
	h->begin[h->begins++] = *r;
	return 0;
}

static int on_end(void *ctx, const struct engine_request_end *r)
{
	struct heard *h = ctx;

	h->end[h->ends++] = *r;
	return 0;
}

static int on_bind(void *ctx, const struct engine_bind *b)
{
	struct heard *h = ctx;

	h->bind[h->binds++] = *b;
	return 0;
}

static int on_info(void *ctx, const struct engine_request_info *i)
{
	((struct heard *)ctx)->infos += !i->inferred;
	return 0;
}

static int on_step(void *ctx, const struct engine_step *s)
{
	struct heard *h = ctx;
	struct said *to = &h->step[h->steps++];

	assert_in_range(h->steps, 1, STEPS_MAX);
	memcpy(to->row, s->row, s->rows * sizeof(*h->row));
	to->rows = s->rows;
	to->begins = h->begins;
	h->row = to->row;
	h->context = s->context;
	h->batch = s->batch;
	return 0;
}

static int on_invalid(void *ctx, uint32_t cause, uint64_t count)
{
	((struct heard *)ctx)->invalid++;
	return 0;
}

/* --- a service of our own
 * ------------------------------------------------------------------------- */

struct play {
	struct vllm_requests *requests;
	struct vllm_held *held;
	struct vllm_batches *batches;
	struct aten_context context, later; /* the other stage of a pipeline */
	struct heard heard;
	struct engine_sink heard_by, sink;
	int64_t column[4][ROWS_MAX + 1]; /* token, position, slot, start */
	uint32_t rows, runs;
	uint64_t now_ns;
};

static void play__begin(struct play *p)
{
	memset(p, 0, sizeof(*p));
	assert_int_equal(vllm_requests__new(&p->requests), 0);
	assert_int_equal(vllm_held__new(&p->held), 0);
	assert_int_equal(vllm_batches__new(&p->batches, p->requests, p->held), 0);
	p->context.id = 1;
	p->later.id = 2;
	p->heard_by = (struct engine_sink){ .request_begin = on_begin,
					    .request_end = on_end,
					    .bind = on_bind,
					    .request_info = on_info,
					    .step = on_step,
					    .invalid = on_invalid,
					    .ctx = &p->heard };
	p->sink = vllm_held__sink(p->held, &p->heard_by);
}

static void play__end(struct play *p)
{
	vllm_batches__free(p->batches);
	vllm_held__free(p->held);
	vllm_requests__free(p->requests);
}

static struct vllm_text text(const char *s)
{
	return (struct vllm_text){ s, (uint32_t)strlen(s) };
}

/* Tokens below 128: one byte each in MessagePack. */
static struct vllm_tokens tokens(const char *t)
{
	return (struct vllm_tokens){ (uint32_t)strlen(t), false, msgpack__over(t, strlen(t), 0) };
}

static void ask(struct play *p, const char *id, const char *external, const char *prompt)
{
	struct vllm_request r = { .id = text(id),
				  .external = text(external),
				  .prompt = tokens(prompt),
				  .is_whole = true };

	assert_int_equal(vllm_requests__asked(p->requests, ++p->now_ns, &r, &p->sink), 0);
}

static void give(struct play *p, const char *id, const char *generated, enum vllm_finish finish)
{
	struct vllm_output o = {
		.id = text(id), .tokens = tokens(generated), .finish = finish, .is_whole = true
	};

	assert_int_equal(vllm_requests__output(p->requests, ++p->now_ns, &o, &p->sink), 0);
}

/* Rows of one request in the next step: @t at @position on, in cache slots from @slot on. */
static void run(struct play *p, const char *t, uint32_t position, int64_t slot)
{
	for (uint32_t i = 0; t[i]; i++, p->rows++) {
		p->column[0][p->rows] = t[i];
		p->column[1][p->rows] = position + i;
		p->column[2][p->rows] = slot + i;
	}
	p->column[3][++p->runs] = p->rows;
}

static void step_of(struct play *p, struct aten_context *c, struct aten_context *home)
{
	struct aten_step s = {
		.begin_ns = ++p->now_ns,
		.end_ns = ++p->now_ns,
		.scalar = BLOCK,
		.rows = p->rows,
		.token = { p->rows, p->rows, p->column[0] },
		.position = { p->rows, p->rows, p->column[1] },
		.slot = { p->rows, p->rows, p->column[2] },
		.start = { p->runs + 1, p->runs + 1, p->column[3] },
	};

	assert_int_equal(vllm_batches__step(p->batches, &s, c, home, &p->sink), 0);
	p->rows = p->runs = 0;
}

static void step(struct play *p)
{
	step_of(p, &p->context, NULL);
}

/* The step as @c, a stage of a pipeline, shows it. */
static void stage(struct play *p, struct aten_context *c)
{
	step_of(p, c, &p->context);
}

static const char *name_of(const struct play *p, uint32_t request)
{
	for (size_t n = 0; n < p->heard.begins; n++)
		if (p->heard.begin[n].request == request)
			return p->heard.client_id[n];
	return "";
}

/* The request of row @i of step @number, by the client's id: said to begin before that. */
static const char *owner_in(const struct play *p, size_t number, uint32_t i)
{
	const struct said *s = &p->heard.step[number];

	assert_true(number < p->heard.steps && i < s->rows);
	for (size_t n = 0; n < s->begins; n++)
		if (p->heard.begin[n].request == s->row[i].request)
			return p->heard.client_id[n];
	return "";
}

/* Of the last step. */
static const char *owner(const struct play *p, uint32_t i)
{
	assert_true(p->heard.steps > 0);
	return owner_in(p, p->heard.steps - 1, i);
}

static const struct engine_request *begin_of(const struct play *p, const char *client_id)
{
	for (size_t n = 0; n < p->heard.begins; n++)
		if (!strcmp(p->heard.client_id[n], client_id))
			return &p->heard.begin[n];
	fail_msg("%s did not begin", client_id);
	return NULL;
}

static void names(void **state)
{
	static const char *const pairs[][3] = {
		{ "cmpl-a-1-b-0-12345678", "cmpl-a-1-b-0", "cmpl-a-1-b" },
		{ "chatcmpl-x-0-12345678", "chatcmpl-x-0", "chatcmpl-x-0" },
		{ "12_cmpl-y-3-12345678", "12_cmpl-y-3", "cmpl-y" },
		{ "1_chatcmpl-z-12345678", "1_chatcmpl-z", "chatcmpl-z" },
		{ "cmpl--0-12345678", "cmpl--0", "cmpl-" },
		{ "cmpl-0-12345678", "cmpl-0", "cmpl-0" },
		{ "7_-12345678", "7_", "" },
		{ "\n\xff", "\n\xff", "??" },
	};
	struct play p;

	play__begin(&p);
	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		ask(&p, pairs[i][0], pairs[i][1], "a");
		give(&p, pairs[i][0], "b", VLLM_LENGTH);
		assert_string_equal(p.heard.client_id[i], pairs[i][2]);
		assert_int_equal(p.heard.end[i].finish, ENGINE_FINISH_LENGTH);
	}
	play__end(&p);
}

static void one_request(void **state)
{
	struct play p;

	play__begin(&p);
	ask(&p, "i", "cmpl-x-0", "abcdef");
	run(&p, "abcd", 0, 8); /* in two pieces */
	step(&p);
	assert_false(p.heard.row[3].output);
	run(&p, "ef", 4, 20);
	step(&p);
	assert_string_equal(owner(&p, 0), "cmpl-x");
	assert_int_equal(p.heard.row[1].phase, ENGINE_PREFILL);
	assert_true(p.heard.row[1].output);
	give(&p, "i", "g", VLLM_RUNNING);
	run(&p, "g", 6, 22);
	step(&p);
	assert_int_equal(p.heard.row[0].phase, ENGINE_DECODE);
	assert_int_equal(p.heard.row[0].sequence, 1);
	give(&p, "i", "h", VLLM_STOP);
	assert_int_equal(p.heard.begins, 1);
	assert_int_equal(p.heard.begin[0].prompt, 6);
	assert_int_equal(p.heard.begin[0].cached, 0);
	assert_int_equal(p.heard.end[0].tokens, 7);
	assert_int_equal(p.heard.end[0].finish, ENGINE_FINISH_STOP);
	play__end(&p);
}

/* Preempted: it comes back at a block's beginning, with what was generated. */
static void preempted(void **state)
{
	struct play p;

	play__begin(&p);
	ask(&p, "i", "cmpl-x-0", "abcde");
	run(&p, "abcde", 0, 0);
	step(&p);
	give(&p, "i", "f", VLLM_RUNNING);
	run(&p, "ef", 4, 40);
	step(&p);
	assert_string_equal(owner(&p, 0), "cmpl-x");
	assert_int_equal(p.heard.row[0].phase, ENGINE_PREFILL);
	assert_true(p.heard.row[1].output);
	assert_int_equal(p.heard.begins, 1);
	assert_int_equal(p.heard.binds, 1); /* a sequence of its own */
	assert_int_equal(p.heard.bind[0].position, 4);
	assert_int_not_equal(p.heard.row[0].sequence, 1);
	play__end(&p);
}

/* Equal beginnings: the first piece says nothing, so it waits until later tokens tell. */
static void equal_beginnings(void **state)
{
	struct play p;

	play__begin(&p);
	ask(&p, "i", "cmpl-x-0", "aaaabb");
	ask(&p, "j", "cmpl-y-0", "aaaacc");
	run(&p, "aaaa", 0, 0);
	step(&p);
	assert_int_equal(p.heard.steps + p.heard.begins, 0);
	run(&p, "cc", 4, 4);
	run(&p, "aaaabb", 0, 16);
	step(&p);
	assert_int_equal(p.heard.steps, 2);
	assert_string_equal(owner_in(&p, 0, 0), "cmpl-y");
	assert_string_equal(owner_in(&p, 1, 0), "cmpl-y");
	assert_string_equal(owner_in(&p, 1, 2), "cmpl-x");
	assert_int_equal(begin_of(&p, "cmpl-y")->sequence, p.heard.step[0].row[0].sequence);
	assert_int_equal(p.heard.binds, 0);
	assert_int_equal(p.heard.begins, 2);
	assert_false(begin_of(&p, "cmpl-x")->inferred);
	assert_false(begin_of(&p, "cmpl-y")->inferred);
	play__end(&p);
}

/* What was taken for the first of a request, and was not, leaves no trace: its prefix is the one
 * that it begins with in truth. */
static void taken_back(void **state)
{
	struct play p;

	play__begin(&p);
	ask(&p, "i", "cmpl-x-0", "aaaaaaaabb");
	ask(&p, "j", "cmpl-y-0", "aaaaaaaacc");
	run(&p, "aaaa", 0, 0);
	step(&p);
	run(&p, "aaaacc", 4, 4);
	step(&p);
	assert_int_equal(p.heard.begins, 1);
	assert_string_equal(owner_in(&p, 0, 0), "cmpl-y");
	assert_string_equal(owner_in(&p, 1, 0), "cmpl-y");
	run(&p, "bb", 8, 20); /* the prefix comes from the cache */
	step(&p);
	assert_string_equal(owner(&p, 0), "cmpl-x");
	assert_int_equal(begin_of(&p, "cmpl-x")->cached, 8);
	assert_int_equal(begin_of(&p, "cmpl-y")->cached, 0);
	assert_int_equal(p.heard.binds, 0);
	play__end(&p);
}

/* Equal prompts: what is generated tells them apart. */
static void twins(void **state)
{
	struct play p;

	play__begin(&p);
	ask(&p, "i", "cmpl-x-0", "ab");
	ask(&p, "j", "cmpl-y-0", "ab");
	run(&p, "ab", 0, 0);
	run(&p, "ab", 0, 8);
	step(&p);
	give(&p, "i", "d", VLLM_RUNNING);
	give(&p, "j", "c", VLLM_RUNNING);
	run(&p, "c", 2, 2);
	run(&p, "d", 2, 10);
	step(&p);
	for (size_t i = 0; i < 2; i++) {
		assert_string_equal(owner_in(&p, i, 0), "cmpl-y");
		assert_string_equal(owner_in(&p, i, i ? 1 : 2), "cmpl-x");
	}
	assert_int_equal(p.heard.binds + p.heard.infos, 0);
	assert_false(begin_of(&p, "cmpl-x")->inferred);
	play__end(&p);
}

/* Nothing tells them apart in time: said as inferred, and corrected when something does. */
static void told_too_late(void **state)
{
	struct play p;

	play__begin(&p);
	ask(&p, "i", "cmpl-x-0", "ab");
	ask(&p, "j", "cmpl-y-0", "ab");
	run(&p, "ab", 0, 0);
	run(&p, "ab", 0, 8);
	step(&p);
	p.now_ns += 3000000000;
	assert_int_equal(vllm_batches__settle(p.batches, p.now_ns, &p.sink), 0);
	assert_int_equal(p.heard.steps, 1);
	assert_string_equal(owner(&p, 0), "cmpl-x");
	assert_true(begin_of(&p, "cmpl-x")->inferred);
	assert_true(begin_of(&p, "cmpl-y")->inferred);
	run(&p, "c", 2, 2);
	run(&p, "d", 2, 10);
	step(&p);
	assert_int_equal(p.heard.steps, 2); /* it was said that these are in doubt */
	give(&p, "i", "d", VLLM_RUNNING);
	give(&p, "j", "c", VLLM_RUNNING);
	p.heard.binds = 0;
	run(&p, "e", 3, 3);
	run(&p, "f", 3, 11);
	step(&p);
	assert_int_equal(p.heard.steps, 3);
	assert_string_equal(owner(&p, 0), "cmpl-y");
	assert_int_equal(p.heard.binds, 2);
	assert_int_equal(p.heard.bind[0].position, 0);
	assert_string_equal(name_of(&p, p.heard.bind[0].request), "cmpl-y");
	assert_int_equal(p.heard.infos, 2);
	play__end(&p);
}

/* A request comes back after a preemption where another one fills a block, which it is not: it has
 * more tokens than that one was ever given. */
static void preempted_beside_a_full_block(void **state)
{
	struct play p;

	play__begin(&p);
	ask(&p, "i", "cmpl-x-0", "abcd");
	ask(&p, "j", "cmpl-y-0", "zzzzabcdefgh");
	run(&p, "zzzzabcdefgh", 0, 0);
	step(&p);
	run(&p, "abcd", 0, 40);
	step(&p);
	run(&p, "abcdefgh", 4, 80); /* its first block was in the cache still */
	run(&p, "q", 4, 60);
	step(&p);
	assert_string_equal(owner(&p, 0), "cmpl-y");
	assert_string_equal(owner(&p, 8), "cmpl-x");
	give(&p, "i", "q", VLLM_RUNNING);
	run(&p, "r", 5, 61);
	step(&p);
	assert_string_equal(owner(&p, 0), "cmpl-x");
	assert_int_equal(p.heard.begins, 2);
	play__end(&p);
}

/* Two fill a block at once and nobody told of their tokens yet: rows may have changed places. */
static void full_blocks_at_once(void **state)
{
	struct play p;

	play__begin(&p);
	ask(&p, "i", "cmpl-x-0", "aaaa");
	ask(&p, "j", "cmpl-y-0", "bbbb");
	run(&p, "aaaa", 0, 0);
	run(&p, "bbbb", 0, 8);
	step(&p);
	assert_int_equal(p.heard.steps, 1);
	run(&p, "d", 4, 20);
	run(&p, "c", 4, 40);
	step(&p);
	assert_int_equal(p.heard.steps, 1);
	give(&p, "i", "c", VLLM_RUNNING);
	give(&p, "j", "d", VLLM_RUNNING);
	run(&p, "e", 5, 21);
	run(&p, "f", 5, 41);
	step(&p);
	assert_int_equal(p.heard.steps, 3);
	for (size_t i = 1; i < 3; i++) {
		assert_string_equal(owner_in(&p, i, 0), "cmpl-y");
		assert_string_equal(owner_in(&p, i, 1), "cmpl-x");
	}
	assert_int_equal(p.heard.begins, 2);
	assert_int_equal(begin_of(&p, "cmpl-x")->cached, 0);
	play__end(&p);
}

/* Messages were lost: what goes on with nothing else goes on with the only one that it can. */
static void untold(void **state)
{
	struct play p;

	play__begin(&p);
	ask(&p, "i", "cmpl-x-0", "a");
	run(&p, "a", 0, 0);
	step(&p);
	for (uint32_t i = 1; i < 8; i++) {
		run(&p, "x", i, i < 4 ? i : 36 + i);
		step(&p);
	}
	assert_int_equal(vllm_batches__settle(p.batches, UINT64_MAX, &p.sink), 0);
	assert_int_equal(p.heard.steps, 8);
	assert_string_equal(owner(&p, 0), "cmpl-x");
	assert_int_equal(p.heard.begins, 1);
	play__end(&p);
}

/* --- pipelines -----------------------------------------------------------------------------------
 */

/* The second stage sees the rows in another order; they are the same requests', counted once. */
static void stages_are_joined(void **state)
{
	struct play p;

	play__begin(&p);
	ask(&p, "i", "cmpl-x-0", "abc");
	ask(&p, "j", "cmpl-y-0", "de");
	run(&p, "abc", 0, 0);
	run(&p, "de", 0, 8);
	stage(&p, &p.context);
	assert_int_equal(p.heard.batch, 1);
	run(&p, "de", 0, 8);
	run(&p, "abc", 0, 0);
	stage(&p, &p.later);
	assert_int_equal(p.heard.batch, 1);
	assert_string_equal(owner(&p, 0), "cmpl-y");
	assert_string_equal(owner(&p, 2), "cmpl-x");
	assert_true(p.heard.row[1].output && p.heard.row[4].output && !p.heard.row[3].output);
	assert_int_equal(p.heard.row[2].sequence, p.heard.begin[0].sequence);
	give(&p, "i", "f", VLLM_RUNNING);
	give(&p, "j", "g", VLLM_RUNNING);
	/* Each on its own: both are under way at once. */
	run(&p, "f", 3, 3);
	stage(&p, &p.context);
	assert_int_equal(p.heard.batch, 2);
	run(&p, "g", 2, 10);
	stage(&p, &p.context);
	assert_int_equal(p.heard.batch, 3);
	run(&p, "f", 3, 3);
	stage(&p, &p.later);
	assert_int_equal(p.heard.batch, 2);
	assert_int_equal(p.heard.row[0].phase, ENGINE_DECODE);
	run(&p, "g", 2, 10);
	stage(&p, &p.later);
	assert_int_equal(p.heard.batch, 3);
	assert_string_equal(owner(&p, 0), "cmpl-y");
	assert_int_equal(p.heard.begins, 2);
	assert_int_equal(p.heard.binds, 0);
	play__end(&p);
}

/* A step that one stage lost shifts nothing in the others. */
static void stages_lose_steps(void **state)
{
	struct play p;

	play__begin(&p);
	ask(&p, "i", "cmpl-x-0", "abc");
	run(&p, "abc", 0, 0);
	stage(&p, &p.later); /* the first stage lost it, or gives it later */
	assert_int_equal(p.heard.batch, 1);
	assert_string_equal(owner(&p, 0), "cmpl-x");
	give(&p, "i", "d", VLLM_RUNNING);
	run(&p, "d", 3, 3);
	stage(&p, &p.context);
	assert_int_equal(p.heard.batch, 2);
	assert_string_equal(owner(&p, 0), "cmpl-x");
	give(&p, "i", "e", VLLM_RUNNING); /* the second lost that one */
	run(&p, "e", 4, 16);
	stage(&p, &p.context);
	run(&p, "e", 4, 16);
	stage(&p, &p.later);
	assert_int_equal(p.heard.batch, 3);
	assert_string_equal(owner(&p, 0), "cmpl-x");
	assert_int_equal(p.heard.begins, 1);
	run(&p, "e", 4, 16); /* once more: another pass */
	stage(&p, &p.later);
	assert_int_equal(p.heard.batch, 4);
	play__end(&p);
}

/* Who is corrected between two stages is so in both, also where both wait. */
static void stages_are_corrected(void **state)
{
	struct play p;

	play__begin(&p);
	ask(&p, "i", "cmpl-x-0", "ab");
	ask(&p, "j", "cmpl-y-0", "ab");
	run(&p, "ab", 0, 0);
	run(&p, "ab", 0, 8);
	stage(&p, &p.context);
	run(&p, "ab", 0, 8);
	run(&p, "ab", 0, 0);
	stage(&p, &p.later);
	assert_int_equal(p.heard.steps, 0);
	give(&p, "i", "d", VLLM_RUNNING);
	give(&p, "j", "c", VLLM_RUNNING);
	run(&p, "c", 2, 2);
	run(&p, "d", 2, 10);
	stage(&p, &p.context);
	run(&p, "d", 2, 10);
	run(&p, "c", 2, 2);
	stage(&p, &p.later);
	assert_int_equal(p.heard.steps, 4);
	assert_string_equal(owner_in(&p, 0, 0), "cmpl-y");
	assert_string_equal(owner_in(&p, 0, 2), "cmpl-x");
	assert_string_equal(owner_in(&p, 1, 0), "cmpl-x");
	assert_string_equal(owner_in(&p, 1, 2), "cmpl-y");
	assert_string_equal(owner_in(&p, 3, 0), "cmpl-x");
	assert_string_equal(owner_in(&p, 3, 1), "cmpl-y");
	assert_int_equal(p.heard.binds, 0);
	assert_false(p.heard.begin[0].inferred || p.heard.begin[1].inferred);
	play__end(&p);
}

static void of_nobody(void **state)
{
	struct play p;

	play__begin(&p);
	run(&p, "a", 7, 7); /* began before we came */
	step(&p);
	assert_true(p.heard.begin[0].before_attach);
	assert_int_equal(p.heard.begin[0].cached, ENGINE_UNKNOWN);
	ask(&p, "i", "cmpl-x-0", "ab");
	vllm_requests__abort(p.requests, ++p.now_ns, text("i"));
	assert_int_equal(vllm_requests__expire(p.requests, p.now_ns + 1, 0, p.now_ns, 0, &p.sink),
			 0);
	assert_int_equal(p.heard.end[0].finish, ENGINE_FINISH_CANCELLED);
	give(&p, "unknown", "a", VLLM_STOP);
	assert_int_equal(vllm_requests__expire(p.requests, 0, UINT64_MAX, p.now_ns, 4, &p.sink), 0);
	assert_int_equal(p.heard.ends, 2);
	play__end(&p);
}

static void contradictions(void **state)
{
	struct play p;

	play__begin(&p);
	run(&p, "ab", 0, 0);
	p.column[1][1] = 5; /* positions with a gap */
	step(&p);
	run(&p, "ab", 0, 0);
	p.column[3][1] = 1; /* a row of none */
	step(&p);
	run(&p, "ab", 0, 0);
	p.column[1][0] = -1;
	step(&p);
	assert_int_equal(p.heard.invalid, 3);
	assert_int_equal(p.heard.begins, 0);
	play__end(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(roles),
		cmocka_unit_test(stages),
		cmocka_unit_test(names),
		cmocka_unit_test(one_request),
		cmocka_unit_test(preempted),
		cmocka_unit_test(equal_beginnings),
		cmocka_unit_test(taken_back),
		cmocka_unit_test(twins),
		cmocka_unit_test(told_too_late),
		cmocka_unit_test(preempted_beside_a_full_block),
		cmocka_unit_test(full_blocks_at_once),
		cmocka_unit_test(untold),
		cmocka_unit_test(of_nobody),
		cmocka_unit_test(stages_are_joined),
		cmocka_unit_test(stages_lose_steps),
		cmocka_unit_test(stages_are_corrected),
		cmocka_unit_test(contradictions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
