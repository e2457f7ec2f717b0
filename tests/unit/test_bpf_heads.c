/* SPDX-License-Identifier: BSD-2-Clause */
/* mp_heads on this very process: of all that it receives, the heads of requests, where they stand,
 * and no byte behind them. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "probe/abi/event.h"
#include "probe/abi/site.h"
#include "probe/bpf/probe.skel.h"

#define ROW 3u
#define RING_BYTES (1u << 20)
#define HEAD_MOST 8192u
#define INITIAL_PID_NAMESPACE 0xeffffffc /* its inode, fixed by the kernel */
#define BODY "the text of a prompt"

static const char *skip_reason;
static struct probe *probe;
static struct mp_site *table;
static int link_fd = -1, ends[2];

static struct {
	size_t count;
	struct {
		struct mp_event_bytes head;
		char bytes[HEAD_MOST + 1];
	} event[64];
} heard;

#define SKIP_IF_UNABLE() \
	do { \
		if (skip_reason) { \
			print_message("skipped: %s\n", skip_reason); \
			skip(); \
		} \
	} while (0)

static int hear(void *ctx, void *data, size_t size)
{
	const struct mp_event_bytes *e = data;

	assert_true(heard.count < 64 && e->event.kind == MP_EVENT_BYTES);
	assert_true(e->event.count <= HEAD_MOST && e->event.size == sizeof(*e) + e->event.count);
	heard.event[heard.count].head = *e;
	memcpy(heard.event[heard.count].bytes, e + 1, e->event.count);
	heard.event[heard.count++].bytes[e->event.count] = '\0';
	return 0;
}

static void listen_now(void)
{
	struct ring_buffer *r = ring_buffer__new(bpf_map__fd(probe->maps.ring), hear, NULL, NULL);

	assert_non_null(r);
	heard.count = 0;
	assert_true(ring_buffer__consume(r) >= 0);
	ring_buffer__free(r);
}

static void listen_to(uint32_t pid)
{
	uint32_t row = ROW;

	assert_int_equal(
		bpf_map_update_elem(bpf_map__fd(probe->maps.listeners), &pid, &row, BPF_ANY), 0);
}

static int load(void)
{
	struct bpf_program *program;
	struct stat own;

	probe = probe__open();
	if (!probe)
		return -errno;
	bpf_object__for_each_program(program, probe->obj)
		bpf_program__set_autoload(program, program == probe->progs.mp_heads);
	probe->rodata->config.ring_bytes = RING_BYTES;
	bpf_map__set_max_entries(probe->maps.ring, RING_BYTES);
	assert_int_equal(stat("/proc/self/ns/pid", &own), 0);
	if (own.st_ino != INITIAL_PID_NAMESPACE) {
		probe->rodata->config.pid_namespace_dev = own.st_dev;
		probe->rodata->config.pid_namespace_inode = own.st_ino;
	}
	return probe__load(probe);
}

static int start(void **state)
{
	int err = load();

	if (!err) {
		link_fd =
			bpf_raw_tracepoint_open("sys_exit", bpf_program__fd(probe->progs.mp_heads));
		err = link_fd < 0 ? -errno : 0;
	}
	if (err == -EPERM || err == -EACCES) {
		skip_reason = "no rights to load programs";
		return 0;
	}
	assert_int_equal(err, 0);
	table = mmap(NULL, MP_SITES * sizeof(*table), PROT_READ | PROT_WRITE, MAP_SHARED,
		     bpf_map__fd(probe->maps.sites), 0);
	assert_true(table != MAP_FAILED);
	table[ROW] = (struct mp_site){ .program = MP_PROGRAM_HEADS,
				       .tgid = (uint32_t)getpid(),
				       .enabled = 1 };
	table[ROW].heads.most = HEAD_MOST;
	listen_to((uint32_t)getpid());
	return 0;
}

static int stop(void **state)
{
	if (link_fd >= 0)
		close(link_fd);
	probe__destroy(probe);
	return 0;
}

/* A connection that nothing is known of: its number had no request before it. */
static int connect_anew(void **state)
{
	static int next = 500;

	if (skip_reason)
		return 0;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	assert_int_equal(dup2(ends[1], next), next);
	close(ends[1]);
	ends[1] = next++;
	return 0;
}

static int disconnect(void **state)
{
	if (!skip_reason) {
		close(ends[0]);
		close(ends[1]);
	}
	return 0;
}

enum { READ, RECV, PEEK, READV, RECVMSG };

