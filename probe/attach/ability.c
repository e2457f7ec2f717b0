/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What this kernel and these rights allow. Questions to the kernel are asked with requests that
 * must fail for another reason, or with objects that are closed at once.
 *
 * Which rights attaching to another user's process takes, measured by dropping each in turn
 * (kernel 6.18, a process without any other right):
 *
 *   CAP_BPF                 load programs, create maps
 *   CAP_PERFMON             load programs of type kprobe, link them with uprobe_multi
 *   CAP_SYS_PTRACE          /proc/PID/{map_files,root,ns}
 *   CAP_DAC_READ_SEARCH     /proc/PID/{map_files,fd}, files of mode 0600
 *   CAP_CHECKPOINT_RESTORE  /proc/PID/map_files: deleted files, other mount namespaces
 *
 * Each is needed and the five are enough. CAP_SYS_ADMIN stands in for CAP_BPF, CAP_PERFMON and
 * CAP_CHECKPOINT_RESTORE, not for the two others. Single links (no uprobe_multi) take
 * CAP_SYS_ADMIN itself: the uprobe event type asks for it where CAP_PERFMON might be expected.
 */
#include "probe/attach/ability.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/bpf.h>
#include <linux/perf_event.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "probe/attach/arch.h"
#include "probe/attach/uprobe_abi.h"
#include "probe/base/error.h"

/* bpf_loop came with 5.17; that a reader without rights may use maps handed to it, with 5.19. */
#define KERNEL_FLOOR ARCH_KERNEL(5, 19)
#define KERNEL_REMEDY "run a kernel of 5.19 or later"

/* The whole set, so that one command is enough. */
#define CAPABILITIES \
	"cap_bpf,cap_perfmon,cap_sys_ptrace,cap_dac_read_search," \
	"cap_checkpoint_restore"

struct question {
	bool required;
	void (*probe)(struct ability *a, int argument);
	int argument;
	const char *remedy; /* where rights would not help */
};

