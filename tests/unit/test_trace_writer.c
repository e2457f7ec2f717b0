/* SPDX-License-Identifier: BSD-2-Clause */
/* The writer against readers that are slow or gone, full disks, and callers that are wrong. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "collector/trace/reader.h"
#include "collector/trace/writer.h"
#include "probe/base/error.h"

#define QUEUE (256u << 10)
#define BEYOND (128u << 20) /* what the writer takes from who does not ask */

/* Random bytes do not compress: what is appended is what is stored. */
static uint8_t noise[1u << 20];

static int fill_noise(void **state)
{
	uint32_t x = 1;

	for (size_t i = 0; i < sizeof(noise); i++) {
		x = x * 1664525 + 1013904223;
		noise[i] = (uint8_t)(x >> 24);
	}
	signal(SIGPIPE, SIG_IGN);
	return 0;
}

static struct trace_writer *writer_open(int fd, enum trace_codec codec, size_t queue_bytes)
{
	struct trace_writer_options options = { codec, queue_bytes };
	struct error e = { 0 };
	struct trace_writer *w;

	assert_int_equal(trace_writer__open(&w, fd, "FILE", &options, &e), 0);
	return w;
}

/* A request with @tokens of the prompt: a record of sizeof(struct trace_request_begin) + 4 x
 * @tokens bytes, padded. */
static int append_tokens(struct trace_writer *w, uint32_t number, uint32_t tokens)
{
	struct trace_request_begin b = {
		.head.time_ns = number,
		.request = number,
		.prompt_known = tokens,
	};
	struct trace_column c = { noise, tokens * 4 };

	return trace_writer__append(w, TRACE_REQUEST_BEGIN, &b, sizeof(b), &c, 1);
}

/* Records up to the end or -EAGAIN must be requests numbered from @next; returns the next number.
 */
static uint32_t read_requests(struct trace_reader *r, uint32_t next, int *result)
{
	struct error e = { 0 };
	struct trace_item item;

	while ((*result = trace_reader__next(r, &item, &e)) == 1) {
		assert_int_equal(item.type, TRACE_REQUEST_BEGIN);
		assert_int_equal(item.request_begin->request, next++);
		assert_memory_equal(item.column[1].bytes, noise, item.column[1].size);
	}
	return next;
}

/* A reader that takes nothing: whole steps are refused at the limit, nothing waits, and once it
 * reads, all that was accepted arrives, in order. */
static void test_slow_reader(void **state)
{
	const size_t step = sizeof(struct trace_request_begin) + 4000;
	struct error e = { 0 };
	struct trace_writer *w;
	struct trace_reader *r;
	uint32_t written = 0, read_so_far = 0;
	int fds[2], result;

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	w = writer_open(fds[1], TRACE_CODEC_NONE, QUEUE);
	assert_true(fcntl(fds[1], F_GETFL) & O_NONBLOCK);
	while (trace_writer__fits(w, TRACE_SHARE_STEPS, step)) {
		assert_int_equal(append_tokens(w, written++, 1000), 0);
		assert_true(trace_writer__queued(w) <= QUEUE);
	}
	/* The pipe took 64 KiB at least, the queue up to its limit. */
	assert_true(written * step > QUEUE);
	assert_true(written * step < QUEUE + (1u << 20));
	assert_int_equal(trace_writer__flush(w, &e), 0);
	assert_true(trace_writer__queued(w) > 0);
	assert_int_equal(trace_writer__drain(w, 20, &e), -ETIMEDOUT);
	assert_non_null(strstr(e.what, "trace: failed to write 'FILE': its reader left "));
	error__clear(&e);

	fcntl(fds[0], F_SETFL, O_NONBLOCK);
	assert_int_equal(trace_reader__open(&r, fds[0], "pipe", &e), 0);
	do {
		read_so_far = read_requests(r, read_so_far, &result);
		assert_int_equal(result, -EAGAIN);
		assert_int_equal(trace_writer__flush(w, &e), 0);
	} while (read_so_far < written);
	assert_int_equal(trace_writer__queued(w), 0);
	assert_true(trace_writer__fits(w, TRACE_SHARE_STEPS, 10 * QUEUE)); /* all is read */
	assert_int_equal(trace_writer__drain(w, 0, &e), 0);
	assert_int_equal(trace_reader__bytes(r), trace_writer__bytes(w));
	trace_writer__free(w);
	assert_false(fcntl(fds[1], F_GETFL) & O_NONBLOCK);
	close(fds[1]);
	assert_int_equal(read_requests(r, written, &result), written);
	assert_int_equal(result, 0);
	trace_reader__free(r);
	close(fds[0]);
}

