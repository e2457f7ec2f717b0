/* SPDX-License-Identifier: BSD-2-Clause */
/* Slots become requests (requests), requests get their client and prompt (learn). */
#include "tests/unit/llama_play.h"

static int32_t *prompt_of(uint32_t n)
{
	static int32_t token[64];

	for (uint32_t i = 0; i < 64; i++)
		token[i] = 100 + (int32_t)i;
	assert_true(n <= 64);
	return token;
}

/* Queue task @task with a prompt of @n tokens, as the kernel says it while it is learning. */
static void queue_prompt(struct play *p, int32_t task, const char *client_id, uint32_t n)
{
	struct queued q = queued_task(p, task, client_id);

	play__queue(p, q);
	play__tokens(p, q, 368, (int32_t[]){ 1, 2, 3 }, 3);
	play__tokens(p, q, 2088, prompt_of(n), n);
}

/* The same once the layout is known. */
static void queue_known(struct play *p, int32_t task, const char *client_id, uint32_t n)
{
	struct queued q = queued_task(p, task, client_id);

	q.tasks = 1;
	play__queue(p, q);
	play__tokens(p, q, 2088, prompt_of(n), n);
}

static const struct mp_tasks_site *learnt(const struct play *p)
{
	return &p->table[TASKS_SITE].tasks;
}

/* --- slots ------------------------------------------------------------------------------------ */

static void the_cached_prefix_is_the_first_position(void **state)
{
	struct play *p = play__new(true);

	play__launch(p, 1, 5);
	play__prompt_rows(p, 1, 24, 36, true);
	assert_int_equal(p->begin[0].request.cached, 24);
	/* After lost rows the first that we see need not be the first. */
	play__launch(p, 2, 6);
	p->computation++;
	play__prompt_rows(p, 2, 30, 36, true);
	assert_int_equal(p->begin[1].request.cached, ENGINE_UNKNOWN);
	assert_int_equal(p->begin[1].request.task, 6);
	play__free(p);
}

static void a_lost_release_ends_the_request_at_the_next_launch(void **state)
{
	struct play *p = play__new(true);

	play__launch(p, 0, 1);
	play__prompt_rows(p, 0, 0, 4, true);
	play__launch(p, 0, 2);
	assert_int_equal(p->ends, 1);
	assert_int_equal(p->end[0].ending, ENGINE_ENDING_REPLACED);
	assert_int_equal(p->end[0].tokens, ENGINE_UNKNOWN);
	play__prompt_rows(p, 0, 2, 4, true);
	assert_int_equal(p->begins, 2);
	assert_int_equal(p->begin[1].request.task, 2);
	assert_int_equal(p->begin[1].request.epoch, 1);
	assert_int_not_equal(p->begin[1].request.sequence, p->begin[0].request.sequence);
	play__free(p);
}

static void a_lost_launch_makes_an_inferred_request(void **state)
{
	struct play *p = play__new(true);

	play__launch(p, 0, 1);
	play__prompt_rows(p, 0, 0, 4, true);
	play__release(p, 0, 1, 4);
	play__prompt_rows(p, 0, 2, 6, true);
	assert_int_equal(p->begins, 2);
	assert_true(p->begin[1].request.inferred);
	assert_false(p->begin[1].request.before_attach);
	assert_int_equal(p->begin[1].request.task, ENGINE_UNKNOWN);
	assert_int_equal(p->begin[1].request.cached, ENGINE_UNKNOWN);
	assert_int_equal(p->step[1].row[0].phase, ENGINE_PREFILL);
	play__generated(p, 0, 6);
	assert_int_equal(p->step[2].row[0].phase, ENGINE_DECODE);
	assert_int_equal(p->step[2].row[0].request, 2);
	play__free(p);
}

/* Release and launch lost: prompt rows in a slot that was generating. */
static void lost_release_and_launch_are_noticed(void **state)
{
	struct play *p = play__new(true);

	play__launch(p, 0, 1);
	play__prompt_rows(p, 0, 0, 4, true);
	play__generated(p, 0, 4);
	play__prompt_rows(p, 0, 5, 9, true);
	assert_int_equal(p->ends, 1);
	assert_int_equal(p->end[0].ending, ENGINE_ENDING_REPLACED);
	assert_int_equal(p->begins, 2);
	assert_true(p->begin[1].request.inferred);
	/* The release names a task that we never saw in this slot; it ends what is there. */
	play__release(p, 0, 9, 12);
	assert_int_equal(p->ends, 2);
	assert_int_equal(p->end[1].ending, ENGINE_ENDING_RELEASED);
	assert_int_equal(p->end[1].tokens, 12);
	play__free(p);
}

