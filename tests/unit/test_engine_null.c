/* SPDX-License-Identifier: BSD-2-Clause */
/* The null engine and the list of engines: every callback, on this very process as the target. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "probe/abi/event.h"
#include "probe/base/buffer.h"
#include "probe/base/error.h"
#include "probe/engine/engine.h"
#include "probe/engine/sink.h"
#include "probe/target/opener.h"
#include "probe/target/target.h"

static int called(void)
{
	fail_msg("the null engine said something");
	return -1;
}

static int on_context(void *ctx, const struct engine_context *c)
{
	return called();
}

static int on_begin(void *ctx, const struct engine_request *r)
{
	return called();
}

static int on_end(void *ctx, const struct engine_request_end *r)
{
	return called();
}

static int on_step(void *ctx, const struct engine_step *s)
{
	return called();
}

static int on_invalid(void *ctx, uint32_t cause, uint64_t count)
{
	return called();
}

static int on_lost(void *ctx, uint32_t cause, uint64_t count, uint64_t rows)
{
	return called();
}

static int on_info(void *ctx, const struct engine_request_info *i)
{
	return called();
}

static int on_bind(void *ctx, const struct engine_bind *b)
{
	return called();
}

static const struct engine_sink mute = { on_context, on_begin, on_end,  on_step, on_invalid,
					 on_lost,    on_info,  on_bind, NULL };

static struct target *self(void)
{
	struct error e = { 0 };
	struct target *t;

	if (target__open(&t, getpid(), &opener_direct, &e))
		fail_msg("%s", e.what);
	return t;
}

static void every_engine_fills_its_table(void **state)
{
	assert_non_null(engines[0]);
	for (size_t i = 0; engines[i]; i++) {
		const struct engine_ops *o = engines[i];

		assert_non_null(o->name);
		assert_non_null(o->looked_for);
		assert_true(o->match && o->open && o->model && o->event && o->failure &&
			    o->finish && o->free);
		assert_true(!o->save == !o->replay);
		assert_true(!o->save_member == !o->load_member);
		assert_true(!o->join || o->leave);
		assert_ptr_equal(engine__by_name(o->name), o);
		for (size_t j = 0; j < i; j++)
			assert_string_not_equal(engines[j]->name, o->name);
		o->free(NULL);
	}
	assert_null(engine__by_name("no such engine"));
}

static void no_engine_runs_here_and_what_was_looked_for_is_said(void **state)
{
	const struct engine_ops *found = engines[0];
	struct error e = { 0 };
	struct target *t = self();

	assert_true(engine__find(&found, t, &e) < 0);
	assert_null(found);
	assert_int_equal(e.exit, EXIT_UNSUPPORTED);
	assert_non_null(strstr(e.what, "no known engine"));
	assert_non_null(strstr(e.what, engines[0]->looked_for));
	target__free(t);
}

static void null_does_nothing(void **state)
{
	const struct engine_ops *null = engine__by_name("null");
	struct mp_event ev = { .kind = MP_EVENT_ROWS, .size = sizeof(ev), .chunks = 1 };
	static struct engine_plan plan;
	struct buffer saved = { 0 };
	struct target *t = self();
	struct engine *g, *again;

	assert_int_equal(null->match(t, NULL), 0);
	plan.sites = 7;
	assert_int_equal(null->open(&g, t, &plan, NULL), 0);
	assert_int_equal(plan.sites, 0);
	assert_int_equal(plan.threads, ENGINE_UNKNOWN);
	assert_null(null->model(g));
	assert_int_equal(null->event(g, &ev, sizeof(ev), &mute), 0);
	assert_int_equal(null->event(g, &ev, 3, &mute), 0);
	assert_int_equal(null->join(g, t, &plan, NULL), 0);
	assert_int_equal(plan.rank_tensor, ENGINE_UNKNOWN);
	assert_int_equal(null->leave(g, getpid(), 1, ENGINE_ENDING_TARGET_GONE, &mute), 0);
	assert_int_equal(null->finish(g, 1, ENGINE_ENDING_CAPTURE_END, &mute), 0);
	assert_false(error__is_set(null->failure(g)));
	assert_int_equal(null->save(g, &saved), 0);
	assert_int_equal(null->replay(&again, saved.data, saved.size, NULL), 0);
	null->free(again);
	null->free(g);
	buffer__free(&saved);
	target__free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_engine_fills_its_table),
		cmocka_unit_test(no_engine_runs_here_and_what_was_looked_for_is_said),
		cmocka_unit_test(null_does_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
