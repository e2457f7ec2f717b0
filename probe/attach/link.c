/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Probes put in place and taken away. The kernel finds the probed file by a path, and the only
 * path that leads to a deleted file or into another mount namespace is /proc/self/fd/N of a
 * descriptor that somebody opened there.
 *
 * Cost of taking away: the kernel waits for running handlers (an RCU grace period or several) a
 * link, not a place. Twelve single links took 1.65 s one after another and 1.1 s in twelve
 * threads (collector/unlinker.c has a thread a link); one multi-uprobe link took 32 ms.
 */
#include "probe/attach/link.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "probe/attach/uprobe_abi.h"
#include "probe/base/error.h"

struct uprobe_links {
	size_t count;
	struct {
		int link_fd;
		int perf_fd; /* -1 with multi */
	} item[LINK_PLACES_MAX];
};

int uprobe_pmu__type(void)
{
	FILE *in = fopen("/sys/bus/event_source/devices/uprobe/type", "re");
	int type = -1;

	if (!in)
		return -errno;
	if (fscanf(in, "%d", &type) != 1 || type < 0)
		type = -ENOENT;
	fclose(in);
	return type;
}

int uprobe_multi__create(const struct uprobe_multi_attr *attr)
{
	int fd = (int)syscall(__NR_bpf, BPF_LINK_CREATE, attr, sizeof(*attr));

	return fd < 0 ? -errno : fd;
}

static int open_multi(struct uprobe_links *l, const struct link_request *r, const char *path)
{
	struct uprobe_multi_attr attr;
	int fd;

	memset(&attr, 0, sizeof(attr));
	attr.prog_fd = (__u32)r->program_fd;
	attr.attach_type = UPROBE_MULTI_ATTACH_TYPE;
	attr.path = (__u64)(uintptr_t)path;
	attr.offsets = (__u64)(uintptr_t)r->offsets;
	attr.cookies = (__u64)(uintptr_t)r->cookies;
	attr.count = (__u32)r->count;
	attr.pid = (__u32)r->pid;
	fd = uprobe_multi__create(&attr);
	if (fd < 0)
		return fd;
	l->item[0].link_fd = fd;
	l->item[0].perf_fd = -1;
	l->count = 1;
	return 0;
}

static int open_single(struct uprobe_links *l, const struct link_request *r, const char *path,
		       int type, size_t i)
{
	struct perf_event_attr event;
	union bpf_attr attr;
	int fd, link;

	memset(&event, 0, sizeof(event));
	event.size = sizeof(event);
	event.type = (__u32)type;
	event.config1 = (__u64)(uintptr_t)path; /* uprobe_path */
	event.config2 = r->offsets[i];          /* probe_offset */
	/* The kernel probes the whole process of @pid, not one thread: its filter is the mm. */
	fd = (int)syscall(__NR_perf_event_open, &event, r->pid, -1, -1, PERF_FLAG_FD_CLOEXEC);
	if (fd < 0)
		return -errno;
	memset(&attr, 0, sizeof(attr));
	attr.link_create.prog_fd = (__u32)r->program_fd;
	attr.link_create.target_fd = (__u32)fd;
	attr.link_create.attach_type = BPF_PERF_EVENT;
	attr.link_create.perf_event.bpf_cookie = r->cookies[i];
	link = (int)syscall(__NR_bpf, BPF_LINK_CREATE, &attr, sizeof(attr));
	if (link < 0) {
		int err = -errno;

		close(fd);
		return err;
	}
	l->item[i].link_fd = link;
	l->item[i].perf_fd = fd;
	l->count = i + 1;
	if (ioctl(fd, PERF_EVENT_IOC_ENABLE, 0))
		return -errno;
	return 0;
}

static int say_why(struct error *e, const struct link_request *r, int err)
{
	const char *place = r->count == 1 ? "the place" : "one of the places";

	switch (-err) {
	case EPERM:
	case EACCES:
		return error__set(e, EXIT_PERMISSION, -err,
				  "run as root, or see `moeprobe doctor` for the capabilities",
				  "link: failed to probe process %d: not permitted", r->pid);
	case ESRCH:
		return error__set(e, EXIT_NO_TARGET, -err, NULL,
				  "link: failed to probe process %d: it is gone", r->pid);
	case EMFILE:
	case ENFILE:
	case ENOMEM:
		return error__set(e, EXIT_FAILED, -err, NULL,
				  "link: failed to probe process %d: %s", r->pid, strerror(-err));
	default:
		/* The kernel has numbers that strerror does not know (524: not supported). */
		return error__set(e, EXIT_UNSUPPORTED, -err, NULL,
				  "link: failed to probe process %d: the kernel refuses %s "
				  "(first at file offset %#llx, error %d)",
				  r->pid, place, (unsigned long long)r->offsets[0], -err);
	}
}

int uprobe_links__open(struct uprobe_links **out, const struct link_request *r, struct error *e)
{
	struct uprobe_links *l;
	char path[32];
	size_t i;
	int type, err;

	*out = NULL;
	if (r->count < 1 || r->count > LINK_PLACES_MAX || r->pid <= 0)
		return error__set(e, EXIT_FAILED, EINVAL, NULL,
				  "link: failed to probe process %d: %zu places asked for", r->pid,
				  r->count);
	l = calloc(1, sizeof(*l));
	if (!l)
		return error__set(e, EXIT_FAILED, ENOMEM, NULL, "link: out of memory");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", r->file_fd);
	if (r->multi) {
		err = open_multi(l, r, path);
	} else {
		type = uprobe_pmu__type();
		err = type < 0 ? type : 0;
		for (i = 0; i < r->count && !err; i++)
			err = open_single(l, r, path, type, i);
	}
	if (err) {
		uprobe_links__close(l);
		return say_why(e, r, err);
	}
	*out = l;
	return 0;
}

void uprobe_links__close(struct uprobe_links *l)
{
	size_t i;

	if (!l)
		return;
	for (i = 0; i < l->count; i++) {
		close(l->item[i].link_fd);
		if (l->item[i].perf_fd >= 0)
			close(l->item[i].perf_fd);
	}
	free(l);
}