static void a_release_of_another_task_is_not_ours(void **state)
{
	struct play *p = play__new(true);

	play__launch(p, 0, 1);
	play__prompt_rows(p, 0, 0, 4, true);
	play__release(p, 0, 2, 77);
	assert_int_equal(p->ends, 1);
	assert_int_equal(p->end[0].ending, ENGINE_ENDING_REPLACED);
	assert_int_equal(p->end[0].tokens, ENGINE_UNKNOWN);
	play__free(p);
}

static void what_began_before_us_says_so(void **state)
{
	struct play *p = play__new(true);

	play__generated(p, 0, 500);
	play__prompt_rows(p, 1, 20, 24, true);
	play__generated(p, 1, 24);
	assert_int_equal(p->begins, 2);
	for (int i = 0; i < 2; i++) {
		assert_true(p->begin[i].request.before_attach);
		assert_int_equal(p->begin[i].request.task, ENGINE_UNKNOWN);
		assert_int_equal(p->begin[i].request.cached, ENGINE_UNKNOWN);
		assert_int_equal(p->begin[i].request.prompt, ENGINE_UNKNOWN);
		assert_true(p->begin[i].request.begin_ns == UINT64_MAX);
		assert_string_equal(p->begin[i].client_id, "");
	}
	assert_int_equal(p->step[0].row[0].phase, ENGINE_DECODE);
	assert_int_equal(p->step[1].row[3].phase, ENGINE_PREFILL);
	assert_int_equal(p->step[2].row[0].phase, ENGINE_DECODE);
	play__release(p, 0, 3, 510);
	assert_int_equal(p->end[0].request, 1);
	assert_int_equal(p->end[0].tokens, 510);
	play__free(p);
}

/* A server that logs nothing: positions tell where one request ends and the next begins. */
static void without_lines_positions_tell(void **state)
{
	struct play *p = play__new(true);

	play__prompt_rows(p, 0, 0, 4, true); /* began before us for all that we know */
	play__generated(p, 0, 4);
	play__prompt_rows(p, 0, 5, 8, true); /* goes on with a longer prompt */
	play__generated(p, 0, 8);
	play__generated(p, 0, 7); /* the same prompt again: steps back */
	play__generated(p, 0, 8);
	assert_int_equal(p->begins, 3);
	assert_int_equal(p->ends, 2);
	assert_true(p->begin[0].request.before_attach);
	assert_true(p->begin[1].request.inferred && p->begin[2].request.inferred);
	assert_int_equal(p->step[4].row[0].request, 3);
	assert_int_equal(p->step[5].row[0].request, 3);
	play__free(p);
}

static void drafted_rows_that_step_back_are_no_restart(void **state)
{
	struct play *p = play__new(true);
	const struct row drafted[] = { ROW(1, 24, 0, 1), ROW(2, 25, 0, 1), ROW(3, 26, 0, 1) };

	play__generated(p, 0, 23);
	play__rows(p, drafted, 3);
	play__routes(p, 3, 3);
	play__generated(p, 0, 25);
	assert_int_equal(p->begins, 1);
	assert_int_equal(p->step[1].row[2].phase, ENGINE_DECODE);
	play__free(p);
}

static void slots_share_a_step(void **state)
{
	struct play *p = play__new(true);
	const struct row mixed[] = { ROW(7, 10, 0, 1), ROW(100, 0, 3, 0), ROW(101, 1, 3, 0),
				     ROW(9, 44, 1, 1) };

	play__generated(p, 0, 9);
	play__launch(p, 3, 8);
	play__rows(p, mixed, 4);
	play__routes(p, 4, 2);
	assert_int_equal(p->begins, 3);
	assert_int_equal(p->begin[1].request.slot, 3);
	assert_int_equal(p->step[1].row[0].request, 1);
	assert_int_equal(p->step[1].row[1].request, 2);
	assert_int_equal(p->step[1].row[2].request, 2);
	assert_int_equal(p->step[1].row[3].request, 3);
	assert_int_equal(p->step[1].row[1].phase, ENGINE_PREFILL);
	assert_int_equal(p->step[1].row[3].phase, ENGINE_DECODE);
	assert_memory_equal(p->step[1].route_row[2], ((uint32_t[]){ 0, 3 }), 8);
	play__free(p);
}

