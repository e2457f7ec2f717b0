/* SPDX-License-Identifier: BSD-2-Clause */
/* What a confined process can still do, and what it cannot: asked with all rights where we have
 * them, so that a refusal is the filter's. */
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "collector/confine.h"
#include "collector/sandbox.h"
#include "probe/base/error.h"
#include "probe/target/model_config.h"
#include "tests/unit/child.h"

#define UNCONFINED 251 /* exit codes of a child that did not get so far */
#define AS_EXPECTED 0

/* How a confined child ended that ran @body: its wait status. */
static int run_confined(int (*body)(const void *), const void *argument)
{
	struct error e = { 0 };
	int status;
	pid_t pid = fork_mortal();

	assert_true(pid >= 0);
	if (!pid) {
		if (confine__enter(&e)) {
			error__print(&e, "test", stderr);
			_exit(UNCONFINED);
		}
		_exit(body(argument));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

/* --- calls that kill ------------------------------------------------------------------------ */

struct call {
	const char *name;
	long number;
	long argument[6];
};

#define CALL(name, ...) \
	{ \
#name, SYS_##name, \
		{ \
			__VA_ARGS__ \
		} \
	}

static const struct call deadly[] = {
	CALL(execve, 0),
	CALL(execveat, -1),
	CALL(personality, 0xffffffff),
	CALL(vfork, 0),
	CALL(clone3, 0),
	CALL(process_vm_readv, 0),
	CALL(process_vm_writev, 0),
	CALL(pidfd_getfd, -1),
	CALL(pidfd_send_signal, -1),
	CALL(tkill, 0),
	CALL(rt_sigqueueinfo, 0),
#if !CONFINE_SANITIZED
	CALL(clone, SIGCHLD),
	CALL(ptrace, 0),
	CALL(kill, 0),
#endif
	CALL(socket, AF_INET, SOCK_STREAM),
	CALL(socket, AF_UNIX, SOCK_STREAM),
	CALL(connect, -1),
	CALL(bind, -1),
	CALL(listen, -1),
	CALL(accept4, -1),
	CALL(mount, 0),
	CALL(umount2, 0),
	CALL(chroot, 0),
	CALL(pivot_root, 0),
	CALL(unshare, 0),
	CALL(setns, -1),
	CALL(init_module, 0),
	CALL(finit_module, -1),
	CALL(delete_module, 0),
	CALL(kexec_load, 0),
	CALL(perf_event_open, 0),
	CALL(userfaultfd, 0),
	CALL(io_uring_setup, 0),
	CALL(add_key, 0),
	CALL(request_key, 0),
	CALL(keyctl, 0),
};

static int make(const void *argument)
{
	const struct call *c = argument;
	const long *a = c->argument;

	errno = 0;
	if (syscall(c->number, a[0], a[1], a[2], a[3], a[4], a[5]) < 0)
		return errno;
	return 0;
}

static void test_deadly(void **state)
{
	for (size_t i = 0; i < sizeof(deadly) / sizeof(*deadly); i++) {
		int status = run_confined(make, &deadly[i]);

		if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS)
			fail_msg("%s: status %#x, not ended by SIGSYS", deadly[i].name, status);
	}
}

/* --- calls that are refused ----------------------------------------------------------------- */

static const struct call refused[] = {
	CALL(bpf, BPF_MAP_CREATE),
	CALL(bpf, BPF_MAP_UPDATE_ELEM),
	CALL(bpf, BPF_PROG_LOAD),
	CALL(bpf, BPF_LINK_CREATE),
	CALL(bpf, BPF_OBJ_GET),
	CALL(bpf, BPF_MAP_GET_FD_BY_ID, 0, 0),
	CALL(mprotect, 0, 0, PROT_READ | PROT_EXEC),
	CALL(pkey_mprotect, 0, 0, PROT_READ | PROT_EXEC, -1),
	CALL(shmat, -1),
	CALL(memfd_create, 0),
	CALL(fcntl, 0, F_SETOWN, 1),
	CALL(sendmsg, -1),
	CALL(open_by_handle_at, -1),
	CALL(setresuid, -1, -1, -1),
	CALL(seccomp, 1),
	CALL(inotify_init1, 0),
	CALL(fanotify_init, 0),
	CALL(ftruncate, -1),
	CALL(truncate, 0),
	CALL(unlinkat, -1),
	CALL(renameat2, -1),
	CALL(openat2, -1),
	CALL(mknodat, -1),
	CALL(chmod, 0),
	CALL(creat, 0),
	CALL(reboot, 0),
	CALL(swapon, 0),
	CALL(setpriority, 0),
	CALL(sched_setaffinity, 0),
#if !CONFINE_SANITIZED
	CALL(openat, AT_FDCWD, (long)"/proc/self/maps", O_RDONLY),
	CALL(open, (long)"/", O_RDONLY),
	CALL(newfstatat, AT_FDCWD, (long)"/", 0, 0),
	CALL(newfstatat, AT_FDCWD, (long)"/", 0, AT_EMPTY_PATH),
	CALL(newfstatat, AT_FDCWD, (long)"", 0, AT_EMPTY_PATH),
	CALL(newfstatat, (uint32_t)AT_FDCWD, (long)"/", 0, AT_EMPTY_PATH),
	CALL(newfstatat, 0, (long)"/", 0, 0),
	CALL(newfstatat, 0, (long)"/", 0, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW),
	CALL(readlink, (long)"/proc/self/exe", 0, 0),
	CALL(ioctl, 0, TIOCSTI, (long)"x"),
	CALL(tgkill, 1, 1, 0),
	CALL(prctl, PR_SET_DUMPABLE, 1),
	CALL(prlimit64, 0, RLIMIT_NOFILE, 0, 0),
	CALL(mmap, 0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
	CALL(mmap, 0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0),
	CALL(mmap, 0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, 0, 0),
#endif
};

static void test_refused(void **state)
{
	for (size_t i = 0; i < sizeof(refused) / sizeof(*refused); i++) {
		int status = run_confined(make, &refused[i]);

		if (!WIFEXITED(status) || WEXITSTATUS(status) != EPERM)
			fail_msg("%s (row %zu): status %#x, not EPERM", refused[i].name, i, status);
	}
}

/* --- what the reader does ------------------------------------------------------------------- */

#define EXPECT(condition) \
	do { \
		if (!(condition)) \
			return __LINE__ % 200 + 1; \
	} while (0)

static int use_memory(void)
{
	const size_t size = 32u << 20;
	char *at = malloc(size);
	struct stat st;

	EXPECT(at);
	memset(at, 1, size);
	at = realloc(at, 2 * size);
	EXPECT(at && at[size - 1] == 1);
	free(at);
	at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	EXPECT(at != MAP_FAILED && !mprotect(at, 4096, PROT_READ) && !munmap(at, 4096));
	EXPECT(!fstat(0, &st));
	return 0;
}

static int use_descriptors(const int *ends, int file)
{
	const struct itimerspec soon = { .it_value = { 0, 1 } };
	struct epoll_event event = { .events = EPOLLIN };
	char text[8], control[CMSG_SPACE(sizeof(int))];
	struct iovec part = { text, sizeof(text) };
	struct msghdr m = { .msg_iov = &part,
			    .msg_iovlen = 1,
			    .msg_control = control,
			    .msg_controllen = sizeof(control) };
	struct pollfd timer = { .events = POLLIN };
	sigset_t none;
	void *mapped;
	int fd;

	EXPECT(send(ends[0], "ask", 3, MSG_NOSIGNAL) == 3 && recvmsg(ends[1], &m, 0) == 3);
	EXPECT(pread(file, text, 4, 0) == 4 && lseek(file, 0, SEEK_SET) == 0);
	mapped = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, file, 0);
	EXPECT(mapped != MAP_FAILED && !munmap(mapped, 4096));
	fd = dup(file);
	EXPECT(fd >= 0 && fcntl(fd, F_GETFL) >= 0 && !close(fd));
	timer.fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	EXPECT(timer.fd >= 0 && !timerfd_settime(timer.fd, 0, &soon, NULL));
	EXPECT(poll(&timer, 1, 1000) == 1);
	sigemptyset(&none);
	EXPECT(signalfd(-1, &none, SFD_CLOEXEC) >= 0);
	fd = epoll_create1(EPOLL_CLOEXEC);
	EXPECT(fd >= 0 && !epoll_ctl(fd, EPOLL_CTL_ADD, timer.fd, &event));
	EXPECT(syscall(SYS_pidfd_open, getppid(), 0) >= 0);
	return 0;
}

struct opened {
	int ends[2], file, directory;
};

static int live(const void *argument)
{
	static union bpf_attr no_map = { .map_fd = UINT32_MAX };
	const struct opened *o = argument;
	const struct timespec wait = { .tv_nsec = 1000 };
	char entries[1024], host[256];
	int failed = use_memory();

	if (!failed)
		failed = use_descriptors(o->ends, o->file);
	if (failed)
		return failed;
	EXPECT(syscall(SYS_getdents64, o->directory, entries, sizeof(entries)) > 0);
	EXPECT(syscall(SYS_bpf, BPF_MAP_LOOKUP_ELEM, &no_map, sizeof(no_map)) < 0);
	EXPECT(errno == EBADF);
	EXPECT(syscall(SYS_bpf, BPF_OBJ_GET_INFO_BY_FD, &no_map, sizeof(no_map)) < 0);
	EXPECT(errno != EPERM);
	EXPECT(!gethostname(host, sizeof(host)) && !nanosleep(&wait, NULL));
	EXPECT(prctl(PR_GET_SECCOMP, 0, 0, 0, 0) == 2);
	return AS_EXPECTED;
}

static void test_allowed(void **state)
{
	struct opened o;
	int status;

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, o.ends), 0);
	o.file = open("/proc/self/exe", O_RDONLY);
	o.directory = open("/proc", O_RDONLY | O_DIRECTORY);
	assert_true(o.file >= 0 && o.directory >= 0);
	status = run_confined(live, &o);
	assert_int_equal(status, 0);
	close(o.ends[0]);
	close(o.ends[1]);
	close(o.file);
	close(o.directory);
}

