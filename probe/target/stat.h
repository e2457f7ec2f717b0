/* SPDX-License-Identifier: BSD-2-Clause */
/* The texts of /proc/PID/stat, status and net/tcp, parsed: pure functions over untrusted bytes
 * (a process chooses its own name, parentheses and newlines included). */
#ifndef MP_TARGET_STAT_H
#define MP_TARGET_STAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct pid_stat {
	pid_t pid;
	char command[64]; /* control bytes replaced by '?' */
	char state;       /* 'R', 'S', 'Z', ... */
	pid_t parent;
	bool kernel_thread;
	uint32_t threads;
	uint64_t start_ticks; /* since boot, in clock ticks */
};

struct pid_status {
	pid_t thread_group;  /* the process that a thread belongs to; 0: not said */
	pid_t namespace_pid; /* the pid in its own, innermost namespace; 0: not said */
};

/* 0, or -EINVAL if @text is no stat line. */
int pid_stat__parse(struct pid_stat *out, const char *text, size_t size);
/* Fields that the text does not hold stay 0. */
void pid_status__parse(struct pid_status *out, const char *text, size_t size);

struct listening_socket {
	uint64_t inode;
	uint16_t port;
};

/*
 * Call @each for every listening socket in the text of net/tcp or net/tcp6, until it returns
 * false. Lines that make no sense are passed over.
 */
void tcp_table__each(const char *text, size_t size,
		     bool (*each)(void *ctx, const struct listening_socket *s), void *ctx);

#endif