static void a_request_without_rows_is_said(void **state)
{
	struct play *p = play__new(true);

	play__launch(p, 0, 1);
	play__release(p, 0, 1, 0);
	assert_int_equal(p->begins, 1);
	assert_int_equal(p->begin[0].request.context, 1);
	assert_int_equal(p->begin[0].request.cached, ENGINE_UNKNOWN);
	assert_int_equal(p->ends, 1);
	play__free(p);
}

static void the_server_says_its_own_counts(void **state)
{
	struct play *p = play__new(true);

	play__launch(p, 0, 1);
	play__prompt_rows(p, 0, 0, 4, true);
	play__line_on(p, THREAD, "print_timings", 0, 1,
		      HEAD "prompt eval time = %10.2f ms / %5d tokens (%8.2f ms", 4);
	play__line_on(p, THREAD, "print_timings", 0, 1,
		      HEAD "       eval time = %10.2f ms / %5d tokens (%8.2f ms", 9);
	play__line_on(p, THREAD, "print_timings", 0, 1,
		      HEAD "       total time = %10.2f ms / %5d tokens", 13);
	play__release(p, 0, 1, 4);
	assert_int_equal(p->end[0].prompt_rows, 4);
	assert_int_equal(p->end[0].generated, 9);
	play__free(p);
}

static void strange_lines_change_nothing(void **state)
{
	struct play *p = play__new(true);

	play__launch(p, 0, 1);
	play__prompt_rows(p, 0, 0, 4, true);
	play__line_on(p, THREAD, "release", 0, 1, "slot %s: task %d stop processing", 0);
	play__line_on(p, THREAD, "release", 0, -1, HEAD "stop processing: n_tokens = %d", 0);
	play__line_on(p, THREAD, "launch_slot_with_task", 0, 1, HEAD "sampler chain: %s", 0);
	play__line_on(p, THREAD, "print_timings", 0, 1, HEAD, 0);
	assert_int_equal(p->ends, 0);
	assert_int_equal(p->invalid[ENGINE_INVALID_IDENTITY], 0);
	play__line_on(p, THREAD, "release", 4096, 1, HEAD "stop processing: n_tokens = %d", 0);
	play__line_on(p, THREAD, "release", INT32_MIN, 1, HEAD "stop processing: n_tokens = %d", 0);
	assert_int_equal(p->invalid[ENGINE_INVALID_IDENTITY], 2);
	play__generated(p, 0, 4);
	assert_int_equal(p->begins, 1);
	assert_int_equal(
		engine_llama.finish(p->engine, p->now, ENGINE_ENDING_TARGET_GONE, &p->sink), 0);
	assert_int_equal(p->ends, 1);
	assert_int_equal(p->end[0].ending, ENGINE_ENDING_TARGET_GONE);
	play__free(p);
}

/* --- identity --------------------------------------------------------------------------------- */

static void the_layout_is_learnt_from_the_first_request(void **state)
{
	struct play *p = play__new(true);

	queue_prompt(p, 5, "chatcmpl-one", 20);
	assert_int_equal(learnt(p)->element_size, 0);
	play__launch(p, 0, 5);
	play__prompt_rows(p, 0, 8, 20, true);
	assert_string_equal(p->begin[0].client_id, "chatcmpl-one");
	assert_int_equal(p->begin[0].request.prompt, 20);
	assert_int_equal(p->begin[0].request.cached, 8);
	assert_int_equal(learnt(p)->element_size, 2352);
	assert_int_equal(learnt(p)->text_offset, 1968);
	assert_int_equal(learnt(p)->tokens_offset, 2088);
	play__release(p, 0, 5, 20);

	queue_known(p, 6, "chatcmpl-two", 12);
	play__launch(p, 0, 6);
	play__prompt_rows(p, 0, 11, 12, true);
	assert_string_equal(p->begin[1].client_id, "chatcmpl-two");
	assert_int_equal(p->step[1].row[0].phase, ENGINE_PREFILL);
	play__generated(p, 0, 12);
	assert_int_equal(p->step[2].row[0].phase, ENGINE_DECODE);
	assert_int_equal(p->invalid[ENGINE_INVALID_IDENTITY], 0);
	play__free(p);
}

