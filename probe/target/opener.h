/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How files of a process are opened. The reader has no rights: it asks the broker and gets
 * file descriptors; tests and the broker itself open directly. Everything in probe/target
 * works on what an opener hands out and never on a path of its own.
 */
#ifndef MP_TARGET_OPENER_H
#define MP_TARGET_OPENER_H

#include <stdint.h>
#include <sys/types.h>

/* X(NAME, path below /proc/PID) */
#define PROC_FILES(X) \
	X(MAPS, "maps") \
	X(STAT, "stat") \
	X(STATUS, "status") \
	X(CMDLINE, "cmdline") \
	X(COMM, "comm") \
	X(EXE, "exe") \
	X(CGROUP, "cgroup") \
	X(NET_TCP, "net/tcp") \
	X(NET_TCP6, "net/tcp6") \
	X(CHILDREN, "task") \
	X(FDS, "fd") \
	X(NS_PID, "ns/pid") \
	X(NS_MNT, "ns/mnt")

/* Variables of a process's environment that may be asked for: where its user keeps models. */
#define PROC_VARIABLES(X) \
	X(HF_HOME) \
	X(HF_HUB_CACHE) \
	X(HUGGINGFACE_HUB_CACHE) \
	X(TRANSFORMERS_CACHE) \
	X(XDG_CACHE_HOME) \
	X(HOME)

enum proc_variable {
#define X(name) PROC_VARIABLE_##name,
	PROC_VARIABLES(X)
#undef X
		PROC_VARIABLE_COUNT
};

enum proc_file {
#define X(name, path) PROC_##name,
	PROC_FILES(X)
#undef X
		PROC_FILE_COUNT
};

/* All callbacks return a new close-on-exec descriptor that the caller owns, or -errno. */
struct opener {
	/* /proc/PID/<file>; directories (CHILDREN, FDS) are opened for listing. */
	int (*open_proc)(void *ctx, pid_t pid, enum proc_file file);
	/* The regular file mapped at [start, end) in @pid, also when it was deleted or lies in
	 * another mount namespace (/proc/PID/map_files). */
	int (*open_mapped)(void *ctx, pid_t pid, uint64_t start, uint64_t end);
	/* The regular file @path as @pid sees it, inside its root, read-only; a relative path
	 * starts at its working directory. Files of procfs and sysfs are refused (-EACCES). */
	int (*open_path)(void *ctx, pid_t pid, const char *path);
	/* readlink of /proc/PID/fd/@fd into @text ("socket:[123]", a path); 0 or -errno. */
	int (*read_fd_link)(void *ctx, pid_t pid, int fd, char *text, size_t size);
	/* The value of a variable, as it was when the process began, into @text; -ENODATA: there is
	 * none, or none that begins as a path. NULL: no variable can be had. */
	int (*read_variable)(void *ctx, pid_t pid, enum proc_variable variable, char *text,
			     size_t size);
	/* /proc itself, for listing. */
	int (*open_list)(void *ctx);
	void *ctx;
};

/* Opens with the caller's own rights. */
extern const struct opener opener_direct;

#endif