static void receive(int how, size_t first)
{
	static char bytes[2 * HEAD_MOST + 100];
	struct iovec parts[2] = { { bytes, first }, { bytes + first, sizeof(bytes) - first } };
	struct msghdr m = { .msg_iov = parts, .msg_iovlen = 2 };
	ssize_t n = -1;

	memset(bytes, 0, sizeof(bytes));
	if (how == READ)
		n = read(ends[1], bytes, sizeof(bytes));
	else if (how == RECV || how == PEEK)
		n = recv(ends[1], bytes, sizeof(bytes), how == PEEK ? MSG_PEEK : 0);
	else if (how == READV)
		n = readv(ends[1], parts, 2);
	else
		n = recvmsg(ends[1], &m, 0);
	assert_true(n > 0);
}

static void exchange(const char *text, int how, size_t first)
{
	assert_int_equal(send(ends[0], text, strlen(text), 0), (ssize_t)strlen(text));
	receive(how, first);
}

/* The only thing that was heard since. */
static void assert_head(const char *text, uint64_t length, uint64_t position, uint32_t flags)
{
	const struct mp_event_bytes *e = &heard.event[0].head;

	listen_now();
	assert_int_equal(heard.count, 1);
	assert_string_equal(heard.event[0].bytes, text);
	assert_int_equal(e->event.count, strlen(text));
	assert_int_equal(e->event.total, strlen(text));
	assert_int_equal(e->event.site, ROW);
	assert_int_equal(e->event.tgid, getpid());
	assert_int_equal(e->length, length);
	assert_int_equal(e->event.object, position);
	assert_int_equal(e->channel, ends[1]);
	assert_int_equal(e->flags, MP_BYTES_RECEIVED | flags);
}

static void assert_nothing(void)
{
	listen_now();
	assert_int_equal(heard.count, 0);
}

#define HEAD "POST /v1 HTTP/1.1\r\nX-Tenant: a\r\nContent-Length: 20\r\n\r\n"
#define WHOLE (MP_BYTES_BEGINS | MP_BYTES_ENDS)

static void heads_and_no_byte_behind(void **state)
{
	static const int ways[] = { READ, RECV, READV, RECVMSG };
	uint64_t position = 0, length = strlen(HEAD BODY);

	SKIP_IF_UNABLE();
	for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
		exchange(HEAD BODY, ways[i], 4000);
		assert_head(HEAD, length, position, WHOLE);
		position += length;
		exchange(BODY, ways[i], 4000);
		assert_nothing();
		position += strlen(BODY);
	}
	exchange(HEAD, PEEK, 0);
	assert_nothing(); /* it comes again */
	receive(RECV, 0);
	assert_head(HEAD, strlen(HEAD), position, WHOLE);
	/* By bare line feeds, and two in one call: the second is behind the head. */
	exchange("GET / HTTP/1.1\na: b\n\nGET /2 HTTP/1.1\n\n", READ, 0);
	assert_head("GET / HTTP/1.1\na: b\n\n", 38, position + strlen(HEAD), WHOLE);
}

static void what_begins_no_request(void **state)
{
	static const char *const texts[] = { "HTTP/1.1 200 OK\r\n\r\n",
					     "\x16\x03\x01\x02",
					     "G",
					     "\r\n",
					     "PRI * HTTP/2.0\r\n\r\n",
					     BODY };

	SKIP_IF_UNABLE();
	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		exchange(texts[i], READ, 0);
		assert_nothing();
	}
	exchange(HEAD, READ, 0);
	assert_head(HEAD, strlen(HEAD), 0, WHOLE); /* nothing was counted before */
}

static void a_head_in_parts(void **state)
{
	SKIP_IF_UNABLE();
	exchange("POST / HTTP/1.1\r\nA: b\r", READ, 0);
	assert_head("POST / HTTP/1.1\r\nA: b\r", 22, 0, MP_BYTES_BEGINS);
	exchange("\nC: d\r\n\r", READ, 0);
	assert_head("\nC: d\r\n\r", 8, 22, 0);
	exchange("\n" BODY, READ, 0);
	assert_head("\n", 1 + strlen(BODY), 30, MP_BYTES_ENDS);
	exchange(BODY, READ, 0);
	assert_nothing();
	/* Given up in the middle, and another begins. */
	exchange("GET / HTTP/1.1\r\n", READ, 0);
	assert_head("GET / HTTP/1.1\r\n", 16, 31 + 2 * strlen(BODY), MP_BYTES_BEGINS);
	exchange(HEAD, READ, 0);
	assert_head(HEAD, strlen(HEAD), 47 + 2 * strlen(BODY), WHOLE);
}

