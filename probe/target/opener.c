/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Opening files of a process with the caller's own rights. A target can name and map anything:
 * what is opened is looked at through an O_PATH descriptor first, so that no device driver or
 * FIFO is ever touched, and a path is resolved inside the target's root by the kernel.
 */
#include "probe/target/opener.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

/* O_NONBLOCK: nothing that a target names may make us wait. */
#define OPEN_FLAGS (O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)

#define ENVIRONMENT_MAX (4u << 20) /* bytes that are looked at */

static const char *const proc_paths[] = {
#define X(name, path) [PROC_##name] = path,
	PROC_FILES(X)
#undef X
};

static int open_or_errno(const char *path, int flags)
{
	int fd = open(path, flags);

	return fd < 0 ? -errno : fd;
}

/* Turn @path_fd (O_PATH, taken) into a readable descriptor of the same regular file. */
static int reopen_regular(int path_fd)
{
	char link[64];
	struct stat st;
	int fd;

	if (fstat(path_fd, &st)) {
		fd = -errno;
	} else if (!S_ISREG(st.st_mode)) {
		fd = -EINVAL;
	} else {
		snprintf(link, sizeof(link), "/proc/self/fd/%d", path_fd);
		fd = open_or_errno(link, OPEN_FLAGS);
	}
	close(path_fd);
	return fd;
}

/* Models and libraries lie on real file systems; files of procfs and sysfs look regular, but
 * reading them with our rights would hand out kernel state, and some have side effects. */
static int refuse_kernel_files(int fd)
{
	struct statfs fs;

	if (fstatfs(fd, &fs))
		return -errno;
	if (fs.f_type == PROC_SUPER_MAGIC || fs.f_type == SYSFS_MAGIC)
		return -EACCES;
	return 0;
}

static int open_below(int directory, const char *path, uint64_t resolve)
{
	struct open_how how = {
		.flags = O_PATH | O_CLOEXEC,
		.resolve = resolve | RESOLVE_NO_MAGICLINKS,
	};
	long fd = syscall(SYS_openat2, directory, path, &how, sizeof(how));

	return fd < 0 ? -errno : (int)fd;
}

/* "/proc/PID/cwd" as text joined with @path. 0 or -errno. */
static int join_cwd(pid_t pid, const char *path, char *out, size_t size)
{
	char link[64], cwd[PATH_MAX];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/%d/cwd", (int)pid);
	n = readlink(link, cwd, sizeof(cwd) - 1);
	if (n < 0)
		return -errno;
	cwd[n] = '\0';
	n = snprintf(out, size, "%s/%s", cwd, path);
	return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

/* A relative path: below the working directory, or, where it climbs out of that ("../models/x",
 * an absolute link), by the directory's name inside the root. */
static int open_relative(int root, pid_t pid, const char *path)
{
	char text[2 * PATH_MAX];
	int cwd, fd;

	snprintf(text, sizeof(text), "/proc/%d/cwd", (int)pid);
	cwd = open_or_errno(text, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (cwd < 0)
		return cwd;
	fd = open_below(cwd, path, RESOLVE_BENEATH);
	close(cwd);
	if (fd != -EXDEV)
		return fd;
	fd = join_cwd(pid, path, text, sizeof(text));
	return fd ? fd : open_below(root, text, RESOLVE_IN_ROOT);
}

static int direct_open_proc(void *ctx, pid_t pid, enum proc_file file)
{
	char path[64];

	if (pid <= 0 || (unsigned)file >= PROC_FILE_COUNT)
		return -EINVAL;
	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, proc_paths[file]);
	return open_or_errno(path, OPEN_FLAGS);
}

static int direct_open_mapped(void *ctx, pid_t pid, uint64_t start, uint64_t end)
{
	char path[96];
	int fd;

	if (pid <= 0)
		return -EINVAL;
	snprintf(path, sizeof(path), "/proc/%d/map_files/%llx-%llx", (int)pid,
		 (unsigned long long)start, (unsigned long long)end);
	fd = open_or_errno(path, O_PATH | O_CLOEXEC);
	return fd < 0 ? fd : reopen_regular(fd);
}

static int direct_open_path(void *ctx, pid_t pid, const char *path)
{
	char text[64];
	int root, fd, err;

	if (pid <= 0 || !path[0])
		return -EINVAL;
	snprintf(text, sizeof(text), "/proc/%d/root", (int)pid);
	root = open_or_errno(text, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return root;
	fd = path[0] == '/' ? open_below(root, path, RESOLVE_IN_ROOT)
			    : open_relative(root, pid, path);
	close(root);
	if (fd < 0)
		return fd;
	err = refuse_kernel_files(fd);
	if (err) {
		close(fd);
		return err;
	}
	return reopen_regular(fd);
}

static int direct_read_fd_link(void *ctx, pid_t pid, int fd, char *text, size_t size)
{
	char path[64];
	ssize_t n;

	if (!size)
		return -EINVAL;
	text[0] = '\0';
	if (pid <= 0 || fd < 0)
		return -EINVAL;
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)pid, fd);
	n = readlink(path, text, size);
	if (n < 0 || (size_t)n >= size) {
		text[0] = '\0';
		return n < 0 ? -errno : -ENAMETOOLONG;
	}
	text[n] = '\0';
	return 0;
}

/* Values of one stream of NUL-ended entries "NAME=VALUE": one that fits @size, or -errno. */
static int scan_environment(FILE *in, const char *name, char *text, size_t size)
{
	size_t wanted = strlen(name), at = 0, used = 0;
	bool is_wanted = true;

	for (size_t i = 0; i < ENVIRONMENT_MAX; i++) {
		int c = getc_unlocked(in);

		if (c == EOF || !c) {
			if (is_wanted && at > wanted)
				return used < size ? 0 : -ENAMETOOLONG;
			if (c == EOF)
				return -ENODATA;
			at = used = 0;
			is_wanted = true;
			continue;
		}
		if (at <= wanted)
			is_wanted &= c == (at < wanted ? name[at] : '=');
		else if (is_wanted && used < size)
			text[used++] = (char)c;
		at++;
	}
	return -ENODATA;
}

static int direct_read_variable(void *ctx, pid_t pid, enum proc_variable variable, char *text,
				size_t size)
{
	static const char *const names[] = {
#define X(name) [PROC_VARIABLE_##name] = #name,
		PROC_VARIABLES(X)
#undef X
	};
	char path[64];
	FILE *in;
	int err;

	if (!size)
		return -EINVAL;
	memset(text, 0, size);
	if (pid <= 0 || (unsigned)variable >= PROC_VARIABLE_COUNT)
		return -EINVAL;
	snprintf(path, sizeof(path), "/proc/%d/environ", (int)pid);
	in = fopen(path, "re");
	if (!in)
		return -errno;
	err = scan_environment(in, names[variable], text, size);
	fclose(in);
	if (!err && text[0] != '/' && text[0] != '~')
		err = -ENODATA;
	if (err)
		memset(text, 0, size);
	return err;
}

static int direct_open_list(void *ctx)
{
	return open_or_errno("/proc", OPEN_FLAGS | O_DIRECTORY);
}

const struct opener opener_direct = {
	.open_proc = direct_open_proc,
	.open_mapped = direct_open_mapped,
	.open_path = direct_open_path,
	.read_fd_link = direct_read_fd_link,
	.read_variable = direct_read_variable,
	.open_list = direct_open_list,
};