/* Each share ends where the header says; where writes block there is none. */
static void test_shares(void **state)
{
	static const size_t limit[] = { QUEUE, QUEUE / 64 * 65, QUEUE / 2 * 3 };
	struct trace_writer *w;
	int fds[2], fd;

	for (enum trace_share s = TRACE_SHARE_STEPS; s <= TRACE_SHARE_REQUESTS; s++) {
		assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
		w = writer_open(fds[1], TRACE_CODEC_NONE, QUEUE);
		while (trace_writer__queued(w) <= QUEUE / 2) {
			assert_true(trace_writer__fits(w, s, 100 * limit[s]));
			assert_int_equal(append_tokens(w, 0, 100), 0);
		}
		assert_true(trace_writer__fits(w, s, limit[s] - trace_writer__queued(w)));
		assert_false(trace_writer__fits(w, s, limit[s] - trace_writer__queued(w) + 1));
		assert_false(trace_writer__fits(w, s, SIZE_MAX));
		while (trace_writer__fits(w, s, sizeof(struct trace_request_begin) + 400))
			assert_int_equal(append_tokens(w, 0, 100), 0);
		assert_true(trace_writer__queued(w) <= limit[s]);
		assert_true(trace_writer__queued(w) >
			    limit[s] - sizeof(struct trace_request_begin) - 400);
		for (enum trace_share less = TRACE_SHARE_STEPS; less < s; less++)
			assert_false(trace_writer__fits(w, less, 0));
		trace_writer__free(w);
		close(fds[0]);
		close(fds[1]);
	}
	fd = memfd_create("trace", MFD_CLOEXEC);
	w = writer_open(fd, TRACE_CODEC_NONE, 0);
	assert_true(trace_writer__fits(w, TRACE_SHARE_STEPS, SIZE_MAX));
	trace_writer__free(w);
	close(fd);
}

/* Who does not ask is taken beyond the limits, but not for ever. */
static void test_stopped_reader(void **state)
{
	struct trace_writer *w;
	uint32_t n = 0;
	int fds[2], err;

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	w = writer_open(fds[1], TRACE_CODEC_ZSTD, QUEUE);
	while (!(err = append_tokens(w, n, 60000)))
		assert_true(++n < 10000);
	assert_int_equal(err, -ENOBUFS);
	assert_true(trace_writer__queued(w) > QUEUE / 2 * 3 + BEYOND);
	assert_true(trace_writer__queued(w) < QUEUE / 2 * 3 + BEYOND + (1u << 20));
	trace_writer__free(w);
	close(fds[0]);
	close(fds[1]);
}

