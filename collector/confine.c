/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Whatever is not listed gives EPERM and not death: a library that tries (libdw looks for split
 * debug files by names that the target chose) goes on without. What no library would try, and who
 * has taken over a process would, kills: a silent refusal only helps to try the next.
 */
#include "collector/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/bpf.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "probe/base/error.h"
#define LOG_MODULE "collector"
#include "probe/base/log.h"

#define LENGTH(a) (sizeof(a) / sizeof((a)[0]))
#define CONDITIONS_MAX 2

/* Allowed if all of its conditions hold. */
struct rule {
	int call;
	unsigned conditions;
	struct scmp_arg_cmp condition[CONDITIONS_MAX];
};

#define CALL(name) \
	{ \
		.call = SCMP_SYS(name) \
	}
#define CALL_IF(name, ...) \
	{ \
		.call = SCMP_SYS(name), \
		.conditions = sizeof((struct scmp_arg_cmp[]){ __VA_ARGS__ }) / \
			      sizeof(struct scmp_arg_cmp), \
		.condition = { \
			__VA_ARGS__ \
		} \
	}
/* Argument @number is @value; is not above it; or its bits of @mask are. */
#define IS(number, value) \
	{ \
		.arg = number, .op = SCMP_CMP_EQ, .datum_a = value \
	}
#define AT_MOST(number, value) \
	{ \
		.arg = number, .op = SCMP_CMP_LE, .datum_a = value \
	}
#define BITS(number, mask, value) \
	{ \
		.arg = number, .op = SCMP_CMP_MASKED_EQ, .datum_a = mask, .datum_b = value \
	}

static const struct rule allowed[] = {
	/* what was opened for us, and what the broker hands out */
	CALL(read),
	CALL(pread64),
	CALL(write),
	CALL(writev), /* last words of the C library */
	CALL(lseek),
	CALL(close),
	CALL(dup),
	CALL(fstat),
	/*
	 * How libc does fstat(). The path cannot be seen from here, and AT_EMPTY_PATH permits an
	 * empty one, but does not demand it: what an absolute path names can be looked at, not
	 * opened, with nobody's rights. Not what lies below the working directory.
	 */
	CALL_IF(newfstatat, IS(3, AT_EMPTY_PATH), AT_MOST(0, INT_MAX)),
	CALL(getdents64),
	CALL_IF(fcntl, IS(1, F_GETFD)),
	CALL_IF(fcntl, IS(1, F_SETFD)),
	CALL_IF(fcntl, IS(1, F_GETFL)),
	CALL_IF(fcntl, IS(1, F_SETFL)),
	CALL_IF(fcntl, IS(1, F_DUPFD_CLOEXEC)),
	CALL_IF(sendto, IS(4, 0)), /* to no address: where it is connected */
	CALL(recvmsg),
	/* the ring and the counters */
	CALL_IF(bpf, IS(0, BPF_MAP_LOOKUP_ELEM)),
	CALL_IF(bpf, IS(0, BPF_OBJ_GET_INFO_BY_FD)),
	CALL(epoll_create1),
	CALL(epoll_ctl),
	/* memory: never executable, and none that the bound on data does not count */
	CALL_IF(mmap, BITS(2, PROT_EXEC, 0), BITS(3, MAP_ANONYMOUS, 0)),
	CALL_IF(mmap, BITS(2, PROT_EXEC, 0), BITS(3, MAP_ANONYMOUS | MAP_SHARED, MAP_ANONYMOUS)),
	CALL_IF(mprotect, BITS(2, PROT_EXEC, 0)),
	CALL(munmap),
	CALL(mremap),
	CALL(brk),
	CALL(madvise),
	/* waiting */
	CALL(poll),
	CALL(ppoll),
	CALL(timerfd_create),
	CALL(timerfd_settime),
	CALL(signalfd4),
	CALL(pidfd_open), /* to see the target end; nothing else can be done with it */
	CALL(clock_gettime),
	CALL(clock_nanosleep),
	CALL(nanosleep),
	CALL(restart_syscall),
	CALL(futex),
	/* ourselves */
	CALL(getpid),
	CALL(getppid),
	CALL(gettid),
	CALL(uname),
	CALL(sysinfo),
	CALL(getrandom),
	CALL_IF(prctl, IS(0, PR_GET_SECCOMP)),
	CALL(rt_sigaction),
	CALL(rt_sigprocmask),
	CALL(rt_sigreturn),
	CALL(exit),
	CALL(exit_group),
#if CONFINE_SANITIZED
	/* reports, and the search for leaks by a thread that traces us */
	CALL(open),
	CALL(openat),
	CALL(stat),
	CALL(newfstatat),
	CALL(readlink),
	CALL(readlinkat),
	CALL(getdents),
	CALL(clone),
	CALL(ptrace),
	CALL(wait4),
	CALL(kill),
	CALL(tgkill),
	CALL(prctl),
	CALL(arch_prctl),
	CALL(sigaltstack),
	CALL(sched_yield),
	CALL(sched_getaffinity),
	CALL(getrlimit),
	CALL(prlimit64),
	CALL(getrusage),
	CALL(pipe),
	CALL(dup2),
	CALL(mmap),
	CALL(ioctl),
#endif
};

