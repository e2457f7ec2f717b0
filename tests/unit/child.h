/* SPDX-License-Identifier: BSD-2-Clause */
/* Child processes for tests to look at. Include cmocka.h first. */
#ifndef MP_TESTS_UNIT_CHILD_H
#define MP_TESTS_UNIT_CHILD_H

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static inline void need_root(void)
{
	if (geteuid() == 0)
		return;
	print_message("SKIP: needs root\n");
	skip();
}

/* Forget no child: a test that fails leaves its function early. */
static inline pid_t fork_mortal(void)
{
	pid_t pid = fork();

	if (!pid)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return pid;
}

/* A child that runs @body and then waits to be killed; returns when it has come so far. */
static inline pid_t spawn(void (*body)(void))
{
	int ends[2];
	char byte;
	pid_t pid;

	assert_int_equal(pipe(ends), 0);
	pid = fork_mortal();
	assert_true(pid >= 0);
	if (!pid) {
		if (body)
			body();
		if (write(ends[1], "", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(ends[1]);
	assert_int_equal(read(ends[0], &byte, 1), 1);
	close(ends[0]);
	return pid;
}

static inline void end(pid_t pid)
{
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

#endif
