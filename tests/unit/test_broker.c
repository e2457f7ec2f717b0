/* SPDX-License-Identifier: BSD-2-Clause */
/* What the broker does for a reader, and what it refuses to one that was taken over: files of
 * other processes, kinds that are not on the list, sizes out of bounds. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "collector/broker.h"
#include "collector/broker_client.h"
#include "probe/base/error.h"
#include "tests/unit/broker_play.h"

static void test_whose_files(void **state)
{
	struct family f = start_family();
	struct broker *b = start_broker(f.parent, false);

	assert_int_equal(open_stat(b, f.parent), 0);
	assert_int_equal(open_stat(b, f.child), 0);
	assert_int_equal(open_stat(b, 0), -EACCES);
	assert_int_equal(open_stat(b, -1), -EACCES);
	assert_int_equal(open_stat(b, INT32_MAX), -EACCES);
	end_family(&f);
	/* Gone: the number may belong to anybody now. */
	assert_int_equal(open_stat(b, f.parent), -ESRCH);
	broker__free(b);
}

/* Of who started it, what it was started as; of others nothing. */
static void test_ancestors(void **state)
{
	struct family f = start_family(), g = start_family();
	struct broker *b = start_broker(f.child, false);

	for (uint32_t file = 0; file < PROC_FILE_COUNT; file++) {
		struct broker_request r = { .operation = BROKER_OPEN_PROC, .file = file };
		bool told = file == PROC_STAT || file == PROC_CMDLINE;

		r.pid = f.parent;
		assert_int_equal(ask(b, &r), told ? 0 : -EACCES);
		r.pid = getpid();
		assert_int_equal(ask(b, &r), told ? 0 : -EACCES);
		r.pid = g.child;
		assert_int_equal(ask(b, &r), -EACCES);
		r.operation = BROKER_OPEN_PATH;
		r.pid = f.parent;
		assert_int_equal(ask(b, &r), -EACCES);
	}
	end_family(&g);
	end_family(&f);
	assert_int_equal(open_stat(b, getpid()), -ESRCH);
	broker__free(b);
}

/* Nor those of a descendant that became another user's, by a setuid program say. */
static void test_whose_files_by_user(void **state)
{
	static const uid_t nobody = 65534;
	struct family f;
	struct broker *b;

	if (geteuid())
		skip();
	f = start_family_of(nobody);
	b = start_broker(f.parent, false);
	for (uint32_t i = 0; i < 3; i++) {
		static const uint32_t operations[] = { BROKER_OPEN_PROC, BROKER_OPEN_PATH,
						       BROKER_READ_FD_LINK };
		struct broker_request r = { .operation = operations[i], .pid = f.child };

		assert_int_equal(ask(b, &r), -EACCES);
	}
	assert_int_equal(open_stat(b, f.parent), 0);
	end_family(&f);
	broker__free(b);
}

static void test_list_may_look_not_touch(void **state)
{
	struct family f = start_family();
	struct broker *b = start_broker(0, true);
	struct broker_request link = { .operation = BROKER_LINK, .pid = f.parent };
	struct broker_request list = { .operation = BROKER_OPEN_LIST };

	assert_int_equal(open_stat(b, f.parent), 0);
	assert_int_equal(open_stat(b, getpid()), 0);
	assert_int_equal(open_stat(b, 0), -EINVAL);
	assert_int_equal(ask(b, &list), 0);
	{
		struct broker_request r = { .operation = BROKER_OPEN_PROC, .pid = f.parent };

		r.file = PROC_CGROUP;
		assert_int_equal(ask(b, &r), -EACCES);
		r.file = PROC_NS_MNT;
		assert_int_equal(ask(b, &r), -EACCES);
		r.file = PROC_CMDLINE;
		assert_int_equal(ask(b, &r), 0);
	}
	link.places.count = 1;
	assert_true(ask(b, &link) < 0);
	end_family(&f);
	broker__free(b);
}

