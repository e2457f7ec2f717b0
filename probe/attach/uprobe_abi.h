/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The parts of the kernel's interface to uprobes that older system headers lack (Debian 12 has
 * those of 6.1, multi-uprobe links came with 6.6). For this room only.
 */
#ifndef MP_ATTACH_UPROBE_ABI_H
#define MP_ATTACH_UPROBE_ABI_H

#include <linux/types.h>
#include <stddef.h>

/* BPF_TRACE_UPROBE_MULTI */
#define UPROBE_MULTI_ATTACH_TYPE 48

/* What BPF_LINK_CREATE reads for a multi-uprobe link: the head of union bpf_attr.link_create,
 * then its uprobe_multi. Addresses are those of user memory. */
struct uprobe_multi_attr {
	__u32 prog_fd;
	__u32 target_fd; /* must be 0 on newer kernels */
	__u32 attach_type;
	__u32 flags;
	__u64 path;            /* NUL-terminated */
	__u64 offsets;         /* @count __u64 */
	__u64 ref_ctr_offsets; /* 0: none */
	__u64 cookies;         /* @count __u64 */
	__u32 count;
	__u32 multi_flags;
	__u32 pid; /* in the caller's namespace */
	__u32 reserved;
};
_Static_assert(sizeof(struct uprobe_multi_attr) == 64, "kernel interface");
_Static_assert(offsetof(struct uprobe_multi_attr, path) == 16, "kernel interface");
_Static_assert(offsetof(struct uprobe_multi_attr, count) == 48, "kernel interface");
_Static_assert(offsetof(struct uprobe_multi_attr, pid) == 56, "kernel interface");

/* A new link's descriptor, or -errno. */
int uprobe_multi__create(const struct uprobe_multi_attr *attr);
/* The perf event type of uprobes, or -errno (-ENOENT: this kernel has none). */
int uprobe_pmu__type(void);

#endif
