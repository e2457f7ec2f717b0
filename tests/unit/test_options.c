/* SPDX-License-Identifier: BSD-2-Clause */
/* The command line: values, what is refused, and that nothing exits below main. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "analyzer/command_line.h"
#include "collector/broker_protocol.h"

static const struct options_spec spec = {
	.program = "moeprobe test",
	.usage = "PID",
	.help = "Examples:\n  moeprobe test 1\n",
	.operand = OPERAND_PID,
	.operand_required = true,
	.keys = (const int[]){ OPTION_PID, OPTION_NAME, OPTION_PORT, OPTION_DURATION, OPTION_DETAIL,
			       OPTION_MAX_LOSS, OPTION_RING, OPTION_OUTPUT, 0 },
};

/* Send @fd to /dev/null; what is to be undone by give_back(). */
static int silence(FILE *out, int fd)
{
	int kept = dup(fd), null = open("/dev/null", O_WRONLY);

	fflush(out);
	dup2(null, fd);
	close(null);
	return kept;
}

static void give_back(FILE *out, int fd, int kept)
{
	fflush(out);
	dup2(kept, fd);
	close(kept);
}

static int parse(struct options *o, char *a, char *b, char *c)
{
	char *argv[] = { "test", a, b, c, NULL };
	int argc = 1 + (a != NULL) + (b != NULL) + (c != NULL);
	int out = silence(stdout, STDOUT_FILENO), errors = silence(stderr, STDERR_FILENO);
	int err = command_line__parse(&spec, argc, argv, o);

	give_back(stdout, STDOUT_FILENO, out);
	give_back(stderr, STDERR_FILENO, errors);
	return err;
}

static void test_values(void **unused)
{
	uint64_t bytes = 1;
	uint16_t port = 1;
	double value = 1;
	pid_t pid = 1;

	assert_int_equal(parse__pid("1234", &pid), 0);
	assert_int_equal(pid, 1234);
	assert_int_equal(parse__pid("0", &pid), -EINVAL);
	assert_int_equal(parse__pid("-5", &pid), -EINVAL);
	assert_int_equal(parse__pid("12x", &pid), -EINVAL);
	assert_int_equal(parse__pid("4294967297", &pid), -EINVAL);
	assert_int_equal(parse__pid("", &pid), -EINVAL);
	assert_int_equal(pid, 1234);
	assert_int_equal(parse__port("65535", &port), 0);
	assert_int_equal(parse__port("65536", &port), -EINVAL);
	assert_int_equal(port, 65535);
	assert_int_equal(parse__duration("1.5", &value), 0);
	assert_float_equal(value, 1.5, 0);
	assert_int_equal(parse__duration("2m", &value), 0);
	assert_float_equal(value, 120, 0);
	assert_int_equal(parse__duration("0", &value), -EINVAL);
	assert_int_equal(parse__duration("-1", &value), -EINVAL);
	assert_int_equal(parse__duration("nan", &value), -EINVAL);
	assert_int_equal(parse__duration("0x10", &value), -EINVAL);
	assert_int_equal(parse__duration("1e99", &value), -EINVAL);
	assert_int_equal(parse__duration("3d", &value), -EINVAL);
	assert_int_equal(parse__duration("0.0001", &value), -EINVAL);
	assert_int_equal(parse__duration("1e9h", &value), -EINVAL);
	assert_float_equal(value, 120, 0);
	assert_int_equal(parse__duration("0.001", &value), 0);
	assert_int_equal(parse__duration("1e9s", &value), 0);
	assert_int_equal(parse__percent("2.5%", &value), 0);
	assert_float_equal(value, 2.5, 0);
	assert_int_equal(parse__percent("101", &value), -EINVAL);
	assert_int_equal(parse__bytes("64K", &bytes), 0);
	assert_int_equal(bytes, 65536);
	assert_int_equal(parse__bytes("16M", &bytes), 0);
	assert_int_equal(bytes, 16u << 20);
	assert_int_equal(parse__bytes("16MB", &bytes), -EINVAL);
	assert_int_equal(parse__ring("12M", &bytes), -EINVAL);
	assert_int_equal(parse__ring("32K", &bytes), -EINVAL);
	assert_int_equal(parse__ring("32M", &bytes), -EINVAL);
	assert_int_equal(bytes, 16u << 20);
	assert_int_equal(parse__ring("64K", &bytes), 0);
	assert_int_equal(parse__ring("16M", &bytes), 0);
	/* The collector says the same. */
	assert_int_equal(RING_MIN, BROKER_RING_MIN);
	assert_int_equal(RING_MAX, BROKER_RING_MAX);
	assert_int_equal(parse__bytes("99999999999999999999", &bytes), -EINVAL);
}

static void test_a_command_line(void **unused)
{
	struct options o;

	assert_int_equal(parse(&o, "-d", "10", "77"), 0);
	assert_int_equal(o.pid, 77);
	assert_float_equal(o.duration_s, 10, 0);
	assert_int_equal(o.detail, DETAIL_REQUESTS);
	assert_true(o.max_loss_percent < 0);
	assert_false(o.help);
	assert_int_equal(parse(&o, "--detail=routes", "--port", "80"), 0);
	assert_int_equal(o.detail, DETAIL_ROUTES);
	assert_int_equal(o.port, 80);
	assert_int_equal(parse(&o, "--name", "olmoe", "--max-loss=0"), 0);
	assert_string_equal(o.name, "olmoe");
	assert_float_equal(o.max_loss_percent, 0, 0);
	assert_true(o.min_coverage_percent < 0);
}

static void test_refused(void **unused)
{
	struct options o;

	assert_int_equal(parse(&o, NULL, NULL, NULL), -EINVAL); /* which server? */
	assert_int_equal(parse(&o, "12", "13", NULL), -EINVAL);
	assert_int_equal(parse(&o, "12", "--port", "80"), -EINVAL); /* two ways to say it */
	assert_int_equal(parse(&o, "12", "--json", NULL), -EINVAL); /* not this command's */
	assert_int_equal(parse(&o, "12", "--nonsense", NULL), -EINVAL);
	assert_int_equal(parse(&o, "12", "-d", NULL), -EINVAL);
	assert_int_equal(parse(&o, "12", "--detail", "gates"), -EINVAL);
	assert_int_equal(parse(&o, "server", NULL, NULL), -EINVAL);
}

static void test_gates_is_known_but_not_available(void **unused)
{
	enum detail d;

	assert_int_equal(detail__parse(&d, "gates"), -ENOTSUP);
	assert_int_equal(detail__parse(&d, "everything"), -EINVAL);
	assert_int_equal(detail__parse(&d, "tokens"), 0);
	assert_int_equal(d, DETAIL_TOKENS);
}

static void test_help_wins(void **unused)
{
	struct options o;

	assert_int_equal(parse(&o, "--help", NULL, NULL), 0);
	assert_true(o.help);
	assert_int_equal(parse(&o, "-h", NULL, NULL), 0);
	assert_true(o.help);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_a_command_line),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_gates_is_known_but_not_available),
		cmocka_unit_test(test_help_wins),
	};

	return cmocka_run_group_tests_name("options", tests, NULL, NULL);
}