static void found(struct ability *a, enum ability_state state, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static void found(struct ability *a, enum ability_state state, const char *fmt, ...)
{
	va_list args;

	a->state = state;
	va_start(args, fmt);
	vsnprintf(a->found, sizeof(a->found), fmt, args);
	va_end(args);
}

/* @err in words; a refusal for lack of rights leaves the question open. */
static void found_error(struct ability *a, int err)
{
	if (err == -EPERM || err == -EACCES) {
		a->by_rights = 1;
		found(a, ABILITY_UNKNOWN, "not permitted to ask");
	} else {
		found(a, ABILITY_MISSING, "%s", strerror(-err));
	}
}

/* CAP_SYS_ADMIN counts, except for those in @alone. */
static void probe_capability(struct ability *a, int which)
{
	static const cap_value_t alone[] = { CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH };
	cap_flag_value_t has = CAP_CLEAR, admin = CAP_CLEAR;
	cap_t mine = cap_get_proc();
	size_t i;

	if (!mine || cap_get_flag(mine, which, CAP_EFFECTIVE, &has) ||
	    cap_get_flag(mine, CAP_SYS_ADMIN, CAP_EFFECTIVE, &admin)) {
		found(a, ABILITY_UNKNOWN, "%s", strerror(errno));
		goto out;
	}
	for (i = 0; i < sizeof(alone) / sizeof(alone[0]); i++) {
		if (alone[i] == which)
			admin = CAP_CLEAR;
	}
	if (has == CAP_SET)
		found(a, ABILITY_THERE, "effective");
	else if (admin == CAP_SET)
		found(a, ABILITY_THERE, "by CAP_SYS_ADMIN");
	else
		found(a, ABILITY_MISSING, "not effective");
	a->by_rights = a->state == ABILITY_MISSING;
out:
	cap_free(mine);
}

static void probe_kernel(struct ability *a, int unused)
{
	uint32_t kernel = arch__running_kernel();
	struct utsname name;

	if (!kernel || uname(&name))
		found(a, ABILITY_UNKNOWN, "unreadable version");
	else
		found(a, kernel >= KERNEL_FLOOR ? ABILITY_THERE : ABILITY_MISSING, "%.90s",
		      name.release);
}

/* A program that does nothing; its descriptor or -errno. */
static int load_nothing(enum bpf_attach_type attach)
{
	static const struct bpf_insn code[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	LIBBPF_OPTS(bpf_prog_load_opts, options, .expected_attach_type = attach);
	int fd = bpf_prog_load(BPF_PROG_TYPE_KPROBE, "mp_ability", "GPL", code,
			       sizeof(code) / sizeof(code[0]), &options);

	return fd < 0 ? -errno : fd;
}

static void probe_syscall(struct ability *a, int unused)
{
	int fd = load_nothing(0);

	if (fd < 0) {
		found_error(a, fd);
		return;
	}
	close(fd);
	found(a, ABILITY_THERE, "a program loads");
}

static void probe_helper(struct ability *a, int helper)
{
	int fd = load_nothing(0), answer;

	/* libbpf takes a refusal for "not there": ask first whether we may ask. */
	if (fd < 0) {
		found_error(a, fd);
		return;
	}
	close(fd);
	answer = libbpf_probe_bpf_helper(BPF_PROG_TYPE_KPROBE, (enum bpf_func_id)helper, NULL);
	if (answer < 0)
		found_error(a, answer);
	else
		found(a, answer ? ABILITY_THERE : ABILITY_MISSING, "%s",
		      answer ? "known to the verifier" : "unknown to the verifier");
}

static void probe_ring(struct ability *a, int unused)
{
	int fd = bpf_map_create(BPF_MAP_TYPE_RINGBUF, "mp_ability", 0, 0,
				(unsigned)sysconf(_SC_PAGESIZE), NULL);

	if (fd < 0) {
		/* An unknown type is EINVAL. */
		found_error(a, -errno);
		return;
	}
	close(fd);
	found(a, ABILITY_THERE, "a ring can be created");
}

/* "/" is no regular file: a kernel that can do it gets that far and says EINVAL. */
static void probe_uprobe(struct ability *a, int unused)
{
	struct perf_event_attr event;
	int fd, type = uprobe_pmu__type();

	if (type < 0) {
		found(a, ABILITY_MISSING, "no uprobe event type (%s)", strerror(-type));
		return;
	}
	memset(&event, 0, sizeof(event));
	event.size = sizeof(event);
	event.type = (__u32)type;
	event.config1 = (__u64)(uintptr_t) "/";
	fd = (int)syscall(__NR_perf_event_open, &event, getpid(), -1, -1, PERF_FLAG_FD_CLOEXEC);
	if (fd >= 0)
		close(fd);
	if (fd >= 0 || errno == EINVAL) {
		found(a, ABILITY_THERE, "event type %d", type);
	} else if (errno == EACCES || errno == EPERM) {
		a->by_rights = 1;
		found(a, ABILITY_MISSING, "not permitted: takes CAP_SYS_ADMIN");
	} else {
		found_error(a, -errno);
	}
}

/*
 * Linking to "/" must fail as no file to probe (EBADF); older kernels do not know the attach
 * type (EINVAL on load or on link). The first kernels that know it filter by thread instead of
 * by process, so hits of other threads would be lost silently: those do not look at the pid
 * before the file, later ones refuse a negative one at once (EINVAL).
 */
static void probe_multi(struct ability *a, int unused)
{
	static const uint64_t offset;
	struct uprobe_multi_attr attr;
	int program, file, pid;

	program = load_nothing(0);
	if (program < 0) {
		found_error(a, program);
		return;
	}
	close(program);
	program = load_nothing((enum bpf_attach_type)UPROBE_MULTI_ATTACH_TYPE);
	if (program < 0) {
		found(a, ABILITY_MISSING, "unknown to this kernel");
		return;
	}
	memset(&attr, 0, sizeof(attr));
	attr.prog_fd = (__u32)program;
	attr.attach_type = UPROBE_MULTI_ATTACH_TYPE;
	attr.path = (__u64)(uintptr_t) "/";
	attr.offsets = (__u64)(uintptr_t)&offset;
	attr.count = 1;
	file = uprobe_multi__create(&attr);
	attr.pid = (__u32)-1;
	pid = uprobe_multi__create(&attr);
	close(program);
	if (file == -EPERM || file == -EACCES)
		found_error(a, file);
	else if (file != -EBADF)
		found(a, ABILITY_MISSING, "unknown to this kernel");
	else if (pid != -EINVAL)
		found(a, ABILITY_MISSING, "filters by thread, not by process");
	else
		found(a, ABILITY_THERE, "usable");
	if (file >= 0)
		close(file);
	if (pid >= 0)
		close(pid);
}

#define RIGHT(which) \
	[ABILITY_##which] = { .required = true, .probe = probe_capability, .argument = which }

static const struct question questions[ABILITY_COUNT] = {
	RIGHT(CAP_BPF),
	RIGHT(CAP_PERFMON),
	RIGHT(CAP_SYS_PTRACE),
	RIGHT(CAP_DAC_READ_SEARCH),
	RIGHT(CAP_CHECKPOINT_RESTORE),
	[ABILITY_KERNEL_VERSION] = { .required = true,
				     .probe = probe_kernel,
				     .remedy = KERNEL_REMEDY },
	[ABILITY_BPF_SYSCALL] = { .required = true,
				  .probe = probe_syscall,
				  .remedy = "run a kernel with CONFIG_BPF_SYSCALL and "
					    "CONFIG_BPF_EVENTS; a container may need its seccomp "
					    "profile to allow bpf()" },
	[ABILITY_BPF_LOOP] = { .required = true,
			       .probe = probe_helper,
			       .argument = BPF_FUNC_loop,
			       .remedy = KERNEL_REMEDY },
	[ABILITY_BPF_COOKIE] = { .required = true,
				 .probe = probe_helper,
				 .argument = BPF_FUNC_get_attach_cookie,
				 .remedy = KERNEL_REMEDY },
	[ABILITY_RING_BUFFER] = { .required = true, .probe = probe_ring, .remedy = KERNEL_REMEDY },
	[ABILITY_UPROBE] = { .probe = probe_uprobe,
			     .remedy = "run a kernel with CONFIG_UPROBE_EVENTS and /sys mounted" },
	[ABILITY_UPROBE_MULTI] = { .probe = probe_multi,
				   .remedy = "none needed: single links are used; a kernel of "
					     "6.10 or later detaches faster" },
};

/* How this very program gets its rights. Root without them was started so. */
static void grant(char *text, size_t size, bool single_links)
{
	char self[224];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	self[n < 0 ? 0 : n] = 0;
	if (!geteuid())
		snprintf(
			text, size,
			"root here lacks them: start its container with them (--cap-add, or "
			"--privileged), its service without a bounding set that drops them, or run "
			"it outside: %s%s",
			CAPABILITIES, single_links ? ",cap_sys_admin" : "");
	else if (n <= 0 || (size_t)n >= sizeof(self) - 1)
		snprintf(text, size, "run it with sudo");
	else
		snprintf(text, size, "run it with sudo, or: sudo setcap %s%s+ep %s", CAPABILITIES,
			 single_links ? ",cap_sys_admin" : "", self);
}

void ability__probe_all(struct ability *out)
{
	libbpf_print_fn_t before = libbpf_set_print(NULL);
	bool single_links;
	size_t i;

	memset(out, 0, ABILITY_COUNT * sizeof(*out));
	for (i = 0; i < ABILITY_COUNT; i++) {
		out[i].required = questions[i].required;
		questions[i].probe(&out[i], questions[i].argument);
	}
	single_links = out[ABILITY_UPROBE_MULTI].state == ABILITY_MISSING;
	out[ABILITY_UPROBE].required = single_links;
	for (i = 0; i < ABILITY_COUNT; i++) {
		if (out[i].state == ABILITY_THERE)
			continue;
		if (out[i].by_rights)
			grant(out[i].remedy, sizeof(out[i].remedy), single_links);
		else
			snprintf(out[i].remedy, sizeof(out[i].remedy), "%s",
				 questions[i].remedy ? questions[i].remedy : "");
	}
	libbpf_set_print(before);
}

const char *ability__name(enum ability_id id)
{
	static const char *const names[] = {
#define X(name, text) [ABILITY_##name] = text,
		ABILITIES(X)
#undef X
	};

	return (unsigned)id < ABILITY_COUNT ? names[id] : "?";
}

int ability__require(const struct ability *all, struct error *e)
{
	const struct ability *first = NULL;
	bool rights = false;
	char list[256] = "";
	size_t i, n = 0;

	/* Rights first: without them the other answers are not to be had. */
	for (i = 0; i < ABILITY_COUNT; i++)
		rights |= all[i].required && all[i].state == ABILITY_MISSING && all[i].by_rights;
	for (i = 0; i < ABILITY_COUNT; i++) {
		if (!all[i].required || all[i].state != ABILITY_MISSING ||
		    (rights && !all[i].by_rights))
			continue;
		if (!first)
			first = &all[i];
		if (n < sizeof(list))
			n += (size_t)snprintf(list + n, sizeof(list) - n, "%s%s", n ? ", " : "",
					      ability__name((enum ability_id)i));
	}
	if (!first)
		return 0;
	return error__set(e, rights ? EXIT_PERMISSION : EXIT_UNSUPPORTED,
			  rights ? EPERM : EOPNOTSUPP, first->remedy,
			  "ability: failed to attach: missing %s", list);
}
