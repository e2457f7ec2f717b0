/* SPDX-License-Identifier: BSD-2-Clause */
#include "analyzer/resolve.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "analyzer/command_line.h"
#include "analyzer/privilege.h"
#include "analyzer/feed.h"
#include "analyzer/spawn.h"
#include "analyzer/view/servers.h"
#include "probe/base/error.h"

#define PIDS_SHOWN 8

/* What the child found, as one write: fixed size, so that there is nothing to parse. */
struct answer {
	uint64_t found;
	uint32_t pid[PIDS_SHOWN];
	int32_t code;                    /* exit code if the list could not be had */
	char obstacle[256], remedy[512]; /* why it may not be whole; "" if it is */
	struct error error;
};

/* In the child. */
static void find(struct answer *a, const struct identity *id, const struct options *o)
{
	struct feed_sink sink = { .take = servers__take };
	struct collector *collector = NULL;
	struct servers *servers = NULL;
	struct error *e = &a->error;
	const char *what, *remedy;
	int err;

	a->code = EXIT_FAILED;
	err = collector__start(&collector, COLLECTOR_LIST, o, e);
	if (!err)
		err = identity__become(id, e);
	if (!err)
		err = servers__new(&servers);
	sink.ctx = servers;
	if (!err) {
		a->code = feed__read_all(collector, -1, "the list of servers", &sink, NULL, e);
		a->found = servers__match(servers, o->name, o->port, a->pid, PIDS_SHOWN);
		if (servers__obstacle(servers, &what, &remedy)) {
			snprintf(a->obstacle, sizeof(a->obstacle), "%s", what);
			snprintf(a->remedy, sizeof(a->remedy), "%s", remedy);
		}
	}
	servers__free(servers);
	collector__free(collector);
}

static int judge(pid_t *out, struct answer *a, const struct options *o, struct error *e)
{
	char wanted[96], pids[PIDS_SHOWN * 12] = "";
	size_t used = 0;

	if (a->code != EXIT_OK && a->code != EXIT_NO_TARGET) {
		a->error.what[sizeof(a->error.what) - 1] = '\0';
		a->error.remedy[sizeof(a->error.remedy) - 1] = '\0';
		*e = a->error;
		error__set(e, (enum exit_code)a->code, ESRCH, NULL,
			   "attach: failed to list the servers");
		return -ESRCH;
	}
	if (o->name)
		snprintf(wanted, sizeof(wanted), "named '%.60s'", o->name);
	else
		snprintf(wanted, sizeof(wanted), "on port %u", o->port);
	a->obstacle[sizeof(a->obstacle) - 1] = '\0';
	a->remedy[sizeof(a->remedy) - 1] = '\0';
	if (!a->found && *a->obstacle)
		return error__set(e, EXIT_PERMISSION, EACCES, a->remedy,
				  "attach: failed to find a server %s: %s", wanted, a->obstacle);
	if (!a->found)
		return error__set(e, EXIT_NO_TARGET, ESRCH,
				  "list the candidates with: moeprobe attach",
				  "attach: failed to find a server %s", wanted);
	if (a->found == 1) {
		*out = (pid_t)a->pid[0];
		return 0;
	}
	for (size_t i = 0; i < a->found && i < PIDS_SHOWN; i++)
		used += (size_t)snprintf(pids + used, sizeof(pids) - used, " %u", a->pid[i]);
	return error__set(e, EXIT_USAGE, EEXIST, "give the PID of one of them",
			  "attach: failed to choose a server %s: there are several:%s", wanted,
			  pids);
}

int resolve__server(pid_t *out, const struct identity *id, const struct options *o, struct error *e)
{
	struct answer a = { .code = EXIT_FAILED };
	ssize_t got = -1;
	int fd[2];
	pid_t child;

	if (pipe(fd))
		return error__set(e, EXIT_FAILED, errno, NULL, "attach: failed to open a pipe: %s",
				  strerror(errno));
	child = fork();
	if (!child) {
		close(fd[0]);
		find(&a, id, o);
		got = write(fd[1], &a, sizeof(a));
		_exit(got == (ssize_t)sizeof(a) ? EXIT_OK : EXIT_FAILED);
	}
	close(fd[1]);
	if (child > 0)
		do
			got = read(fd[0], &a, sizeof(a));
		while (got < 0 && errno == EINTR);
	close(fd[0]);
	while (child > 0 && waitpid(child, NULL, 0) < 0 && errno == EINTR)
		;
	if (got != (ssize_t)sizeof(a))
		return error__set(e, EXIT_FAILED, ESRCH, NULL,
				  "attach: failed to list the servers");
	return judge(out, &a, o, e);
}
