/* SPDX-License-Identifier: BSD-2-Clause */
/* Who descends from whom, by the kernel's word: the parents in /proc/PID/stat. Runs in the broker,
 * with its rights. */
#ifndef MP_COLLECTOR_KIN_H
#define MP_COLLECTOR_KIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* A process and its parent. */
struct kin {
	int32_t pid, parent;
};

/* True if @pid is @root or descends from it. */
bool kin__descends(pid_t pid, pid_t root);
/* @root and its descendants, parents before their children and elder numbers first, at most @max of
 * them. Their number (there may be more if it is @max), or -errno. */
int kin__list(struct kin *out, size_t max, pid_t root);

#endif