/* Several texts, a vector that only seems right, too few tokens: nothing to learn from. */
static void doubtful_tasks_teach_nothing(void **state)
{
	struct play *p = play__new(true);
	int32_t longer[30];
	struct queued q;

	q = queued_task(p, 1, "chatcmpl-a");
	q.texts = 2;
	q.span = 4704;
	play__queue(p, q);
	play__tokens(p, q, 2088, prompt_of(20), 20);
	play__launch(p, 0, 1);
	play__prompt_rows(p, 0, 0, 20, true);
	assert_string_equal(p->begin[0].client_id, "chatcmpl-a"); /* the first is its own */
	assert_int_equal(learnt(p)->element_size, 0);
	play__release(p, 0, 1, 20);

	/* Two vectors agree so far and differ: which is the prompt cannot be said. */
	memcpy(longer, prompt_of(30), sizeof(longer));
	q = queued_task(p, 2, "chatcmpl-b");
	play__queue(p, q);
	play__tokens(p, q, 2088, prompt_of(20), 20);
	play__tokens(p, q, 2112, longer, 30);
	play__launch(p, 0, 2);
	play__prompt_rows(p, 0, 0, 12, false);
	assert_int_equal(p->begin[1].request.prompt, ENGINE_UNKNOWN);
	assert_int_equal(learnt(p)->element_size, 0);
	play__release(p, 0, 2, 12);

	/* The row whose logits are asked for tells them apart. */
	q = queued_task(p, 3, "chatcmpl-c");
	play__queue(p, q);
	play__tokens(p, q, 2088, longer, 30);
	play__tokens(p, q, 2112, prompt_of(20), 20);
	play__launch(p, 0, 3);
	play__prompt_rows(p, 0, 0, 20, true);
	assert_int_equal(p->begin[2].request.prompt, 20);
	assert_int_equal(learnt(p)->tokens_offset, 2112);
	play__free(p);
}

static void a_wrong_layout_is_unlearnt(void **state)
{
	struct play *p = play__new(true);
	struct queued q;

	queue_prompt(p, 1, "chatcmpl-one", 20);
	play__launch(p, 0, 1);
	play__prompt_rows(p, 0, 0, 20, true);
	assert_int_equal(learnt(p)->tokens_offset, 2088);
	play__release(p, 0, 1, 20);

	q = queued_task(p, 2, "chatcmpl-two");
	q.tasks = 1;
	play__queue(p, q);
	play__tokens(p, q, 2088, (int32_t[]){ 1, 2, 3, 4 }, 4);
	play__launch(p, 0, 2);
	play__prompt_rows(p, 0, 0, 4, true);
	assert_int_equal(p->invalid[ENGINE_INVALID_IDENTITY], 1);
	assert_string_equal(p->begin[1].client_id, "");
	assert_int_equal(p->begin[1].request.prompt, ENGINE_UNKNOWN);
	assert_int_equal(
		learnt(p)->element_size + learnt(p)->text_offset + learnt(p)->tokens_offset, 0);
	play__release(p, 0, 2, 4);

	queue_prompt(p, 3, "chatcmpl-three", 20);
	play__launch(p, 0, 3);
	play__prompt_rows(p, 0, 0, 20, true);
	assert_string_equal(p->begin[2].client_id, "chatcmpl-three");
	assert_int_equal(learnt(p)->tokens_offset, 2088);
	play__free(p);
}

/* Later rows are held against the prompt too. */
static void a_later_contradiction_is_counted_once(void **state)
{
	struct play *p = play__new(true);

	queue_prompt(p, 1, "chatcmpl-one", 20);
	play__launch(p, 0, 1);
	play__prompt_rows(p, 0, 0, 10, false);
	play__rows(p, (struct row[]){ ROW(1, 10, 0, 0), ROW(1, 11, 0, 0) }, 2);
	play__routes(p, 2, 0);
	assert_int_equal(p->invalid[ENGINE_INVALID_IDENTITY], 1);
	assert_int_equal(learnt(p)->element_size, 0);
	play__free(p);
}

static void children_share_the_parents_identity(void **state)
{
	struct play *p = play__new(true);

	queue_prompt(p, 5, "chatcmpl-one", 20);
	/* Children are launched first, their parent next. */
	play__line_on(p, THREAD, "launch_slot_with_task", 1, 6,
		      HEAD "processing task, is_child = %d\n", 1);
	play__launch(p, 3, 5);
	play__prompt_rows(p, 3, 0, 20, true);
	play__generated(p, 1, 20);
	play__generated(p, 3, 20);
	assert_int_equal(p->begins, 2);
	assert_int_equal(p->begin[1].request.slot, 1);
	assert_int_equal(p->begin[1].request.task, 6);
	assert_string_equal(p->begin[1].client_id, "chatcmpl-one");
	assert_int_equal(p->begin[1].request.prompt, 20);
	assert_int_equal(p->begin[1].request.cached, 20);
	assert_int_equal(p->step[1].row[0].phase, ENGINE_DECODE);
	play__free(p);
}

