/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How the collector ends with us: it keeps its privileges and we do not, so we may not signal it,
 * and the signal that a parent's death sends (PR_SET_PDEATHSIG) would be refused as well. Its
 * standard input is therefore a pipe that we hold the other end of, set up by itself while it is
 * root to send SIGINT when that end closes: when we ask it to stop, and when we die.
 */
#include "analyzer/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "analyzer/command_line.h"
#include "probe/base/error.h"

#define PROGRAM "moeprobe-collector"
#define STREAM_PIPE_BYTES (1 << 20)
#define MESSAGE_MAX 4096 /* bytes of one line; longer ones are cut in pieces */

struct collector {
	pid_t pid; /* 0: none, or waited for */
	int lifeline;
	int stream, messages;
	char text[MESSAGE_MAX];
	size_t used;  /* bytes in text */
	size_t shown; /* of which were handed out already */
};

/* Arguments as text: argv[] points into it. */
struct command_line {
	const char *argv[24];
	int count;
	char duration[32], ring[32], pid[16];
};

static void build_command_line(struct command_line *c, enum collector_task task,
			       const struct options *o)
{
	memset(c, 0, sizeof(*c));
	c->argv[c->count++] = PROGRAM;
	c->argv[c->count++] = "--program";
	c->argv[c->count++] = "moeprobe";
	if (task == COLLECTOR_LIST)
		c->argv[c->count++] = "--list";
	if (task == COLLECTOR_DOCTOR)
		c->argv[c->count++] = "--doctor";
	if (task == COLLECTOR_ATTACH && o->duration_s > 0) {
		snprintf(c->duration, sizeof(c->duration), "%.3f", o->duration_s);
		c->argv[c->count++] = "-d";
		c->argv[c->count++] = c->duration;
	}
	if (task == COLLECTOR_ATTACH && o->ring_bytes) {
		snprintf(c->ring, sizeof(c->ring), "%llu", (unsigned long long)o->ring_bytes);
		c->argv[c->count++] = "--ring";
		c->argv[c->count++] = c->ring;
	}
	for (uint32_t i = 0; i < o->headers.count && task != COLLECTOR_LIST; i++) {
		c->argv[c->count++] = "--header";
		c->argv[c->count++] = o->headers.name[i];
	}
	if (o->user) {
		c->argv[c->count++] = "--user";
		c->argv[c->count++] = o->user;
	}
	if (o->pid && task != COLLECTOR_LIST) {
		snprintf(c->pid, sizeof(c->pid), "%d", (int)o->pid);
		c->argv[c->count++] = c->pid;
	}
}

/* The collector beside our own program, or "" to look in PATH. */
static void find_beside(char *path, size_t size)
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	path[0] = '\0';
	if (n <= 0)
		return;
	self[n] = '\0';
	n = snprintf(path, size, "%s/" PROGRAM, dirname(self));
	if (n < 0 || (size_t)n >= size || access(path, X_OK))
		path[0] = '\0';
}

/* In the child. The signal goes to whoever reads the pipe, by the rights held now. */
static int tie_to_lifeline(int fd)
{
	if (fcntl(fd, F_SETOWN, getpid()) || fcntl(fd, F_SETSIG, SIGINT) ||
	    fcntl(fd, F_SETFL, O_ASYNC | O_NONBLOCK))
		return -errno;
	return dup2(fd, STDIN_FILENO) < 0 ? -errno : 0;
}