static void test_no_such_process(void **state)
{
	struct family f = start_family();
	struct broker_options o = { .pid = f.parent };
	struct error e = { 0 };
	struct broker *b;

	end_family(&f);
	assert_int_equal(broker__new(&b, &o, &e), -ESRCH);
	assert_null(b);
	assert_int_equal(e.exit, EXIT_NO_TARGET);
	assert_non_null(strstr(e.what, "no such process"));
}

static void test_which_files(void **state)
{
	struct family f = start_family();
	struct broker *b = start_broker(f.parent, false);
	struct broker_request r = { .operation = BROKER_OPEN_PROC, .pid = f.parent };

	for (uint32_t i = 0; i < PROC_FILE_COUNT; i++) {
		r.file = i;
		if (i != PROC_NET_TCP6) /* a kernel without IPv6 has none */
			assert_int_equal(ask(b, &r), 0);
	}
	r.file = PROC_FILE_COUNT;
	assert_int_equal(ask(b, &r), -EINVAL);
	r.file = UINT32_MAX;
	assert_int_equal(ask(b, &r), -EINVAL);
	r.operation = BROKER_OPEN_MAPPED;
	r.start = 1;
	r.end = 0;
	assert_true(ask(b, &r) < 0);
	r.operation = BROKER_OPEN_PATH;
	memset(r.path, 'a', sizeof(r.path));
	assert_int_equal(ask(b, &r), -EINVAL);
	strcpy(r.path, "/proc/self/mem");
	assert_true(ask(b, &r) < 0);
	strcpy(r.path, "/dev/zero");
	assert_true(ask(b, &r) < 0);
	strcpy(r.path, "");
	assert_true(ask(b, &r) < 0);
	end_family(&f);
	broker__free(b);
}

/* A process of user @uid without groups. */
static pid_t start_as(uid_t uid)
{
	int ends[2];
	pid_t pid;
	char ready;

	assert_int_equal(pipe(ends), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		if (setgroups(0, NULL) || setresgid(uid, uid, uid) || setresuid(uid, uid, uid) ||
		    write(ends[1], "r", 1) != 1)
			_exit(1);
		wait_for_ever();
	}
	close(ends[1]);
	assert_int_equal(read(ends[0], &ready, 1), 1);
	close(ends[0]);
	return pid;
}

static int open_path(struct broker *b, pid_t pid, const char *path)
{
	struct broker_request r = { .operation = BROKER_OPEN_PATH, .pid = pid };

	snprintf(r.path, sizeof(r.path), "%s", path);
	return ask(b, &r);
}

static void write_file(const char *path, uid_t uid, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	assert_int_equal(fchown(fd, uid, uid), 0);
	close(fd);
}

/* What a process cannot read itself, it cannot have read by us; and nothing but models. */
static void test_rights_of_target(void **state)
{
	static const uid_t nobody = 65534;
	char own[64], other[64];
	struct broker *b;
	pid_t pid, root;

	if (geteuid())
		skip();
	snprintf(own, sizeof(own), "/tmp/broker-%d-own", getpid());
	snprintf(other, sizeof(other), "/tmp/broker-%d-other", getpid());
	write_file(own, nobody, "GGUF and so on");
	write_file(other, 0, "GGUF of root");
	pid = start_as(nobody);
	b = start_broker(pid, false);
	assert_int_equal(open_path(b, pid, own), 0);
	assert_int_equal(open_path(b, pid, "/etc/shadow"), -EACCES);
	assert_int_equal(open_path(b, pid, "/etc/passwd"), -EACCES);
	assert_int_equal(open_path(b, pid, other), -EACCES);
	/* We are ourselves again. */
	assert_int_equal(access("/etc/shadow", R_OK), 0);
	assert_int_equal(open_stat(b, pid), 0);
	broker__free(b);
	root = start_as(0);
	b = start_broker(root, false);
	assert_int_equal(open_path(b, root, other), 0);
	assert_int_equal(open_path(b, root, own), 0);
	assert_int_equal(open_path(b, root, "/etc/shadow"), -EACCES);
	broker__free(b);
	kill(pid, SIGKILL);
	kill(root, SIGKILL);
	waitpid(pid, NULL, 0);
	waitpid(root, NULL, 0);
	unlink(own);
	unlink(other);
}