static void test_drain_waits(void **state)
{
	struct timespec before, after;
	struct error e = { 0 };
	struct trace_writer *w;
	struct trace_reader *r;
	int fds[2], result, status;
	pid_t child;

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	w = writer_open(fds[1], TRACE_CODEC_NONE, 4u << 20);
	for (uint32_t i = 0; i < 4; i++)
		assert_int_equal(append_tokens(w, i, 100000), 0);
	clock_gettime(CLOCK_MONOTONIC, &before);
	child = fork();
	assert_true(child >= 0);
	if (!child) {
		close(fds[1]);
		usleep(50000);
		assert_int_equal(trace_reader__open(&r, fds[0], "pipe", &e), 0);
		_exit(read_requests(r, 0, &result) == 4 ? 0 : 1);
	}
	assert_int_equal(trace_writer__drain(w, 10000, &e), 0);
	clock_gettime(CLOCK_MONOTONIC, &after);
	assert_true(after.tv_sec - before.tv_sec < 9);
	assert_int_equal(trace_writer__queued(w), 0);
	trace_writer__free(w);
	close(fds[0]);
	close(fds[1]);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

/* The error of a write is named, stays, and is what every later append gives. */
static void assert_stays_failed(struct trace_writer *w, int errnum, const char *what)
{
	struct error e = { 0 };

	assert_int_equal(trace_writer__flush(w, &e), -errnum);
	assert_string_equal(e.what, what);
	assert_int_equal(e.errnum, errnum);
	assert_int_equal(e.exit, EXIT_FAILED);
	error__clear(&e);
	assert_int_equal(append_tokens(w, 1, 0), -errnum);
	assert_int_equal(trace_writer__flush(w, &e), -errnum);
	assert_string_equal(e.what, what);
	assert_int_equal(trace_writer__drain(w, 10, NULL), -errnum);
	trace_writer__free(w);
}

static void test_reader_gone(void **state)
{
	struct trace_writer *w;
	int fds[2];

	for (size_t queue = 0; queue <= QUEUE; queue += QUEUE) {
		assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
		w = writer_open(fds[1], TRACE_CODEC_NONE, queue);
		close(fds[0]);
		assert_int_equal(append_tokens(w, 0, 10), 0);
		assert_stays_failed(w, EPIPE, "trace: failed to write 'FILE': its reader is gone");
		close(fds[1]);
	}
}

static void test_disk_full(void **state)
{
	struct trace_writer_options options = { TRACE_CODEC_ZSTD, 0 };
	int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
	struct trace_writer *w = (void *)1;
	struct error e = { 0 };
	int fds[2];

	assert_true(full >= 0);
	assert_int_equal(trace_writer__open(&w, full, "x.mprec", &options, &e), -ENOSPC);
	assert_null(w);
	assert_string_equal(e.what, "trace: failed to write 'x.mprec': No space left on device");
	assert_non_null(strstr(e.remedy, "free space"));

	/* The same after a good beginning: the descriptor is replaced under the writer. */
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	w = writer_open(fds[1], TRACE_CODEC_ZSTD, 0);
	assert_int_equal(dup2(full, fds[1]), fds[1]);
	assert_int_equal(append_tokens(w, 0, 100), 0);
	assert_int_equal(append_tokens(w, 1, 20000), -ENOSPC);
	assert_stays_failed(w, ENOSPC, "trace: failed to write 'FILE': No space left on device");
	close(fds[0]);
	close(fds[1]);
	close(full);
}

static void test_closed_descriptor(void **state)
{
	struct trace_writer_options options = { TRACE_CODEC_NONE, 0 };
	struct trace_writer *w;
	struct error e = { 0 };

	assert_int_equal(trace_writer__open(&w, -1, "nothing", &options, &e), -EBADF);
	assert_string_equal(e.what, "trace: failed to write 'nothing': Bad file descriptor");
	options.queue_bytes = 1;
	error__clear(&e);
	assert_int_equal(trace_writer__open(&w, -1, "nothing", &options, &e), -EBADF);
	assert_true(error__is_set(&e));
}

/* Records that nobody could read are refused, and leave no trace. */
static void test_wrong_records(void **state)
{
	int fd = memfd_create("trace", MFD_CLOEXEC);
	struct trace_writer *w = writer_open(fd, TRACE_CODEC_NONE, 0);
	struct trace_route route = { .rows = 2, .k = 2, .head.flags = TRACE_ROUTE_ALL_ROWS };
	struct trace_column c[] = { { noise, 4 }, { noise, 16 } };
	struct error e = { 0 };
	const size_t fixed = sizeof(route);

#define APPEND(type, fixed, columns) trace_writer__append(w, type, &route, fixed, c, columns)
	assert_int_equal(APPEND(TRACE_ROUTE, fixed, 1), 0);
	assert_int_equal(trace_writer__records(w), 1);
	assert_int_equal(APPEND(TRACE_ROUTE, fixed, 0), -EINVAL);
	assert_int_equal(APPEND(TRACE_ROUTE, fixed, 2), -EINVAL);
	assert_int_equal(APPEND(TRACE_ROUTE, fixed - 8, 1), -EINVAL);
	assert_int_equal(APPEND(TRACE_CONTEXT, fixed, 0), -EINVAL);
	assert_int_equal(APPEND(11, fixed, 0), -EINVAL);
	assert_int_equal(APPEND(0, fixed, 0), -EINVAL);
	c[0].size = 3;
	assert_int_equal(APPEND(TRACE_ROUTE, fixed, 1), -EINVAL);
	route.k = 0;
	assert_true(APPEND(TRACE_ROUTE, fixed, 0) < 0);
	route.k = route.rows = UINT32_MAX;
	assert_int_equal(APPEND(TRACE_ROUTE, fixed, 1), -E2BIG);
	assert_int_equal(append_tokens(w, 1, TRACE_BLOCK_MAX / 4), -E2BIG);
	assert_int_equal(trace_writer__records(w), 1);
	assert_int_equal(trace_writer__flush(w, &e), 0);
	assert_int_equal(lseek(fd, 0, SEEK_END), 32 + 40 + 48 + 8);
	assert_int_equal(trace_writer__flush(w, &e), 0);
	assert_int_equal(lseek(fd, 0, SEEK_END), 32 + 40 + 48 + 8);
	trace_writer__free(w);
	close(fd);
}

/* The largest record, and a block that would grow over the limit by it. */
static void test_largest(void **state)
{
	const uint32_t tokens = (TRACE_BLOCK_MAX - sizeof(struct trace_request_begin)) / 4;
	int fd = memfd_create("trace", MFD_CLOEXEC), result;
	struct trace_request_begin b = { .request = 1, .prompt_known = tokens };
	struct trace_column c = { calloc(tokens, 4), tokens * 4 };
	struct error e = { 0 };
	struct trace_writer *w;
	struct trace_reader *r;
	struct trace_item item;

	w = writer_open(fd, TRACE_CODEC_ZSTD, 0);
	assert_int_equal(append_tokens(w, 0, 1), 0);
	assert_int_equal(trace_writer__append(w, TRACE_REQUEST_BEGIN, &b, sizeof(b), &c, 1), 0);
	assert_int_equal(trace_writer__flush(w, &e), 0);
	trace_writer__free(w);
	lseek(fd, 0, SEEK_SET);
	assert_int_equal(trace_reader__open(&r, fd, "FILE", &e), 0);
	assert_int_equal(trace_reader__next(r, &item, &e), 1);
	assert_int_equal(trace_reader__next(r, &item, &e), 1);
	assert_int_equal(item.column[1].size, tokens * 4);
	result = trace_reader__next(r, &item, &e);
	assert_int_equal(result, 0);
	trace_reader__free(r);
	free((void *)c.bytes);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_slow_reader),       cmocka_unit_test(test_shares),
		cmocka_unit_test(test_stopped_reader),    cmocka_unit_test(test_drain_waits),
		cmocka_unit_test(test_reader_gone),       cmocka_unit_test(test_disk_full),
		cmocka_unit_test(test_closed_descriptor), cmocka_unit_test(test_wrong_records),
		cmocka_unit_test(test_largest),
	};

	return cmocka_run_group_tests_name("trace_writer", tests, fill_noise, NULL);
}
