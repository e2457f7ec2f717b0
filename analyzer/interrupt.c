/* SPDX-License-Identifier: BSD-2-Clause */
#include "analyzer/interrupt.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <time.h>

static sigset_t caught;

static volatile sig_atomic_t count;
static volatile sig_atomic_t seen; /* by the last poll */

static void on_signal(int number)
{
	count++;
}

void interrupt__catch(void)
{
	static const int wanted[] = { SIGINT, SIGTERM, SIGHUP };
	const struct sigaction action = { .sa_handler = on_signal };
	struct sigaction now;

	sigemptyset(&caught);
	for (size_t i = 0; i < sizeof(wanted) / sizeof(*wanted); i++) {
		/* A shell without job control starts what is to run in the background with SIGINT
		 * ignored, for the keyboard's sake: kill -INT is still meant. */
		if (wanted[i] != SIGINT &&
		    (sigaction(wanted[i], NULL, &now) || now.sa_handler == SIG_IGN))
			continue;
		sigaction(wanted[i], &action, NULL);
		sigaddset(&caught, wanted[i]);
	}
	signal(SIGPIPE, SIG_IGN);
}

int interrupt__count(void)
{
	return count;
}

int interrupt__poll(struct pollfd *p, nfds_t n, int timeout_ms)
{
	struct timespec t = { timeout_ms / 1000, (timeout_ms % 1000) * 1000000L };
	sigset_t before;
	int got = -1;

	/* Signals are let in only while we wait, so none can slip in between check and wait. */
	sigprocmask(SIG_BLOCK, &caught, &before);
	if (seen == count)
		got = ppoll(p, n, timeout_ms < 0 ? NULL : &t, &before);
	seen = count;
	sigprocmask(SIG_SETMASK, &before, NULL);
	return got;
}