static const int deadly[] = {
	/* another program */
	SCMP_SYS(execve),
	SCMP_SYS(execveat),
	SCMP_SYS(personality),
	/* another process */
	SCMP_SYS(fork),
	SCMP_SYS(vfork),
	SCMP_SYS(clone3),
	SCMP_SYS(process_vm_readv),
	SCMP_SYS(process_vm_writev),
	SCMP_SYS(process_madvise),
	SCMP_SYS(pidfd_getfd),
	SCMP_SYS(pidfd_send_signal),
	SCMP_SYS(tkill),
	SCMP_SYS(rt_sigqueueinfo),
	SCMP_SYS(rt_tgsigqueueinfo),
#if !CONFINE_SANITIZED
	SCMP_SYS(clone),
	SCMP_SYS(ptrace),
	SCMP_SYS(kill),
#endif
	/* another machine */
	SCMP_SYS(socket),
	SCMP_SYS(socketpair),
	SCMP_SYS(connect),
	SCMP_SYS(bind),
	SCMP_SYS(listen),
	SCMP_SYS(accept),
	SCMP_SYS(accept4),
	/* another root */
	SCMP_SYS(chroot),
	SCMP_SYS(pivot_root),
	SCMP_SYS(mount),
	SCMP_SYS(umount2),
	SCMP_SYS(fsopen),
	SCMP_SYS(fsmount),
	SCMP_SYS(open_tree),
	SCMP_SYS(move_mount),
	SCMP_SYS(unshare),
	SCMP_SYS(setns),
	/* the kernel's less trodden parts */
	SCMP_SYS(init_module),
	SCMP_SYS(finit_module),
	SCMP_SYS(delete_module),
	SCMP_SYS(kexec_load),
	SCMP_SYS(kexec_file_load),
	SCMP_SYS(perf_event_open),
	SCMP_SYS(userfaultfd),
	SCMP_SYS(io_uring_setup),
	SCMP_SYS(io_uring_enter),
	SCMP_SYS(io_uring_register),
	SCMP_SYS(add_key),
	SCMP_SYS(request_key),
	SCMP_SYS(keyctl),
};

/* The size of files is not bounded: standard output and the raw log are files of any length. */
static const struct {
	int resource;
	rlim_t most;
} limits[] = {
	{ RLIMIT_CORE, 0 },
	{ RLIMIT_NOFILE, CONFINE_FILES },
#if !CONFINE_SANITIZED
	{ RLIMIT_NPROC, 0 },
	/* Not of addresses: a log to replay is mapped whole, and that takes no memory. */
	{ RLIMIT_DATA, CONFINE_DATA_BYTES },
#endif
};

/* What is lower already stays. */
static int limit_resources(void)
{
	struct rlimit now;

	for (size_t i = 0; i < LENGTH(limits); i++) {
		if (getrlimit(limits[i].resource, &now))
			return -errno;
		if (now.rlim_max > limits[i].most)
			now.rlim_max = limits[i].most;
		if (now.rlim_cur > now.rlim_max)
			now.rlim_cur = now.rlim_max;
		if (setrlimit(limits[i].resource, &now))
			return -errno;
	}
	return 0;
}

static int add_rules(scmp_filter_ctx filter)
{
	/* abort() must end us, and nobody else. */
	const struct scmp_arg_cmp own = { .op = SCMP_CMP_EQ, .datum_a = (scmp_datum_t)getpid() };
	int err = 0;

	for (size_t i = 0; i < LENGTH(allowed) && !err; i++)
		err = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, allowed[i].call,
					     allowed[i].conditions, allowed[i].condition);
	for (size_t i = 0; i < LENGTH(deadly) && !err; i++)
		err = seccomp_rule_add_array(filter, SCMP_ACT_KILL_PROCESS, deadly[i], 0, NULL);
	if (!err && !CONFINE_SANITIZED)
		err = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1, &own);
	return err;
}

static int filter_calls(void)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int err = filter ? 0 : -ENOMEM;

	/* Calls by the numbers of another architecture would be other calls. */
	if (!err)
		err = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	if (!err)
		err = add_rules(filter);
	if (!err)
		err = seccomp_load(filter);
	seccomp_release(filter);
	return err;
}

/* False only where the kernel was built without: asked before any foreign byte was seen. */
static bool can_filter(void)
{
	const uint32_t action = SECCOMP_RET_KILL_PROCESS;

	return !syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) ||
	       (errno != ENOSYS && errno != EINVAL);
}

/* Asked of the kernel, and tried. */
static bool is_confined(void)
{
	int fd;

	if (prctl(PR_GET_SECCOMP, 0, 0, 0, 0) != SECCOMP_MODE_FILTER)
		return false;
	if (CONFINE_SANITIZED)
		return true;
	fd = open("/", O_RDONLY | O_CLOEXEC);
	if (fd >= 0)
		close(fd);
	return fd < 0 && errno == EPERM;
}

int confine__enter(struct error *e)
{
	int err = limit_resources();

	if (!err && !can_filter()) {
		log_warn("the reader is not confined by a system-call filter: this kernel has "
			 "none (CONFIG_SECCOMP_FILTER)");
		return 0;
	}
	if (!err)
		err = filter_calls();
	if (!err && !is_confined())
		err = -EPERM;
	if (err)
		return error__set(e, EXIT_FAILED, -err, NULL,
				  "collector: failed to confine the reader: %s", strerror(-err));
	return 0;
}
