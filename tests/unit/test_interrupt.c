/* SPDX-License-Identifier: BSD-2-Clause */
/* Which signals count, and that a counted one ends a wait. In children: dispositions stay. */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "analyzer/interrupt.h"
#include "tests/unit/child.h"

static const int stops[] = { SIGINT, SIGTERM, SIGHUP };
#define STOPS (sizeof(stops) / sizeof(*stops))

/* With @ignored (0: none) ignored by whoever started us, each is sent once. SIGINT counts all the
 * same: a script's background jobs have it ignored. */
static int count_with(int ignored)
{
	for (size_t i = 0; i < STOPS; i++)
		signal(stops[i], stops[i] == ignored ? SIG_IGN : SIG_DFL);
	interrupt__catch();
	if (ignored && ignored != SIGINT &&
	    (raise(ignored) || interrupt__count() || interrupt__poll(NULL, 0, 1)))
		return -1;
	for (size_t i = 0; i < STOPS; i++)
		raise(stops[i]);
	if (interrupt__poll(NULL, 0, 10000) != -1) /* one came just before: no wait */
		return -1;
	return interrupt__count();
}

static void test_ignored_stay_ignored(void **state)
{
	static const int ignored[] = { 0, SIGINT, SIGTERM, SIGHUP };

	for (size_t i = 0; i < sizeof(ignored) / sizeof(*ignored); i++) {
		pid_t pid = fork_mortal();
		int status;

		assert_true(pid >= 0);
		if (!pid)
			_exit(count_with(ignored[i]));
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status),
				 ignored[i] && ignored[i] != SIGINT ? STOPS - 1 : STOPS);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ignored_stay_ignored),
	};

	return cmocka_run_group_tests_name("interrupt", tests, NULL, NULL);
}
