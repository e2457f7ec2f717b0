/* SPDX-License-Identifier: BSD-2-Clause */
/* tests/tools/hot_loop as a child: told what to call and how often, with planned sites. */
#ifndef TESTS_UNIT_HOT_TARGET_H
#define TESTS_UNIT_HOT_TARGET_H

#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "probe/attach/site.h"
#include "probe/base/error.h"
#include "probe/target/elf.h"

struct hot_target {
	pid_t pid; /* 0: gone */
	FILE *in, *out;
	int file_fd;
	uint64_t push, step, late; /* file offsets of planned sites */
};

/* Start the program @tool. */
static inline void hot_target__start(struct hot_target *t, const char *tool)
{
	int to[2], from[2];
	struct error e = { 0 };
	struct elf *f;
	struct site s;

	memset(t, 0, sizeof(*t));
	assert_int_equal(pipe2(to, O_CLOEXEC), 0);
	assert_int_equal(pipe2(from, O_CLOEXEC), 0);
	t->pid = fork();
	assert_true(t->pid >= 0);
	if (!t->pid) {
		dup2(to[0], 0);
		dup2(from[1], 1);
		execl(tool, tool, (char *)NULL);
		_exit(127);
	}
	close(to[0]);
	close(from[1]);
	t->in = fdopen(to[1], "w");
	t->out = fdopen(from[0], "r");
	assert_int_equal(fscanf(t->out, "%*d"), 0);
	t->file_fd = open(tool, O_RDONLY | O_CLOEXEC);
	assert_int_equal(elf__open(&f, open(tool, O_RDONLY | O_CLOEXEC), tool, &e), 0);
	assert_int_equal(site__plan(&s, f, "hot_push", 3, 0, &e), 0);
	t->push = s.file_offset;
	assert_int_equal(site__plan(&s, f, "hot_step", 3, 0, &e), 0);
	t->step = s.file_offset;
	assert_int_equal(site__plan(&s, f, "hot_late", 3, 0, &e), 0);
	t->late = s.file_offset;
	elf__free(f);
}

/* Have it make @n calls in each thread, @how ("", "cold"), and wait; the time of a call in ns. */
static inline double hot_target__call_how(struct hot_target *t, const char *function, int n,
					  int threads, const char *how)
{
	double ns = -1;

	fprintf(t->in, "%s %d %d %s\n", function, n, threads, how);
	fflush(t->in);
	assert_int_equal(fscanf(t->out, "%lf", &ns), 1);
	return ns;
}

static inline double hot_target__call(struct hot_target *t, const char *function, int n,
				      int threads)
{
	return hot_target__call_how(t, function, n, threads, "");
}

static inline void hot_target__stop(struct hot_target *t)
{
	int status;

	fclose(t->in);
	assert_int_equal(waitpid(t->pid, &status, 0), t->pid);
	t->pid = 0;
	assert_int_equal(status, 0); /* the target saw nothing of it */
	fclose(t->out);
	close(t->file_fd);
}

/* Where it was built, or "". */
static inline void hot_target__find(char tool[PATH_MAX])
{
	static const char *const places[] = { "../tools/hot_loop",
					      "../../../tests/tools/hot_loop" };
	char self[PATH_MAX], path[PATH_MAX * 2], *slash;
	ssize_t n;

	tool[0] = 0;
	n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (n < 0)
		return;
	self[n] = 0;
	slash = strrchr(self, '/');
	*slash = 0;
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", self, places[i]);
		if (!access(path, X_OK) && realpath(path, tool))
			return;
		tool[0] = 0;
	}
}

#endif
