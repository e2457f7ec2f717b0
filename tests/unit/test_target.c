/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Real processes: this one, and children that are forked, executed, killed, put into other
 * roots and namespaces. What needs root says so and is skipped without.
 */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "probe/base/error.h"
#include "probe/target/elf.h"
#include "probe/target/opener.h"
#include "probe/target/target.h"
#include "tests/unit/child.h"

#define AGAIN "exec-again" /* argv[1] of a child: exec once more when a byte comes */

static char scratch[] = "/tmp/test_target.XXXXXX";

static struct target *open_target(pid_t pid)
{
	struct error e = { 0 };
	struct target *t;

	if (target__open(&t, pid, &opener_direct, &e))
		fail_msg("%s", e.what);
	return t;
}

static void knows_this_process(void **state)
{
	struct target *t = open_target(getpid());
	const struct target_info *info = target__info(t);
	char self[PATH_MAX];
	struct stat ns;
	const char *cmdline;
	size_t size;
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	assert_true(n > 0);
	self[n] = '\0';
	assert_int_equal(info->pid, getpid());
	assert_int_equal(info->parent, getppid());
	assert_int_equal(info->threads, 1);
	assert_true(info->start_ticks > 0);
	assert_int_equal(stat("/proc/self/ns/pid", &ns), 0);
	assert_true(info->pid_namespace_inode == ns.st_ino);
	assert_string_equal(info->command, "test_target");
	if (strlen(self) < sizeof(info->executable))
		assert_string_equal(info->executable, self);
	cmdline = target__cmdline(t, &size);
	assert_true(size > strlen("test_target"));
	assert_non_null(strstr(cmdline, "test_target"));
	assert_int_equal(cmdline[size], '\0');
	assert_ptr_equal(target__opener(t), &opener_direct);
	assert_true(target__is_same(t));
	target__free(t);
	target__free(NULL);
}

static void lists_each_library_once(void **state)
{
	struct target *t = open_target(getpid());
	const struct mapping *m, *last = NULL;
	size_t at = 0, count, executable = 0;
	bool found_c = false, found_self = false;
	uint64_t here = (uint64_t)(uintptr_t)lists_each_library_once;

	assert_non_null(target__mappings(t, &count));
	while ((m = target__next_library(t, &at))) {
		struct error e = { 0 };
		struct elf_symbol s;
		struct elf *f, *again;

		assert_true(m->executable);
		assert_true(!last || last->end <= m->start);
		last = m;
		executable++;
		assert_int_equal(target__elf(t, m, &f, &e), 0);
		assert_int_equal(target__elf(t, m, &again, &e), 0);
		assert_ptr_equal(f, again);
		assert_string_equal(elf__name(f), m->path);
		found_c |= !elf__symbol(f, "malloc_usable_size", &s);
		found_self |= here >= m->start && here < m->end &&
			      !elf__symbol(f, "lists_each_library_once", &s) && s.local &&
			      m->start - m->offset + s.file_offset == here;
	}
	assert_true(executable >= 3 && executable < count);
	assert_true(found_c && found_self);
	assert_null(target__next_library(t, &at));
	target__free(t);
}

static int expect_error(pid_t pid, const struct opener *o, enum exit_code exit, struct error *e)
{
	struct target *t = (struct target *)e;
	int err;

	memset(e, 0, sizeof(*e));
	err = target__open(&t, pid, o, e);
	assert_true(err < 0);
	assert_null(t);
	assert_int_equal(e->errnum, -err);
	assert_int_equal(e->exit, exit);
	return err;
}

static void refuses_a_process_that_is_not_there(void **state)
{
	static const pid_t never[] = { 0, -1, INT_MIN, INT_MAX };
	char expected[128];
	struct error e;
	pid_t pid = spawn(NULL);

	end(pid);
	assert_int_equal(expect_error(pid, &opener_direct, EXIT_NO_TARGET, &e), -ESRCH);
	snprintf(expected, sizeof(expected), "target: failed to open process '%d': no such process",
		 (int)pid);
	assert_string_equal(e.what, expected);
	assert_string_equal(e.remedy, "list candidates with: moeprobe attach");
	for (size_t i = 0; i < sizeof(never) / sizeof(never[0]); i++)
		assert_int_equal(expect_error(never[i], &opener_direct, EXIT_NO_TARGET, &e),
				 -ESRCH);
}

