/* SPDX-License-Identifier: BSD-2-Clause */
#include "collector/unlinker.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "collector/child.h"
#include "probe/attach/link.h"

static void *close_links(void *links)
{
	uprobe_links__close(links);
	return NULL;
}

/* Side by side: the kernel waits for each link apart. */
static void close_all(struct uprobe_links **link, size_t count)
{
	pthread_t *thread = calloc(count, sizeof(*thread));

	for (size_t i = 0; i < count; i++) {
		if (!link[i] || !thread || pthread_create(&thread[i], NULL, close_links, link[i]))
			uprobe_links__close(link[i]);
		else
			continue;
		link[i] = NULL;
	}
	for (size_t i = 0; i < count && thread; i++)
		if (link[i])
			pthread_join(thread[i], NULL);
	free(thread);
}

/* In the child: what it inherited besides the links would tell others that we still live. */
static void let_go(const struct unlinker_options *o)
{
	prctl(PR_SET_NAME, "moeprobe-unlink");
	child__leave();
	signal(SIGTERM, SIG_IGN);
	signal(SIGALRM, SIG_IGN);
	o->let_go(o->ctx);
}

/* Until the child @pid ends, at most @wait_ms. */
static void wait_for(pid_t pid, int wait_ms)
{
	struct pollfd p = { .fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN };
	int ended;

	if (p.fd < 0)
		return;
	do
		ended = poll(&p, 1, wait_ms);
	while (ended < 0 && errno == EINTR);
	close(p.fd);
	if (ended > 0)
		waitpid(pid, NULL, 0);
}

void unlinker__run(struct uprobe_links **link, size_t count, const struct unlinker_options *o)
{
	int go[2];
	char byte;
	pid_t pid;

	if (pipe2(go, O_CLOEXEC)) {
		close_all(link, count);
		return;
	}
	pid = fork();
	if (!pid) {
		close(go[1]);
		let_go(o);
		/* Until its parent has closed its own, which are not the last ones then. */
		while (read(go[0], &byte, 1) < 0 && errno == EINTR)
			;
		close_all(link, count);
		_exit(0);
	}
	close(go[0]);
	for (size_t i = 0; i < count; i++) {
		uprobe_links__close(link[i]);
		link[i] = NULL;
	}
	close(go[1]);
	if (pid > 0)
		wait_for(pid, o->wait_ms);
}
