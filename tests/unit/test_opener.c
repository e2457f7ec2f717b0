/* SPDX-License-Identifier: BSD-2-Clause */
/* What opener_direct hands out, and above all what it does not: a target may name anything. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "probe/target/opener.h"
#include "tests/unit/child.h"

static char scratch[] = "/tmp/test_opener.XXXXXX";

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		_exit(1);
	close(fd);
}

static void enter_another_root(void)
{
	if (chdir(scratch) || mkdir("etc", 0755) || mkdir("models", 0755) || mkdir("dev", 0755) ||
	    mkfifo("fifo", 0644) || symlink("/etc/passwd", "link") ||
	    symlink("../../../etc/passwd", "models/climbs"))
		_exit(1);
	write_file("etc/passwd", "inside");
	write_file("models/model", "weights");
	if (chroot(".") || chdir("/models"))
		_exit(1);
}

static void expect_text(pid_t pid, const char *path, const char *expected)
{
	int fd = opener_direct.open_path(opener_direct.ctx, pid, path);
	char text[64] = "";

	if (fd < 0)
		fail_msg("%s: %s", path, strerror(-fd));
	assert_true(read(fd, text, sizeof(text) - 1) >= 0);
	assert_string_equal(text, expected);
	assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	close(fd);
}

static void stays_inside_the_root(void **state)
{
	pid_t pid;

	need_root();
	pid = spawn(enter_another_root);
	expect_text(pid, "/etc/passwd", "inside");
	expect_text(pid, "/link", "inside");
	expect_text(pid, "/../../../etc/passwd", "inside");
	expect_text(pid, "/models/climbs", "inside");
	expect_text(pid, "/models/model", "weights");
	expect_text(pid, "model", "weights");
	expect_text(pid, "./model", "weights");
	assert_int_equal(opener_direct.open_path(NULL, pid, "/fifo"), -EINVAL);
	assert_int_equal(opener_direct.open_path(NULL, pid, "/etc"), -EINVAL);
	assert_int_equal(opener_direct.open_path(NULL, pid, "/nothing"), -ENOENT);
	assert_int_equal(opener_direct.open_path(NULL, pid, ""), -EINVAL);
	end(pid);
}

static void resolves_relative_paths(void **state)
{
	char work[PATH_MAX], file[PATH_MAX], before[PATH_MAX];

	snprintf(work, sizeof(work), "%s/here", scratch);
	snprintf(file, sizeof(file), "%s/beside", scratch);
	assert_non_null(getcwd(before, sizeof(before)));
	assert_int_equal(mkdir(work, 0755), 0);
	write_file(file, "beside");
	assert_int_equal(chdir(work), 0);
	write_file("within", "within");
	expect_text(getpid(), "within", "within");
	expect_text(getpid(), "../beside", "beside");
	assert_int_equal(chdir(before), 0);
}

static void refuses_devices_and_kernel_files(void **state)
{
	assert_int_equal(opener_direct.open_path(NULL, getpid(), "/dev/null"), -EINVAL);
	assert_int_equal(opener_direct.open_path(NULL, getpid(), "/proc/version"), -EACCES);
	assert_int_equal(opener_direct.open_path(NULL, getpid(), "/proc/self/exe"), -ELOOP);
	assert_int_equal(opener_direct.open_path(NULL, 0, "/etc/passwd"), -EINVAL);
	assert_int_equal(opener_direct.open_proc(NULL, getpid(), PROC_FILE_COUNT), -EINVAL);
	assert_int_equal(opener_direct.open_mapped(NULL, getpid(), 0x1000, 0x2000), -ENOENT);
}

static void reads_links_of_descriptors(void **state)
{
	char text[256];
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	assert_int_equal(opener_direct.read_fd_link(NULL, getpid(), fd, text, sizeof(text)), 0);
	assert_string_equal(text, "/dev/null");
	assert_int_equal(opener_direct.read_fd_link(NULL, getpid(), fd, text, 9), -ENAMETOOLONG);
	assert_string_equal(text, "");
	close(fd);
	assert_int_equal(opener_direct.read_fd_link(NULL, getpid(), fd, text, sizeof(text)),
			 -ENOENT);
	assert_int_equal(opener_direct.read_fd_link(NULL, getpid(), -1, text, sizeof(text)),
			 -EINVAL);
}

/* A process with these entries of an environment; it ends with @to. */
static pid_t start_with(char *const *environment, int *to)
{
	char *const argv[] = { "sh", "-c", "echo; read x", NULL };
	int ready[2], ends[2];
	char byte;
	pid_t pid;

	assert_int_equal(pipe(ready), 0);
	assert_int_equal(pipe(ends), 0);
	pid = fork_mortal();
	if (!pid) {
		dup2(ends[0], 0);
		dup2(ready[1], 1);
		close(ends[1]);
		execve("/bin/sh", argv, environment);
		_exit(1);
	}
	close(ends[0]);
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	*to = ends[1];
	return pid;
}

static void reads_variables(void **state)
{
	static const struct {
		enum proc_variable variable;
		const char *text;
		int result;
	} cases[] = {
		{ PROC_VARIABLE_HF_HOME, "/cache/of mine=", 0 },
		{ PROC_VARIABLE_HOME, "/first", 0 },
		{ PROC_VARIABLE_XDG_CACHE_HOME, "~/cache", 0 },
		{ PROC_VARIABLE_HF_HUB_CACHE, "", -ENODATA },          /* is empty */
		{ PROC_VARIABLE_TRANSFORMERS_CACHE, "", -ENODATA },    /* is no path */
		{ PROC_VARIABLE_HUGGINGFACE_HUB_CACHE, "", -ENODATA }, /* is not there */
		{ PROC_VARIABLE_COUNT, "", -EINVAL },
	};
	char *const environment[] = { "HF_HOME_=/a",
				      "XHF_HOME=/b",
				      "HF_HOM=/c",
				      "HF_HOME",
				      "HF_HOME=/cache/of mine=",
				      "HF_HUB_CACHE=",
				      "TRANSFORMERS_CACHE=secret",
				      "HOME=/first",
				      "HOME=/second",
				      "XDG_CACHE_HOME=~/cache",
				      "HF_TOKEN=/secret",
				      NULL };
	int to;
	pid_t pid = start_with(environment, &to);
	char text[64];

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		memset(text, 'x', sizeof(text));
		assert_int_equal(opener_direct.read_variable(NULL, pid, cases[i].variable, text,
							     sizeof(text)),
				 cases[i].result);
		assert_string_equal(text, cases[i].text);
	}
	assert_int_equal(opener_direct.read_variable(NULL, pid, PROC_VARIABLE_HOME, text, 7), 0);
	assert_int_equal(opener_direct.read_variable(NULL, pid, PROC_VARIABLE_HOME, text, 6),
			 -ENAMETOOLONG);
	assert_string_equal(text, "");
	assert_int_equal(opener_direct.read_variable(NULL, 0, PROC_VARIABLE_HOME, text, 6),
			 -EINVAL);
	close(to);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static int make_scratch(void **state)
{
	return mkdtemp(scratch) ? 0 : -1;
}

static int remove_scratch(void **state)
{
	char command[64];

	snprintf(command, sizeof(command), "rm -rf %s", scratch);
	return system(command);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stays_inside_the_root),
		cmocka_unit_test(resolves_relative_paths),
		cmocka_unit_test(refuses_devices_and_kernel_files),
		cmocka_unit_test(reads_links_of_descriptors),
		cmocka_unit_test(reads_variables),
	};

	return cmocka_run_group_tests(tests, make_scratch, remove_scratch);
}