static int give_up(const void *unused)
{
	abort();
}

/* What the C library and stack protection do about damage works: it ends at once, by its name. */
static void test_abort(void **state)
{
	int status = run_confined(give_up, NULL);

	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGABRT);
}

/* --- resources ------------------------------------------------------------------------------ */

static int use_up(const void *unused)
{
	volatile size_t much = CONFINE_DATA_BYTES + 4096;
	int last = -1, fd;

	while ((fd = dup(0)) >= 0)
		last = fd;
	EXPECT(errno == EMFILE && last == CONFINE_FILES - 1);
	if (CONFINE_SANITIZED)
		return AS_EXPECTED;
	errno = 0;
	EXPECT(!malloc(much) && errno == ENOMEM);
	EXPECT(mmap(NULL, much, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
	       MAP_FAILED);
	return AS_EXPECTED;
}

static void test_resources(void **state)
{
	assert_int_equal(run_confined(use_up, NULL), 0);
}

/* Models are parsed by a library, which wants a locale and random numbers; and one that was made to
 * take as much memory as it can. */
static int read_models(const void *unused)
{
	static const char model[] = "{\"model_type\":\"x\",\"num_hidden_layers\":2,"
				    "\"num_experts\":4,\"routed_scaling_factor\":2.5}";
	const size_t size = MODEL_CONFIG_BYTES_MAX;
	char *large = malloc(size);
	struct model_config c;

	EXPECT(large);
	EXPECT(!model_config__parse(&c, "x", model, strlen(model), NULL, 0, NULL));
	EXPECT(c.moe_layers == 2 && c.routed_scaling == 2.5);
	memcpy(large, "{\"model_type\":[{}", 17);
	for (size_t i = 17; i + 3 <= size; i += 3)
		memcpy(large + i, ",{}", 3);
	EXPECT(model_config__parse(&c, "x", large, size, NULL, 0, NULL) == -EINVAL);
	free(large);
	return AS_EXPECTED;
}

static void test_models(void **state)
{
	assert_int_equal(run_confined(read_models, NULL), 0);
}

/* --- and the rights ------------------------------------------------------------------------- */

/* In a child: give all away, then look. */
static int enter_sandbox(void)
{
	struct sandbox_user u;
	struct error e = { 0 };

	if (sandbox__choose(&u, NULL, &e) || sandbox__enter(&u, &e))
		return UNCONFINED;
	EXPECT(prctl(PR_GET_SECCOMP, 0, 0, 0, 0) == 2);
	return AS_EXPECTED;
}

static void test_sandbox_confines(void **state)
{
	int status;
	pid_t pid = fork_mortal();

	assert_true(pid >= 0);
	if (!pid)
		_exit(enter_sandbox());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_deadly),           cmocka_unit_test(test_refused),
		cmocka_unit_test(test_allowed),          cmocka_unit_test(test_abort),
		cmocka_unit_test(test_resources),        cmocka_unit_test(test_models),
		cmocka_unit_test(test_sandbox_confines),
	};

	return cmocka_run_group_tests_name("confine", tests, NULL, NULL);
}
