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

static struct scheduler_result run_all(uint32_t alphabet)
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
		one = scheduler__run(bytes, sizeof(bytes), alphabet);
		all.rows += one.rows;
		all.inferred += one.inferred;
		all.nameless += one.nameless;
		all.wrong += one.wrong;
	}
	print_message("%u tokens: %u rows; of requests that were said to be inferred %u, of none "
		      "%u; wrong and not said to be inferred %u\n",
		      alphabet, all.rows, all.inferred, all.nameless, all.wrong);
	return all;
}

static void by_chance(void **state)
{
	struct scheduler_result few = run_all(2), many = run_all(64);

	assert_int_equal(many.wrong, 0);
	/* Of two tokens, guesses upon guesses may all seem to fit: as good as never. */
	assert_true(few.wrong < few.rows / 10000);
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