/* Of what a process has open: sockets and weights, and no other names. */
static void test_which_links(void **state)
{
	char path[] = "/tmp/broker-XXXXXX.safetensors";
	struct broker_request r = { .operation = BROKER_READ_FD_LINK };
	struct broker_response response;
	int weights = mkstemps(path, 12), other = open("/etc/passwd", O_RDONLY);
	struct family f = start_family();
	struct broker *b = start_broker(f.parent, false);

	r.pid = f.parent;
	r.fd = weights;
	broker__answer(b, &r, &response, NULL);
	assert_int_equal(response.result, 0);
	assert_string_equal(response.text, path);
	r.fd = other;
	broker__answer(b, &r, &response, NULL);
	assert_int_equal(response.result, -ENODATA);
	assert_string_equal(response.text, "");
	end_family(&f);
	broker__free(b);
	close(weights);
	close(other);
	unlink(path);
}

/* What comes back can be read and not written. */
static void test_read_only(void **state)
{
	struct family f = start_family();
	struct broker *b = start_broker(f.parent, false);
	struct broker_request r = { .operation = BROKER_OPEN_PROC,
				    .pid = f.parent,
				    .file = PROC_EXE };
	struct broker_response response;
	int fds[BROKER_FDS_MAX];

	assert_int_equal(broker__answer(b, &r, &response, fds), 1);
	assert_int_equal(fcntl(fds[0], F_GETFL) & O_ACCMODE, O_RDONLY);
	assert_true(write(fds[0], "x", 1) < 0);
	close(fds[0]);
	end_family(&f);
	broker__free(b);
}

static void test_bounds(void **state)
{
	struct family f = start_family();
	struct broker *b = start_broker(f.parent, false);
	struct broker_request r = { .pid = f.parent };
	static const uint32_t rings[] = {
		0, 1, 4096, 65535, 65537, 3u << 20, 32u << 20, UINT32_MAX
	};

	r.operation = BROKER_OPERATION_COUNT;
	assert_int_equal(ask(b, &r), -EINVAL);
	r.operation = UINT32_MAX;
	assert_int_equal(ask(b, &r), -EINVAL);
	r.operation = BROKER_OPEN_LIST;
	assert_int_equal(ask(b, &r), -EACCES); /* one process was named */
	r.operation = BROKER_LOAD;
	for (size_t i = 0; i < sizeof(rings) / sizeof(*rings); i++) {
		r.ring_bytes = rings[i];
		assert_int_equal(ask(b, &r), -EINVAL);
	}
	r.operation = BROKER_UNLINK;
	assert_int_equal(ask(b, &r), 0); /* there are none */
	r.pid = 0;
	assert_int_equal(ask(b, &r), 0);
	r.pid = f.parent;
	r.operation = BROKER_CALIBRATE;
	assert_int_equal(ask(b, &r), -EINVAL); /* nothing is loaded */
	r.operation = BROKER_LINK;
	r.places.count = 1;
	assert_int_equal(ask(b, &r), -EINVAL); /* likewise */
	end_family(&f);
	broker__free(b);
}

/* Which processes there are, of those that descend from the named one. */
static void test_kin(void **state)
{
	struct family f = start_family(), stranger = start_family();
	struct broker *b = start_broker(f.parent, false), *any = start_broker(0, true);
	struct broker_request r = { .operation = BROKER_LIST_KIN };
	struct broker_response response;
	int fds[BROKER_FDS_MAX];

	assert_int_equal(broker__answer(b, &r, &response, fds), 0);
	assert_int_equal(response.result, 0);
	assert_int_equal(response.kin_count, 2);
	assert_int_equal(response.kin[0].pid, f.parent);
	assert_int_equal(response.kin[0].parent, getpid());
	assert_int_equal(response.kin[1].pid, f.child);
	assert_int_equal(response.kin[1].parent, f.parent);
	assert_int_equal(ask(any, &r), -EACCES); /* no process was named */
	end_family(&f);
	assert_int_equal(broker__answer(b, &r, &response, fds), 0);
	assert_int_equal(response.result, -ESRCH);
	assert_int_equal(response.kin_count, 0);
	end_family(&stranger);
	broker__free(any);
	broker__free(b);
}