static void refuses_a_zombie(void **state)
{
	struct error e;
	siginfo_t info;
	pid_t pid = fork_mortal();

	assert_true(pid >= 0);
	if (!pid)
		_exit(0);
	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	expect_error(pid, &opener_direct, EXIT_UNSUPPORTED, &e);
	assert_non_null(strstr(e.what, "it is a zombie ('test_target' has exited"));
	end(pid);
}

static void refuses_a_kernel_thread(void **state)
{
	char name[32] = "";
	struct error e;
	FILE *comm = fopen("/proc/2/comm", "r");

	if (!comm || !fgets(name, sizeof(name), comm) || strcmp(name, "kthreadd\n")) {
		print_message("SKIP: no kernel threads in this pid namespace\n");
		skip();
	}
	fclose(comm);
	expect_error(2, &opener_direct, EXIT_UNSUPPORTED, &e);
	assert_non_null(strstr(e.what, "it is the kernel thread 'kthreadd'"));
}

/* An opener that fails with @denied_errno for one file. */
static enum proc_file denied;
static int denied_errno;

static int deny(void *ctx, pid_t pid, enum proc_file file)
{
	return file == denied ? -denied_errno : opener_direct.open_proc(ctx, pid, file);
}

static void names_what_it_has_no_right_to(void **state)
{
	static const enum proc_file needed[] = { PROC_MAPS, PROC_EXE, PROC_STAT };
	struct opener o = opener_direct;
	struct error e = { 0 };
	struct target *t;

	o.open_proc = deny;
	denied_errno = EACCES;
	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
		denied = needed[i];
		assert_int_equal(expect_error(getpid(), &o, EXIT_PERMISSION, &e), -EACCES);
		assert_non_null(strstr(e.what, "no right to read its "));
		assert_non_null(strstr(e.remedy, "sudo moeprobe attach "));
	}
	error__clear(&e);
	denied = PROC_NS_PID; /* one can do without */
	assert_int_equal(target__open(&t, getpid(), &o, &e), 0);
	assert_int_equal(target__info(t)->pid_namespace_inode, 0);
	denied = PROC_EXE;
	assert_true(target__is_same(t)); /* not asked is not changed */
	denied_errno = ENOENT;
	assert_false(target__is_same(t));
	target__free(t);
}

static void refuses_without_rights(void **state)
{
	struct error e;

	need_root();
	assert_int_equal(seteuid(65534), 0);
	expect_error(1, &opener_direct, EXIT_PERMISSION, &e);
	assert_int_equal(seteuid(0), 0);
}

static int denied_mapped(void *ctx, pid_t pid, uint64_t start, uint64_t end)
{
	return -EPERM;
}

static int other_path(void *ctx, pid_t pid, const char *path)
{
	return open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
}

/* Without the right to map_files the path serves, but only if it is the same file. */
static void falls_back_to_the_path(void **state)
{
	struct opener o = opener_direct;
	struct error e = { 0 };
	const struct mapping *m;
	struct target *t;
	struct elf *f;
	size_t at = 0;

	o.open_mapped = denied_mapped;
	assert_int_equal(target__open(&t, getpid(), &o, &e), 0);
	while ((m = target__next_library(t, &at)))
		assert_int_equal(target__elf(t, m, &f, &e), 0);
	target__free(t);
	o.open_path = other_path;
	assert_int_equal(target__open(&t, getpid(), &o, &e), 0);
	for (at = 0; (m = target__next_library(t, &at));)
		if (strstr(m->path, "libc.so"))
			break;
	assert_non_null(m);
	assert_int_equal(target__elf(t, m, &f, &e), -EPERM);
	assert_null(f);
	assert_int_equal(e.exit, EXIT_PERMISSION);
	assert_non_null(strstr(e.what, m->path));
	target__free(t);
}

