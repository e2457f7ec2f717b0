/* SPDX-License-Identifier: BSD-2-Clause */
#include "analyzer/interrupt.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <time.h>

static const int caught[] = { SIGINT, SIGTERM, SIGHUP };
#define CAUGHT (sizeof(caught) / sizeof(*caught))

static volatile sig_atomic_t count;
static volatile sig_atomic_t seen; /* by the last poll */

static void on_signal(int number)
{
	count++;
}

void interrupt__catch(void)
{
	struct sigaction action = { .sa_handler = on_signal };

	for (size_t i = 0; i < CAUGHT; i++)
		sigaction(caught[i], &action, NULL);
	action.sa_handler = SIG_IGN;
	sigaction(SIGPIPE, &action, NULL);
}

int interrupt__count(void)
{
	return count;
}

int interrupt__poll(struct pollfd *p, nfds_t n, int timeout_ms)
{
	struct timespec t = { timeout_ms / 1000, (timeout_ms % 1000) * 1000000L };
	sigset_t block, before;
	int got = -1;

	/* Signals are let in only while we wait, so none can slip in between check and wait. */
	sigemptyset(&block);
	for (size_t i = 0; i < CAUGHT; i++)
		sigaddset(&block, caught[i]);
	sigprocmask(SIG_BLOCK, &block, &before);
	if (seen == count)
		got = ppoll(p, n, timeout_ms < 0 ? NULL : &t, &before);
	seen = count;
	sigprocmask(SIG_SETMASK, &before, NULL);
	return got;
}
