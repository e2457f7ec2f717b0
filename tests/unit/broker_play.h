/* SPDX-License-Identifier: BSD-2-Clause */
/* Families of processes to ask a broker about, for its tests. */
#ifndef MP_TESTS_BROKER_PLAY_H
#define MP_TESTS_BROKER_PLAY_H

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "collector/broker.h"
#include "collector/broker_protocol.h"
#include "probe/base/error.h"
#include "probe/target/opener.h"

/* A process that waits, with a child that waits. */
struct family {
	pid_t parent, child;
};

static inline void wait_for_ever(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;)
		pause();
}

/* The child becomes user @uid. */
static inline struct family start_family_of(uid_t uid)
{
	struct family f;
	int ends[2];

	assert_int_equal(pipe(ends), 0);
	f.parent = fork();
	assert_true(f.parent >= 0);
	if (!f.parent) {
		if (fork())
			wait_for_ever();
		f.child = getpid();
		if ((uid != geteuid() && setresuid(uid, uid, uid)) ||
		    write(ends[1], &f.child, sizeof(f.child)) < 0)
			_exit(1);
		wait_for_ever();
	}
	assert_int_equal(read(ends[0], &f.child, sizeof(f.child)), sizeof(f.child));
	close(ends[0]);
	close(ends[1]);
	return f;
}

static inline struct family start_family(void)
{
	return start_family_of(geteuid());
}

static inline void end_family(struct family *f)
{
	kill(f->child, SIGKILL);
	kill(f->parent, SIGKILL);
	waitpid(f->parent, NULL, 0);
}

static inline struct broker *start_broker(pid_t pid, bool any_pid)
{
	struct broker_options o = { .pid = pid, .any_pid = any_pid };
	struct error e = { 0 };
	struct broker *b;

	assert_int_equal(broker__new(&b, &o, &e), 0);
	return b;
}

/* The answer's result; descriptors are closed. */
static inline int ask(struct broker *b, const struct broker_request *r)
{
	struct broker_response response;
	int fds[BROKER_FDS_MAX];
	unsigned count = broker__answer(b, r, &response, fds);

	assert_true(!response.result || !count);
	while (count)
		close(fds[--count]);
	return response.result;
}

static inline int open_stat(struct broker *b, pid_t pid)
{
	struct broker_request r = { .operation = BROKER_OPEN_PROC, .pid = pid, .file = PROC_STAT };

	return ask(b, &r);
}

/* Only with rights: else everything is ended and the test skipped. */
static inline void load_or_skip(struct broker *b, struct family *f)
{
	struct broker_request r = { .operation = BROKER_LOAD, .ring_bytes = BROKER_RING_MIN };
	struct broker_response response;
	int fds[BROKER_FDS_MAX];
	unsigned count = broker__answer(b, &r, &response, fds);

	if (!count) {
		end_family(f);
		broker__free(b);
		print_message("skipped: %s\n", response.error.what);
		skip();
	}
	assert_int_equal(count, BROKER_FDS_MAX);
	while (count)
		close(fds[--count]);
	assert_int_equal(ask(b, &r), -EBUSY);
}

#endif