static void notices_exit(void **state)
{
	pid_t pid = spawn(NULL);
	struct target *t = open_target(pid);
	struct error e = { 0 };
	struct elf *f;
	size_t at = 0;
	siginfo_t info;

	assert_true(target__is_same(t));
	kill(pid, SIGKILL);
	waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT);
	assert_false(target__is_same(t)); /* a zombie still has its pid */
	assert_false(target__has_memory(t));
	end(pid);
	assert_false(target__is_same(t));
	assert_int_equal(target__elf(t, target__next_library(t, &at), &f, &e), -ENOENT);
	assert_int_equal(e.exit, EXIT_NO_TARGET);
	target__free(t);
}

/* An exec of the very same file: pid, start time and executable stay what they were. */
static void notices_exec(void **state)
{
	int to[2], from[2];
	struct target *t;
	char byte;
	pid_t pid;

	assert_int_equal(pipe(to) | pipe(from), 0);
	pid = fork_mortal();
	if (!pid) {
		dup2(to[0], STDIN_FILENO);
		dup2(from[1], STDOUT_FILENO);
		execl("/proc/self/exe", "test_target", AGAIN, NULL);
		_exit(1);
	}
	assert_int_equal(read(from[0], &byte, 1), 1);
	t = open_target(pid);
	assert_true(target__is_same(t));
	assert_int_equal(write(to[1], "x", 1), 1);
	assert_int_equal(read(from[0], &byte, 1), 1); /* it has executed itself again */
	assert_false(target__is_same(t));
	assert_true(target__has_memory(t)); /* which tells it from one that ends */
	target__free(t);
	t = open_target(pid);
	assert_true(target__is_same(t));
	target__free(t);
	end(pid);
	close(to[0]), close(to[1]), close(from[0]), close(from[1]);
}

static int exec_again(void)
{
	char byte;

	if (write(STDOUT_FILENO, "x", 1) != 1 || read(STDIN_FILENO, &byte, 1) != 1)
		return 1;
	execl("/proc/self/exe", "test_target", AGAIN, NULL);
	return 1;
}

static void copy_file(const char *from, const char *to)
{
	int in = open(from, O_RDONLY | O_CLOEXEC), out = open(to, O_WRONLY | O_CREAT, 0755);
	char block[65536];
	ssize_t n;

	if (in < 0 || out < 0)
		_exit(1);
	while ((n = read(in, block, sizeof(block))) > 0)
		if (write(out, block, (size_t)n) != n)
			_exit(1);
	close(in);
	close(out);
}

/* Load a copy of a library and take its name away. */
static char library_source[PATH_MAX], library_copy[PATH_MAX];

static void load_and_delete(void)
{
	copy_file(library_source, library_copy);
	if (!dlopen(library_copy, RTLD_NOW) || unlink(library_copy))
		_exit(1);
}

static void load_under_a_private_mount(void)
{
	if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("none", scratch, "tmpfs", 0, NULL))
		_exit(1);
	copy_file(library_source, library_copy);
	if (!dlopen(library_copy, RTLD_NOW))
		_exit(1);
}

/* The copy in @pid, which no path of ours leads to, has the symbol. */
static void expect_copy(pid_t pid, bool deleted)
{
	struct target *t = open_target(pid);
	const struct mapping *m;
	struct error e = { 0 };
	struct elf_symbol s;
	struct elf *f;
	size_t at = 0;

	while ((m = target__next_library(t, &at)))
		if (!strcmp(m->path, library_copy))
			break;
	assert_non_null(m);
	assert_int_equal(m->deleted, deleted);
	assert_int_equal(access(library_copy, F_OK), -1);
	if (target__elf(t, m, &f, &e))
		fail_msg("%s", e.what);
	assert_int_equal(elf__symbol(f, "_cmocka_run_group_tests", &s), 0);
	target__free(t);
}