/* In the child: becomes the collector, or reports errno through @report and ends. */
static void run_child(const char *path, const struct command_line *line, const int pipes[3],
		      int report, const sigset_t *mask)
{
	int err;

	/* Our own group: Ctrl-C reaches us, and we ask the collector, once. */
	setpgid(0, 0);
	signal(SIGINT, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	signal(SIGPIPE, SIG_DFL);
	sigprocmask(SIG_SETMASK, mask, NULL);
	err = tie_to_lifeline(pipes[0]);
	if (!err && (dup2(pipes[1], STDOUT_FILENO) < 0 || dup2(pipes[2], STDERR_FILENO) < 0))
		err = -errno;
	if (!err && *path)
		execv(path, (char *const *)line->argv);
	else if (!err)
		execvp(PROGRAM, (char *const *)line->argv);
	err = err ? -err : errno;
	if (write(report, &err, sizeof(err)) < 0)
		_exit(EXIT_FAILED);
	_exit(EXIT_FAILED);
}

/* [0] reading and [1] writing end, close-on-exec; above the standard descriptors, which may be
 * closed and must not become pipes. */
static int open_pipe(int fd[2])
{
	int low[2];

	if (pipe2(low, O_CLOEXEC))
		return -errno;
	for (int i = 0; i < 2; i++) {
		fd[i] = fcntl(low[i], F_DUPFD_CLOEXEC, 3);
		close(low[i]);
	}
	return fd[0] < 0 || fd[1] < 0 ? -EMFILE : 0;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* Fork and wait until the program runs. 0 or -errno. */
static int launch(struct collector *c, const struct command_line *line, int ends[3])
{
	int report[2] = { -1, -1 }, err;
	sigset_t all, mask;
	char path[PATH_MAX];
	ssize_t n;

	find_beside(path, sizeof(path));
	err = open_pipe(report);
	if (err)
		goto out;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &mask);
	c->pid = fork();
	if (!c->pid)
		run_child(path, line, ends, report[1], &mask);
	err = c->pid < 0 ? -errno : 0;
	sigprocmask(SIG_SETMASK, &mask, NULL);
	close_fd(&report[1]);
	if (err)
		goto out;
	do
		n = read(report[0], &err, sizeof(err));
	while (n < 0 && errno == EINTR);
	err = n == (ssize_t)sizeof(err) ? -err : 0;
	if (err)
		collector__wait(c, NULL);
out:
	close_fd(&report[0]);
	close_fd(&report[1]);
	return err;
}

int collector__start(struct collector **out, enum collector_task task, const struct options *o,
		     struct error *e)
{
	int lifeline[2] = { -1, -1 }, stream[2] = { -1, -1 }, messages[2] = { -1, -1 };
	struct collector *c = calloc(1, sizeof(*c));
	struct command_line line;
	int err = -ENOMEM;

	*out = NULL;
	if (!c)
		goto out;
	c->lifeline = c->stream = c->messages = -1;
	build_command_line(&line, task, o);
	err = open_pipe(lifeline);
	if (!err)
		err = open_pipe(stream);
	if (!err)
		err = open_pipe(messages);
	if (err)
		goto out;
	fcntl(stream[0], F_SETPIPE_SZ, STREAM_PIPE_BYTES); /* more patience; not needed */
	err = launch(c, &line, (int[3]){ lifeline[0], stream[1], messages[1] });
	if (err)
		goto out;
	c->lifeline = lifeline[1];
	c->stream = stream[0];
	c->messages = messages[0];
	lifeline[1] = stream[0] = messages[0] = -1;
	fcntl(c->stream, F_SETFL, O_NONBLOCK);
	fcntl(c->messages, F_SETFL, O_NONBLOCK);
	*out = c;
	c = NULL;
out:
	for (int i = 0; i < 2; i++) {
		close_fd(&lifeline[i]);
		close_fd(&stream[i]);
		close_fd(&messages[i]);
	}
	free(c);
	if (!err)
		return 0;
	return error__set(e, EXIT_FAILED, -err, "install " PROGRAM " beside moeprobe",
			  "collector: failed to start '" PROGRAM "': %s", strerror(-err));
}

int collector__stream_fd(const struct collector *c)
{
	return c->stream;
}

int collector__message_fd(const struct collector *c)
{
	return c->messages;
}

/* Make the first @n bytes of the text a line that was handed out; @skip more follow it. */
static const char *hand_out(struct collector *c, size_t n, size_t skip)
{
	c->text[n] = '\0';
	c->shown = n + skip;
	return c->text;
}

const char *collector__message(struct collector *c)
{
	const size_t room = sizeof(c->text) - 1;
	char *end;
	ssize_t n;

	memmove(c->text, c->text + c->shown, c->used - c->shown);
	c->used -= c->shown;
	c->shown = 0;
	for (;;) {
		end = memchr(c->text, '\n', c->used);
		if (end)
			return hand_out(c, (size_t)(end - c->text), 1);
		if (c->used == room)
			return hand_out(c, room, 0);
		if (c->messages < 0)
			break;
		n = read(c->messages, c->text + c->used, room - c->used);
		if (n > 0) {
			c->used += (size_t)n;
		} else if (n < 0 && errno == EINTR) {
			continue;
		} else if (n < 0 && errno == EAGAIN) {
			return NULL;
		} else {
			close_fd(&c->messages);
		}
	}
	return c->used ? hand_out(c, c->used, 0) : NULL;
}

void collector__stop(struct collector *c)
{
	close_fd(&c->lifeline);
}

int collector__wait(struct collector *c, struct error *e)
{
	int status;
	pid_t got;

	if (!c->pid)
		return EXIT_OK;
	do
		got = waitpid(c->pid, &status, 0);
	while (got < 0 && errno == EINTR);
	c->pid = 0;
	if (got < 0)
		return EXIT_FAILED;
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	error__set(e, EXIT_FAILED, EINTR, "start it again",
		   "collector: failed to go on: it was ended by signal %d (%s)", WTERMSIG(status),
		   strsignal(WTERMSIG(status)));
	return EXIT_FAILED;
}

void collector__free(struct collector *c)
{
	if (!c)
		return;
	close_fd(&c->lifeline);
	close_fd(&c->stream);
	close_fd(&c->messages);
	free(c);
}
