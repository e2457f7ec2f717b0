/* SPDX-License-Identifier: BSD-2-Clause */
/* Which processes of a service are asked, and when, by a clock of our own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "collector/family.h"
#include "probe/base/error.h"

#define MS 1000000ull

static struct family family;

static void update(const pid_t *pid, size_t count, uint64_t now_ns)
{
	struct kin kin[BROKER_KIN_MAX];

	for (size_t i = 0; i < count; i++)
		kin[i] = (struct kin){ pid[i], 1 };
	family__update(&family, kin, count, now_ns);
}

/* Asked in the order of the list; a no is asked again ever more seldom, but only what has changed
 * is news. */
static void test_when(void **state)
{
	static const uint64_t waits[] = { 100, 200, 500, 1000, 2000, 5000, 5000, 5000 };
	uint64_t now = 7 * MS;
	struct relative *r;

	family__free(&family);
	update((pid_t[]){ 10, 11 }, 2, now);
	r = family__due(&family, now);
	assert_int_equal(r->pid, 10);
	r->member = true; /* it takes part */
	r = family__due(&family, now);
	assert_int_equal(r->pid, 11);
	assert_true(relative__ask(r, 1, 5, 20, now));
	for (size_t i = 0; i < sizeof(waits) / sizeof(*waits); i++) {
		assert_null(family__due(&family, now + waits[i] * MS - 1));
		now += waits[i] * MS;
		assert_ptr_equal(family__due(&family, now), r);
		/* Libraries come; that some go is none. */
		assert_int_equal(relative__ask(r, 1, 5,
					       i == 3   ? 21
					       : i == 5 ? 19
					       : i > 5  ? 19
							: 20 + (i > 3),
					       now),
				 i == 3);
		assert_false(relative__is_settled(r, now));
	}
	now += 120000 * MS;
	assert_false(relative__ask(r, 1, 5, 19, now));
	assert_true(relative__is_settled(r, now));
	/* Another program: as if it were new. */
	assert_true(relative__ask(r, 1, 6, 20, now));
	assert_false(relative__is_settled(r, now));
	assert_ptr_equal(family__due(&family, now + 100 * MS), r);
	/* Another process with that number. */
	assert_true(relative__ask(r, 2, 6, 20, now));
}

/* One that maps its libraries after minutes: seen within half a minute, and asked often from then
 * on. */
static void test_grows_late(void **state)
{
	uint64_t now = 600000 * MS;
	struct relative *r;

	family__free(&family);
	update((pid_t[]){ 10 }, 1, 0);
	r = family__due(&family, 0);
	assert_true(relative__ask(r, 1, 5, 20, 0));
	assert_false(relative__is_settled(r, now)); /* not for ten minutes */
	assert_false(relative__ask(r, 1, 5, 20, now));
	for (int i = 0; i < 5; i++) {
		now += 5000 * MS;
		assert_true(relative__is_settled(r, now));
		relative__postpone(r, now); /* the same program */
	}
	now += 5000 * MS;
	assert_ptr_equal(family__due(&family, now), r);
	assert_false(relative__is_settled(r, now));
	assert_true(relative__ask(r, 1, 5, 21, now));
	now += 119999 * MS;
	assert_false(relative__is_settled(r, now));
	assert_false(relative__ask(r, 1, 5, 21, now));
	assert_true(relative__is_settled(r, now + MS));
	assert_true(relative__is_settled(r, now + 29999 * MS));
	assert_false(relative__is_settled(r, now + 30000 * MS));
}

/* One that cannot be looked at is asked again, and then for the first time. */
static void test_postponed(void **state)
{
	struct relative *r;

	family__free(&family);
	update((pid_t[]){ 10 }, 1, 0);
	r = family__due(&family, 0);
	relative__postpone(r, 0);
	assert_null(family__due(&family, 99 * MS));
	assert_ptr_equal(family__due(&family, 100 * MS), r);
	assert_true(relative__ask(r, 1, 5, 20, 100 * MS));
	assert_null(family__due(&family, 299 * MS));
	assert_ptr_equal(family__due(&family, 300 * MS), r);
}

/* Who is not in the list is forgotten, but for members: they may have lost their parent. */
static void test_comings_and_goings(void **state)
{
	struct relative *r;

	family__free(&family);
	update((pid_t[]){ 10, 11, 12 }, 3, 0);
	family__find(&family, 11)->member = true;
	r = family__find(&family, 12);
	r->why = calloc(1, sizeof(*r->why));
	update((pid_t[]){ 10, 13 }, 2, MS);
	assert_int_equal(family.count, 3);
	assert_null(family__find(&family, 12));
	assert_false(family__find(&family, 11)->there);
	assert_true(family__find(&family, 13)->there);
	/* It left; whatever has its number now is nobody's descendant. */
	family__find(&family, 11)->member = false;
	relative__renew(family__find(&family, 11), MS);
	assert_int_equal(family__due(&family, MS)->pid, 10);
	family__find(&family, 10)->next_ns = UINT64_MAX;
	assert_int_equal(family__due(&family, MS)->pid, 13);
	update((pid_t[]){ 10 }, 1, 2 * MS);
	assert_int_equal(family.count, 1);
}

/* More processes than are looked at. */
static void test_crowd(void **state)
{
	pid_t pid[BROKER_KIN_MAX];

	family__free(&family);
	for (int turn = 0; turn < 3; turn++) {
		for (size_t i = 0; i < BROKER_KIN_MAX; i++)
			pid[i] = (pid_t)(turn * 100 + (int)i + 1);
		update(pid, BROKER_KIN_MAX, 0);
		assert_int_equal(family.count, BROKER_KIN_MAX);
		for (size_t i = 0; i < BROKER_KIN_MAX; i++)
			family.relative[i].member = turn == 1 && i % 2;
	}
	family__free(&family);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_when),      cmocka_unit_test(test_grows_late),
		cmocka_unit_test(test_postponed), cmocka_unit_test(test_comings_and_goings),
		cmocka_unit_test(test_crowd),
	};

	return cmocka_run_group_tests_name("family", tests, NULL, NULL);
}