static void reads_a_deleted_library(void **state)
{
	pid_t pid;

	need_root();
	pid = spawn(load_and_delete);
	expect_copy(pid, true);
	end(pid);
}

static void reads_a_library_of_another_mount_namespace(void **state)
{
	pid_t pid;

	need_root();
	pid = spawn(load_under_a_private_mount);
	expect_copy(pid, false);
	end(pid);
}

static void lists_processes(void **state)
{
	struct opener o = opener_direct;
	pid_t *pids;
	size_t count;
	bool found = false;

	assert_int_equal(target__list_pids(&pids, &count, &o), 0);
	for (size_t i = 0; i < count; i++) {
		assert_true(!i || pids[i - 1] < pids[i]);
		found |= pids[i] == getpid();
	}
	assert_true(found);
	free(pids);
}

static int listen_on(int family, uint16_t *port)
{
	struct sockaddr_storage address = { .ss_family = (sa_family_t)family };
	socklen_t size = sizeof(address);
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, 1))
		return -1;
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
	*port = ntohs(family == AF_INET ? ((struct sockaddr_in *)&address)->sin_port
					: ((struct sockaddr_in6 *)&address)->sin6_port);
	return fd;
}

static void finds_listening_ports(void **state)
{
	uint16_t four, six = 0, ports[4];
	int fd4, fd6;

	assert_int_equal(target__listening_ports(getpid(), &opener_direct, ports, 4), 0);
	fd4 = listen_on(AF_INET, &four);
	assert_true(fd4 >= 0);
	assert_int_equal(target__listening_ports(getpid(), &opener_direct, ports, 4), 1);
	assert_int_equal(ports[0], four);
	fd6 = listen_on(AF_INET6, &six);
	if (fd6 >= 0) {
		assert_int_equal(target__listening_ports(getpid(), &opener_direct, ports, 4), 2);
		assert_int_equal(ports[0], four < six ? four : six);
		assert_int_equal(ports[1], four < six ? six : four);
		assert_int_equal(target__listening_ports(getpid(), &opener_direct, ports, 1), 1);
		close(fd6);
	}
	close(fd4);
	assert_int_equal(target__listening_ports(getpid(), &opener_direct, ports, 4), 0);
	assert_int_equal(target__listening_ports(INT_MAX, &opener_direct, ports, 4), -ENOENT);
}

static int make_scratch(void **state)
{
	Dl_info info;

	if (!mkdtemp(scratch) || !dladdr(dlsym(RTLD_DEFAULT, "_cmocka_run_group_tests"), &info))
		return -1;
	snprintf(library_source, sizeof(library_source), "%s", info.dli_fname);
	snprintf(library_copy, sizeof(library_copy), "%s/copy of.so", scratch);
	return 0;
}

static int remove_scratch(void **state)
{
	char command[64];

	snprintf(command, sizeof(command), "rm -rf %s", scratch);
	return system(command);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(knows_this_process),
		cmocka_unit_test(lists_each_library_once),
		cmocka_unit_test(refuses_a_process_that_is_not_there),
		cmocka_unit_test(refuses_a_zombie),
		cmocka_unit_test(refuses_a_kernel_thread),
		cmocka_unit_test(names_what_it_has_no_right_to),
		cmocka_unit_test(refuses_without_rights),
		cmocka_unit_test(falls_back_to_the_path),
		cmocka_unit_test(notices_exit),
		cmocka_unit_test(notices_exec),
		cmocka_unit_test(reads_a_deleted_library),
		cmocka_unit_test(reads_a_library_of_another_mount_namespace),
		cmocka_unit_test(lists_processes),
		cmocka_unit_test(finds_listening_ports),
	};

	if (argc > 1 && !strcmp(argv[1], AGAIN))
		return exec_again();
	return cmocka_run_group_tests(tests, make_scratch, remove_scratch);
}
