/* SPDX-License-Identifier: BSD-2-Clause */
/* Whose rows these are, against a scheduler that knows: many courses of events by chance. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/vllm_scheduler.h"

#define RUNS 3000
#define BYTES 1200

static struct scheduler_result run_all(uint32_t alphabet, uint32_t late)
{
	struct scheduler_result all = { 0 };
	uint32_t random = 1;

	for (int run = 0; run < RUNS; run++) {
		struct scheduler_result one;
		uint8_t bytes[BYTES];

		for (size_t i = 0; i < sizeof(bytes); i++) {
			random = random * 1664525 + 1013904223;
			bytes[i] = (uint8_t)(random >> 24);
		}
		one = scheduler__run(bytes, sizeof(bytes), alphabet, late);
		all.rows += one.rows;
		all.inferred += one.inferred;
		all.nameless += one.nameless;
		all.wrong += one.wrong;
	}
	print_message("%u tokens, up to %u late: %u rows; of requests that were said to be "
		      "inferred %u, of none "
		      "%u; wrong and not said to be inferred %u\n",
		      alphabet, late, all.rows, all.inferred, all.nameless, all.wrong);
	return all;
}

static void by_chance(void **state)
{
	struct scheduler_result few = run_all(2, 2), many = run_all(64, 2), late = run_all(64, 8);

	/* Guesses upon guesses may all seem to fit: as good as never, though here nearly every
	 * prompt begins alike, and every second step preempts somebody. */
	assert_true(few.wrong < few.rows / 20000);
	assert_true(many.wrong < many.rows / 50000);
	assert_true(late.wrong < late.rows / 10000);
	/* Else nothing was judged. */
	assert_true(many.inferred < many.rows / 2);
	assert_true(many.nameless < many.rows / 50);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(by_chance),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