/* The second part of a call is not looked at, nor what comes after it. */
static void a_call_with_two_buffers(void **state)
{
	SKIP_IF_UNABLE();
	exchange(HEAD BODY, READV, 10);
	assert_head("POST /v1 H", strlen(HEAD BODY), 0, MP_BYTES_BEGINS);
	exchange(BODY, READ, 0);
	assert_nothing();
}

static void a_head_without_end(void **state)
{
	char text[HEAD_MOST + 51] = "GET / HTTP/1.1\r\n", most[HEAD_MOST + 1] = "";

	SKIP_IF_UNABLE();
	memset(text + 16, 'x', sizeof(text) - 17);
	text[sizeof(text) - 1] = '\0';
	memcpy(most, text, HEAD_MOST);
	exchange(text, READ, 0);
	assert_head(most, strlen(text), 0, MP_BYTES_BEGINS);
	exchange("y\r\n\r\n", READ, 0);
	assert_nothing();
}

/* What was known of a number ends where a connection is accepted under it. */
static void accepted(void **state)
{
	struct sockaddr_un here = { .sun_family = AF_UNIX };
	socklen_t size = sizeof(here);
	int listener;

	SKIP_IF_UNABLE();
	listener = socket(AF_UNIX, SOCK_STREAM, 0);
	snprintf(here.sun_path + 1, sizeof(here.sun_path) - 1, "moeprobe-heads-%d", (int)getpid());
	assert_int_equal(bind(listener, (void *)&here, sizeof(here)), 0);
	assert_int_equal(listen(listener, 4), 0);
	for (int i = 0; i < 3; i++) {
		int pair[2] = { ends[0], ends[1] };

		ends[0] = socket(AF_UNIX, SOCK_STREAM, 0);
		assert_int_equal(getsockname(listener, (void *)&here, &size), 0);
		assert_int_equal(connect(ends[0], (void *)&here, size), 0);
		ends[1] = i % 2 ? accept4(listener, NULL, NULL, SOCK_CLOEXEC)
				: accept(listener, NULL, NULL);
		assert_true(ends[1] >= 0);
		exchange(HEAD BODY, READ, 0);
		assert_head(HEAD, strlen(HEAD BODY), 0, WHOLE | MP_BYTES_OPENED);
		exchange(HEAD, READ, 0);
		assert_head(HEAD, strlen(HEAD), strlen(HEAD BODY), WHOLE);
		close(ends[0]);
		close(ends[1]);
		ends[0] = pair[0];
		ends[1] = pair[1];
	}
	close(listener);
}

static void only_who_is_listened_to(void **state)
{
	uint32_t own = (uint32_t)getpid();

	SKIP_IF_UNABLE();
	table[ROW].enabled = 0;
	exchange(HEAD, READ, 0);
	assert_nothing();
	table[ROW].enabled = 1;
	/* The table does not decide whose bytes are read. */
	bpf_map_delete_elem(bpf_map__fd(probe->maps.listeners), &own);
	exchange(HEAD, READ, 0);
	assert_nothing();
	listen_to(own);
	exchange(HEAD, READ, 0);
	assert_head(HEAD, strlen(HEAD), 0, WHOLE);
}

/* Full: what does not arrive is said with what arrives next. */
static void a_full_ring(void **state)
{
	char text[HEAD_MOST + 1] = "GET / HTTP/1.1\r\n";

	SKIP_IF_UNABLE();
	memset(text + 16, 'x', sizeof(text) - 21);
	memcpy(text + HEAD_MOST - 4, "\r\n\r\n", 4);
	for (unsigned i = 0; i < RING_BYTES / 16384 + 2; i++)
		exchange(text, READ, 0);
	listen_now();
	assert_true(heard.count > 10 && heard.count < RING_BYTES / 16384 + 2);
	exchange(HEAD, READ, 0);
	listen_now();
	assert_int_equal(heard.count, 1);
	assert_int_equal(heard.event[0].head.flags, MP_BYTES_RECEIVED | WHOLE | MP_BYTES_LOST);
}

#define CONNECTED(name) cmocka_unit_test_setup_teardown(name, connect_anew, disconnect)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CONNECTED(heads_and_no_byte_behind), CONNECTED(what_begins_no_request),
		CONNECTED(a_head_in_parts),          CONNECTED(a_call_with_two_buffers),
		CONNECTED(a_head_without_end),       CONNECTED(accepted),
		CONNECTED(only_who_is_listened_to),  CONNECTED(a_full_ring),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
