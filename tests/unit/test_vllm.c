/* SPDX-License-Identifier: BSD-2-Clause */
/* vLLM's processes by their titles, and whose rows these are: messages and steps of our own making.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "probe/engine/vllm/role.h"
#include "tests/unit/vllm_play.h"

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

static void parts(void **state)
{
	static const struct {
		const char *cmdline;
		size_t size;
		bool part;
	} cases[] = {
#define LINE(text, part) { text, sizeof(text), part }
		LINE("VLLM::EngineCore", true),
		LINE("VLLM::ApiServer_1\0\0\0", true),
		LINE("/usr/bin/python3\0/env/bin/vllm\0serve\0model", true),
		LINE("vllm\0serve", true),
		LINE("python\0-O\0-m\0vllm.entrypoints.openai.api_server", true),
		LINE("uv\0run\0vllm\0serve", false),
		LINE("sh\0-c\0vllm serve model", false),
		LINE("python3\0/env/bin/vllm\0bench", false),
		LINE("python3\0my_vllm\0serve", false),
		LINE("python3\0-m\0vllm", false),
		LINE("grep\0VLLM::", false),
		LINE("", false),
#undef LINE
		{ "VLLM:", 5, false },
		{ "vllm\0serv", 9, false },
		{ "vllm", 4, false },
		{ NULL, 0, false },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		assert_int_equal(vllm_role__is_part(cases[i].cmdline, cases[i].size),
				 cases[i].part);
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
	p.computation++; /* a step without it */
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
	give_first(&p, "j", "d", 0);
	give_first(&p, "i", "d", 0);
	run(&p, "d", 6, 6);
	run(&p, "d", 6, 22);
	step(&p);
	assert_int_equal(p.heard.steps, 3);
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
	give_first(&p, "j", "d", 0);
	run(&p, "d", 10, 10);
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
	give_first(&p, "i", "d", 0);
	give_first(&p, "j", "c", 0);
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
	give_first(&p, "i", "d", 0);
	give_first(&p, "j", "c", 0);
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
	give_first(&p, "i", "c", 0);
	give_first(&p, "j", "d", 0);
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
	for (uint32_t i = 1; i < 100; i++) {
		run(&p, "x", i, i + 8 * (i / 4));
		step(&p);
	}
	assert_int_equal(vllm_batches__settle(p.batches, UINT64_MAX, &p.sink), 0);
	assert_int_equal(p.heard.steps, 100);
	assert_string_equal(owner(&p, 0), "cmpl-x");
	assert_int_equal(p.heard.begins, 1);
	play__end(&p);
}

/* What was not captured of one step follows from the one before, within a block: nobody was
 * preempted. */
static void slots_missing(void **state)
{
	struct play p;

	play__begin(&p);
	ask(&p, "i", "cmpl-x-0", "abcde");
	run(&p, "abcde", 0, 8);
	step(&p);
	give(&p, "i", "f", VLLM_RUNNING);
	run(&p, "f", 5, 13);
	p.no_slots = true;
	step(&p);
	give(&p, "i", "g", VLLM_RUNNING);
	run(&p, "g", 6, 14);
	step(&p);
	assert_int_equal(p.heard.steps, 3);
	assert_int_equal(p.heard.row[0].sequence, 1);
	assert_int_equal(p.heard.row[0].phase, ENGINE_DECODE);
	assert_int_equal(p.heard.binds, 0);
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
	assert_int_equal(p.heard.row[0].phase, ENGINE_PHASE_UNKNOWN);
	run(&p, "bcd", 0, 16); /* whose message was lost: nothing tells how long its prompt is */
	step(&p);
	assert_int_equal(p.heard.row[0].phase, ENGINE_PHASE_UNKNOWN);
	assert_int_equal(p.heard.row[2].phase, ENGINE_PHASE_UNKNOWN);
	assert_false(p.heard.begin[1].before_attach);
	ask(&p, "i", "cmpl-x-0", "ab");
	vllm_requests__abort(p.requests, ++p.now_ns, text("i"));
	assert_int_equal(vllm_requests__expire(p.requests, p.now_ns + 1, 0, p.now_ns, 0, &p.sink),
			 0);
	assert_int_equal(p.heard.end[0].finish, ENGINE_FINISH_CANCELLED);
	give(&p, "unknown", "a", VLLM_STOP);
	assert_int_equal(vllm_requests__expire(p.requests, 0, UINT64_MAX, p.now_ns, 4, &p.sink), 0);
	assert_int_equal(p.heard.ends, 3);
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
		cmocka_unit_test(parts),
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
		cmocka_unit_test(slots_missing),
		cmocka_unit_test(of_nobody),
		cmocka_unit_test(contradictions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
