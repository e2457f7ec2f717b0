/* SPDX-License-Identifier: BSD-2-Clause */
/* The collector's command line: what is wrong is named, and help is printed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "collector/collector_options.h"
#include "probe/base/error.h"

static int parse(struct error *e, const char *first, const char *second)
{
	char *argv[] = { "moeprobe-collector", (char *)(uintptr_t)first, (char *)(uintptr_t)second,
			 NULL };
	struct collector_options o;

	memset(e, 0, sizeof(*e));
	return collector_options__parse(&o, first ? second ? 3 : 2 : 1, argv, e);
}

static void test_unknown_is_named(void **state)
{
	struct error e;

	assert_true(parse(&e, "--bogus", NULL) < 0);
	assert_int_equal(e.exit, EXIT_USAGE);
	assert_non_null(strstr(e.what, "'--bogus'"));
	assert_true(parse(&e, "-x", "5") < 0);
	assert_non_null(strstr(e.what, "'-x'"));
	assert_true(parse(&e, "--ring", NULL) < 0);
	assert_non_null(strstr(e.what, "'--ring'"));
	assert_int_equal(parse(&e, "5", NULL), 0);
}

static void test_no_process(void **state)
{
	struct error e;

	assert_true(parse(&e, NULL, NULL) < 0);
	assert_int_equal(e.exit, EXIT_USAGE);
	assert_non_null(strstr(e.remedy, "moeprobe attach"));
}

static void test_headers(void **state)
{
	static const char *const bad[] = { "", "a b", "a:" };
	struct error e;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		assert_true(parse(&e, "--header", bad[i]) < 0);
		assert_int_equal(e.exit, EXIT_USAGE);
		assert_non_null(strstr(e.what, bad[i]));
	}
	for (int count = HEADER_NAMES_MAX; count <= HEADER_NAMES_MAX + 1; count++) {
		char *argv[16] = { "moeprobe-collector", "5" },
		     name[5][2] = { "a", "b", "c", "D", "e" };
		struct collector_options o;
		int argc = 2;

		for (int i = 0; i < count; i++) {
			argv[argc++] = "--header";
			argv[argc++] = name[i];
		}
		memset(&e, 0, sizeof(e));
		assert_int_equal(collector_options__parse(&o, argc, argv, &e) == 0,
				 count == HEADER_NAMES_MAX);
		assert_int_equal(o.headers.count, HEADER_NAMES_MAX);
		assert_string_equal(o.headers.name[3], "d");
	}
}

static void test_help_is_printed(void **state)
{
	char text[4096];
	int ends[2], out = dup(STDOUT_FILENO);
	struct error e;
	ssize_t n;

	assert_int_equal(pipe(ends), 0);
	fflush(stdout);
	dup2(ends[1], STDOUT_FILENO);
	close(ends[1]);
	n = parse(&e, "--help", NULL);
	fflush(stdout);
	dup2(out, STDOUT_FILENO);
	close(out);
	assert_int_equal(n, 1);
	n = read(ends[0], text, sizeof(text) - 1);
	close(ends[0]);
	assert_true(n > 0);
	text[n] = '\0';
	assert_non_null(strstr(text, "Usage: moeprobe-collector"));
	assert_non_null(strstr(text, "--raw-log"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_unknown_is_named),
		cmocka_unit_test(test_no_process),
		cmocka_unit_test(test_headers),
		cmocka_unit_test(test_help_is_printed),
	};

	return cmocka_run_group_tests_name("collector options", tests, NULL, NULL);
}
