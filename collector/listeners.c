/* SPDX-License-Identifier: BSD-2-Clause */
#include "collector/listeners.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "collector/programs.h"
#include "probe/attach/arch.h"
#include "probe/base/error.h"

#define REMEDY "leave --header away, or run a kernel with CONFIG_HAVE_SYSCALL_TRACEPOINTS"

static int say_why(struct error *e, int err)
{
	if (err == -EPERM || err == -EACCES)
		return error__set(
			e, EXIT_PERMISSION, -err,
			"run as root, or see `moeprobe doctor` for the capabilities",
			"collector: failed to read the headers of requests: not permitted");
	return error__set(e, EXIT_UNSUPPORTED, -err, REMEDY,
			  "collector: failed to read the headers of requests: no program can be "
			  "placed at the exit of system calls (error %d)",
			  -err);
}

static int place(struct listeners *l, const struct programs *p, struct error *e)
{
	const struct arch_ops *arch = arch__own();
	int fd;

	if (l->link)
		return 0;
	if (!arch || !arch->knows_system_calls)
		return error__set(e, EXIT_UNSUPPORTED, ENOTSUP, "leave --header away",
				  "collector: failed to read the headers of requests: how system "
				  "calls pass their arguments on this processor is not known");
	fd = bpf_raw_tracepoint_open("sys_exit", programs__fd(p, MP_PROGRAM_HEADS));
	if (fd < 0)
		return say_why(e, -errno);
	l->link = fd + 1;
	return 0;
}

int listeners__add(struct listeners *l, const struct programs *p, pid_t pid, uint32_t row,
		   struct error *e)
{
	uint32_t key = (uint32_t)pid;
	int err;

	if (l->count == MP_SITES)
		return -ENOSPC;
	err = place(l, p, e);
	if (err)
		return err;
	if (bpf_map_update_elem(programs__map_fd(p, PROGRAM_MAP_LISTENERS), &key, &row, BPF_ANY))
		return error__set(e, EXIT_FAILED, errno, NULL,
				  "collector: failed to read the headers that process %d receives: "
				  "%s",
				  (int)pid, strerror(errno));
	l->pid[l->count++] = pid;
	return 0;
}

void listeners__remove(struct listeners *l, const struct programs *p, pid_t pid)
{
	size_t kept = 0;

	for (size_t i = 0; i < l->count; i++) {
		uint32_t key = (uint32_t)l->pid[i];

		if (pid && l->pid[i] != pid) {
			l->pid[kept++] = l->pid[i];
			continue;
		}
		bpf_map_delete_elem(programs__map_fd(p, PROGRAM_MAP_LISTENERS), &key);
	}
	l->count = kept;
	if (!kept)
		listeners__let_go(l);
}

void listeners__let_go(struct listeners *l)
{
	if (l->link)
		close(l->link - 1);
	l->link = 0;
}