/* Two servers in one process count their tasks from 0, each in its own queue. */
static void servers_are_told_apart(void **state)
{
	struct play *p = play__new(true);
	struct queued a = queued_task(p, 0, "chatcmpl-a"), b = queued_task(p, 0, "chatcmpl-b");
	int32_t other[20];

	for (int i = 0; i < 20; i++)
		other[i] = 300 + i;
	a.queue = 0xa000;
	b.queue = 0xb000;
	play__queue(p, b);
	play__tokens(p, b, 2088, other, 20);
	play__queue(p, a);
	play__tokens(p, a, 2088, prompt_of(20), 20);
	play__launch(p, 0, 0);
	play__prompt_rows(p, 0, 0, 20, true);
	assert_string_equal(p->begin[0].client_id, "chatcmpl-a");
	play__release(p, 0, 0, 20);
	/* From now on the other queue's tasks are not this thread's. */
	b = queued_task(p, 1, "chatcmpl-b");
	b.queue = 0xb000;
	b.tasks = 1;
	play__queue(p, b);
	play__tokens(p, b, 2088, prompt_of(20), 20);
	play__launch(p, 0, 1);
	play__prompt_rows(p, 0, 0, 20, true);
	assert_string_equal(p->begin[1].client_id, "");
	assert_int_equal(p->invalid[ENGINE_INVALID_IDENTITY], 0);
	play__free(p);
}

static void orders_and_late_tokens_are_nobodys(void **state)
{
	struct play *p = play__new(true);
	struct queued q = queued_task(p, -1, "");

	play__queue(p, q); /* cancel: no request */
	q = queued_task(p, 4, "chatcmpl-four");
	play__tokens(p, q, 2088, prompt_of(20), 20); /* its task was lost */
	play__launch(p, 0, 4);
	play__prompt_rows(p, 0, 0, 20, true);
	assert_string_equal(p->begin[0].client_id, "");
	assert_int_equal(p->begin[0].request.prompt, ENGINE_UNKNOWN);
	assert_int_equal(p->invalid[ENGINE_INVALID_IDENTITY], 0);
	play__free(p);
}

static void a_flood_of_tasks_is_bounded(void **state)
{
	struct play *p = play__new(true);
	static int32_t tokens[15000];
	struct queued q;

	for (int32_t i = 0; i < 15000; i++)
		tokens[i] = i % 900;
	for (int32_t task = 0; task < 3000; task++) {
		q = queued_task(p, task, "chatcmpl-x");
		play__queue(p, q);
		if (task < 600) /* 36 MB of prompts */
			play__tokens(p, q, 2088, tokens, 15000);
	}
	queue_prompt(p, 5000, "chatcmpl-last", 20);
	play__launch(p, 0, 5000);
	play__prompt_rows(p, 0, 0, 20, true);
	assert_string_equal(p->begin[0].client_id, "chatcmpl-last");
	play__free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_cached_prefix_is_the_first_position),
		cmocka_unit_test(a_lost_release_ends_the_request_at_the_next_launch),
		cmocka_unit_test(a_lost_launch_makes_an_inferred_request),
		cmocka_unit_test(lost_release_and_launch_are_noticed),
		cmocka_unit_test(a_release_of_another_task_is_not_ours),
		cmocka_unit_test(what_began_before_us_says_so),
		cmocka_unit_test(without_lines_positions_tell),
		cmocka_unit_test(drafted_rows_that_step_back_are_no_restart),
		cmocka_unit_test(slots_share_a_step),
		cmocka_unit_test(a_request_without_rows_is_said),
		cmocka_unit_test(the_server_says_its_own_counts),
		cmocka_unit_test(strange_lines_change_nothing),
		cmocka_unit_test(the_layout_is_learnt_from_the_first_request),
		cmocka_unit_test(doubtful_tasks_teach_nothing),
		cmocka_unit_test(a_wrong_layout_is_unlearnt),
		cmocka_unit_test(a_later_contradiction_is_counted_once),
		cmocka_unit_test(children_share_the_parents_identity),
		cmocka_unit_test(servers_are_told_apart),
		cmocka_unit_test(orders_and_late_tokens_are_nobodys),
		cmocka_unit_test(a_flood_of_tasks_is_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