/* --- over the socket ------------------------------------------------------------------------ */

static pid_t serve(pid_t target, int *fd)
{
	int ends[2];
	pid_t pid;

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		struct broker *b = start_broker(target, false);

		close(ends[1]);
		_exit(broker__serve(b, ends[0]) ? 1 : 0);
	}
	close(ends[0]);
	*fd = ends[1];
	return pid;
}

static void test_opener(void **state)
{
	struct family f = start_family();
	struct broker_client client = { 0 };
	pid_t broker = serve(f.parent, &client.fd);
	struct opener o = broker_client__opener(&client);
	char text[64];
	int status, fd = o.open_proc(o.ctx, f.parent, PROC_COMM);

	assert_true(fd >= 0);
	assert_true(read(fd, text, sizeof(text)) > 0);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	close(fd);
	assert_true(client.cpu_ns > 0);
	assert_int_equal(o.open_proc(o.ctx, getpid(), PROC_COMM), -EACCES);
	assert_int_equal(o.read_fd_link(o.ctx, f.parent, 99999, text, sizeof(text)), -ENOENT);
	assert_int_equal(o.read_variable(o.ctx, getpid(), PROC_VARIABLE_HOME, text, sizeof(text)),
			 -EACCES);
	assert_int_equal(o.read_variable(o.ctx, f.parent, PROC_VARIABLE_COUNT, text, sizeof(text)),
			 -EINVAL);
	assert_int_equal(o.read_variable(o.ctx, f.parent, PROC_VARIABLE_HOME, text, sizeof(text)),
			 opener_direct.read_variable(NULL, getpid(), PROC_VARIABLE_HOME, text,
						     sizeof(text)));
	/* A message of another size is answered and refused; then it goes on. */
	assert_int_equal(send(client.fd, "?", 1, 0), 1);
	{
		struct broker_response response;

		assert_int_equal(recv(client.fd, &response, sizeof(response), 0), sizeof(response));
		assert_int_equal(response.result, -EINVAL);
	}
	fd = o.open_proc(o.ctx, f.parent, PROC_STAT);
	assert_true(fd >= 0);
	close(fd);
	close(client.fd);
	waitpid(broker, &status, 0);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	end_family(&f);
}

static void test_broker_gone(void **state)
{
	struct family f = start_family();
	struct broker_client client = { 0 };
	pid_t broker = serve(f.parent, &client.fd);
	struct opener o = broker_client__opener(&client);
	struct error e = { 0 };
	int fds[BROKER_FDS_MAX];

	kill(broker, SIGKILL);
	waitpid(broker, NULL, 0);
	assert_int_equal(o.open_proc(o.ctx, f.parent, PROC_COMM), -EPIPE);
	assert_int_equal(broker_client__load(&client, BROKER_RING_MIN, fds, &e), -EPIPE);
	assert_int_equal(e.exit, EXIT_FAILED);
	assert_non_null(strstr(e.what, "the broker process is gone"));
	close(client.fd);
	end_family(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whose_files),
		cmocka_unit_test(test_ancestors),
		cmocka_unit_test(test_whose_files_by_user),
		cmocka_unit_test(test_list_may_look_not_touch),
		cmocka_unit_test(test_no_such_process),
		cmocka_unit_test(test_which_files),
		cmocka_unit_test(test_rights_of_target),
		cmocka_unit_test(test_which_links),
		cmocka_unit_test(test_read_only),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_kin),
		cmocka_unit_test(test_opener),
		cmocka_unit_test(test_broker_gone),
	};

	return cmocka_run_group_tests_name("broker", tests, NULL, NULL);
}
