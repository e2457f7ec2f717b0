/* SPDX-License-Identifier: BSD-2-Clause */
/* What one computation shows of its router. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "probe/engine/aten/shown.h"

/* Among most experts, of these the larger choice; at equal distances. */
static void test_the_widest_counts(void **state)
{
	struct aten_shown s = { 0 };

	aten_shown__add(&s, 8, 4, 0, 5);
	assert_int_equal(aten_shown__layer(&s, 0), 0);
	aten_shown__add(&s, 64, 6, 1, 5);
	aten_shown__add(&s, 8, 4, 2, 5);
	aten_shown__add(&s, 64, 2, 2, 5);
	aten_shown__add(&s, 64, 6, 5, 7); /* that at 3 was lost */
	assert_int_equal(s.stride, 4);
	aten_shown__add(&s, 64, 6, 7, 5);
	aten_shown__add(&s, 64, 6, 7, 5); /* twice */
	assert_int_equal(s.experts, 64);
	assert_int_equal(s.k, 6);
	assert_int_equal(s.first, 1);
	assert_int_equal(s.stride, 2);
	assert_int_equal(s.results, 3);
	assert_int_equal(s.rows, 17);
	assert_int_equal(aten_shown__layer(&s, 0), UINT32_MAX);
	assert_int_equal(aten_shown__layer(&s, 1), 0);
	assert_int_equal(aten_shown__layer(&s, 2), UINT32_MAX);
	assert_int_equal(aten_shown__layer(&s, 5), 2);
	assert_int_equal(aten_shown__layer(&s, 9), 4);
}

static void test_agreement(void **state)
{
	struct aten_shown a = { 0 }, b = { 0 };

	assert_false(aten_shown__agree(&a, &b)); /* nothing was shown */
	aten_shown__add(&a, 64, 6, 0, 5);
	aten_shown__add(&b, 64, 6, 0, 1);
	assert_true(aten_shown__agree(&a, &b));
	aten_shown__add(&a, 64, 6, 1, 5);
	assert_false(aten_shown__agree(&a, &b));
	aten_shown__add(&b, 64, 6, 1, 5);
	aten_shown__add(&b, 64, 6, 2, 5);
	assert_true(aten_shown__agree(&a, &b)); /* of more layers */
	b.first = 1;
	assert_false(aten_shown__agree(&a, &b));
	b = a;
	b.k = 5;
	assert_false(aten_shown__agree(&a, &b));
	b = a;
	b.experts = 65;
	assert_false(aten_shown__agree(&a, &b));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_widest_counts),
		cmocka_unit_test(test_agreement),
	};

	return cmocka_run_group_tests_name("aten: shown", tests, NULL, NULL);
}
