/* SPDX-License-Identifier: BSD-2-Clause */
/* A raw log gives back what was put in; what is cut off, damaged or of another build is refused
 * by name, wherever the damage is. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "collector/raw_log.h"
#include "collector/replay.h"
#include "collector/trace/reader.h"
#include "probe/abi/event.h"
#include "probe/base/error.h"

#define LOG_MAX 8192

/* A process with two sites, eight saved bytes in all, and what happens then. The log's size. */
static size_t make(uint8_t *bytes, const char *engine)
{
	struct raw_log_header h = { .saved_bytes = 5, .attached_ns = 9 };
	struct raw_log_member m = {
		.process = { .process = 1, .pid = 77, .command = "server" },
		.first = 4,
		.sites = 2,
		.opened = 1,
		.saved_bytes = 3,
	};
	struct mp_site sites[2] = { { .program = 1, .tgid = 77 }, { .program = 0 } };
	struct mp_event event = { .kind = MP_EVENT_ROUTE, .size = sizeof(event) };
	uint64_t tick = 12345, stop[2] = { 99, TRACE_STOP_ASKED }, left[2] = { 98, 77 };
	uint64_t missed = 3, said_ns = 97;
	int fd = memfd_create("log", 0);
	struct raw_log_writer *w;
	struct error e = { 0 };
	ssize_t n;

	strcpy(h.engine, engine);
	assert_int_equal(raw_log__create(&w, fd, &h, "saved", &e), 0);
	assert_int_equal(raw_log__join(w, &m, sites, "too"), 0);
	assert_int_equal(raw_log__append(w, RAW_LOG_EVENT, &event, sizeof(event)), 0);
	assert_int_equal(raw_log__append(w, RAW_LOG_TICK, &tick, sizeof(tick)), 0);
	assert_int_equal(raw_log__append(w, RAW_LOG_LEAVE, left, sizeof(left)), 0);
	assert_int_equal(raw_log__append(w, RAW_LOG_MISSED, &missed, sizeof(missed)), 0);
	assert_int_equal(raw_log__append(w, RAW_LOG_REPORT, &said_ns, sizeof(said_ns)), 0);
	assert_int_equal(raw_log__append(w, RAW_LOG_STOP, stop, sizeof(stop)), 0);
	assert_int_equal(raw_log__append(w, RAW_LOG_EVENT, &event, RAW_LOG_ENTRY_MAX + 1), -E2BIG);
	m.saved_bytes = RAW_LOG_ENTRY_MAX;
	assert_int_equal(raw_log__join(w, &m, sites, NULL), -E2BIG);
	assert_int_equal(raw_log__close(w, &e), 0);
	n = pread(fd, bytes, LOG_MAX, 0);
	assert_true(n > 0 && n < LOG_MAX);
	close(fd);
	return (size_t)n;
}

static void test_round_trip(void **state)
{
	uint8_t bytes[LOG_MAX];
	size_t size = make(bytes, "null"), n;
	const struct raw_log_member *m;
	const struct mp_site *rows;
	struct raw_log_reader *r;
	struct error e = { 0 };
	const void *at, *saved;
	uint32_t kind;

	assert_int_equal(raw_log__open(&r, bytes, size, &e), 0);
	assert_string_equal(raw_log__header(r)->engine, "null");
	assert_int_equal(raw_log__header(r)->attached_ns, 9);
	assert_memory_equal(raw_log__saved(r), "saved", 5);
	assert_int_equal(raw_log__next(r, &kind, &at, &n), 1);
	assert_int_equal(kind, RAW_LOG_JOIN);
	assert_int_equal(raw_log__parse_join(at, n, &m, &rows, &saved), 0);
	assert_int_equal(m->process.pid, 77);
	assert_int_equal(m->first, 4);
	assert_int_equal(rows[0].tgid, 77);
	assert_int_equal(rows[1].program, 0);
	assert_memory_equal(saved, "too", 3);
	for (size_t cut = 0; cut < n; cut++)
		assert_int_equal(raw_log__parse_join(at, cut, &m, &rows, &saved), -EBADMSG);
	assert_int_equal(raw_log__next(r, &kind, &at, &n), 1);
	assert_int_equal(kind, RAW_LOG_EVENT);
	assert_int_equal(n, sizeof(struct mp_event));
	assert_int_equal(((const struct mp_event *)at)->kind, MP_EVENT_ROUTE);
	assert_int_equal(raw_log__next(r, &kind, &at, &n), 1);
	assert_int_equal(kind, RAW_LOG_TICK);
	assert_int_equal(*(const uint64_t *)at, 12345);
	assert_int_equal(raw_log__next(r, &kind, &at, &n), 1);
	assert_int_equal(kind, RAW_LOG_LEAVE);
	assert_int_equal(raw_log__next(r, &kind, &at, &n), 1);
	assert_int_equal(kind, RAW_LOG_MISSED);
	assert_int_equal(raw_log__next(r, &kind, &at, &n), 1);
	assert_int_equal(kind, RAW_LOG_REPORT);
	assert_int_equal(raw_log__next(r, &kind, &at, &n), 1);
	assert_int_equal(kind, RAW_LOG_STOP);
	assert_int_equal(raw_log__next(r, &kind, &at, &n), 0);
	raw_log__free(r);
}

/* What was read while an entry was taken is taken with it, and the entry's bytes stay. */
static void test_next_if(void **state)
{
	uint8_t bytes[LOG_MAX], *cut;
	size_t size = make(bytes, "null"), n, aside;
	struct raw_log_reader *r;
	struct error e = { 0 };
	const void *at, *tick;
	uint32_t kind;

	assert_int_equal(raw_log__open(&r, bytes, size, &e), 0);
	assert_int_equal(raw_log__next(r, &kind, &at, &n), 1);
	assert_int_equal(raw_log__next_if(r, RAW_LOG_TICK, &tick, &aside), 0);
	assert_int_equal(raw_log__next(r, &kind, &at, &n), 1);
	assert_int_equal(kind, RAW_LOG_EVENT);
	assert_int_equal(raw_log__next_if(r, RAW_LOG_TICK, &tick, &aside), 1);
	assert_int_equal(aside, sizeof(uint64_t));
	assert_int_equal(*(const uint64_t *)tick, 12345);
	assert_int_equal(((const struct mp_event *)at)->kind, MP_EVENT_ROUTE);
	assert_int_equal(raw_log__next_if(r, RAW_LOG_TICK, &tick, &aside), 0);
	assert_int_equal(raw_log__next(r, &kind, &at, &n), 1);
	assert_int_equal(kind, RAW_LOG_LEAVE);
	while (raw_log__next(r, &kind, &at, &n) == 1)
		;
	assert_int_equal(raw_log__next_if(r, RAW_LOG_STOP, &tick, &aside), 0);
	raw_log__free(r);
	/* Cut off: left to who reads on. */
	for (size_t left = 1; left < 8 + sizeof(uint64_t[2]); left++) {
		cut = malloc(size - left);
		memcpy(cut, bytes, size - left);
		assert_int_equal(raw_log__open(&r, cut, size - left, &e), 0);
		do
			assert_int_equal(raw_log__next(r, &kind, &at, &n), 1);
		while (kind != RAW_LOG_REPORT);
		assert_int_equal(raw_log__next_if(r, RAW_LOG_STOP, &tick, &aside), 0);
		assert_int_equal(raw_log__next(r, &kind, &at, &n), -EBADMSG);
		raw_log__free(r);
		free(cut);
	}
}

/* Cut off at every byte: refused in the header, or readable up to the last whole entry. */
static void test_cut_everywhere(void **state)
{
	uint8_t bytes[LOG_MAX];
	size_t size = make(bytes, "null"), n;
	size_t entries = sizeof(struct raw_log_header) + 5;

	for (size_t cut = 0; cut < size; cut++) {
		uint8_t *exact = malloc(cut ? cut : 1); /* so that a read past it is seen */
		struct raw_log_reader *r;
		struct error e = { 0 };
		const void *at;
		uint32_t kind;
		int err;

		memcpy(exact, bytes, cut);
		err = raw_log__open(&r, exact, cut, &e);
		assert_int_equal(err == 0, cut >= entries);
		if (err) {
			assert_null(r);
			assert_true(error__is_set(&e));
		}
		while (!err && (err = raw_log__next(r, &kind, &at, &n)) == 1)
			err = 0;
		assert_true(err == 0 || err < 0);
		raw_log__free(r);
		free(exact);
	}
}

static void refuse(uint8_t *bytes, size_t size, int want, enum exit_code exit)
{
	struct raw_log_reader *r;
	struct error e = { 0 };

	assert_int_equal(raw_log__open(&r, bytes, size, &e), want);
	assert_null(r);
	assert_int_equal(e.exit, exit);
}

static void test_foreign(void **state)
{
	uint8_t bytes[LOG_MAX];
	size_t size = make(bytes, "null");
	struct raw_log_header *h = (struct raw_log_header *)bytes, good = *h;

	h->magic[0] = 'x';
	refuse(bytes, size, -EPROTO, EXIT_FAILED);
	*h = good;
	h->site_bytes++;
	refuse(bytes, size, -EPROTONOSUPPORT, EXIT_UNSUPPORTED);
	*h = good;
	h->member_bytes--;
	refuse(bytes, size, -EPROTONOSUPPORT, EXIT_UNSUPPORTED);
	*h = good;
	h->saved_bytes = UINT32_MAX;
	refuse(bytes, size, -EBADMSG, EXIT_FAILED);
	*h = good;
	memset(h->engine, 'a', sizeof(h->engine));
	refuse(bytes, size, -EBADMSG, EXIT_FAILED);
}

/* An entry's length that the file does not hold. */
static void test_bad_entry(void **state)
{
	uint8_t bytes[LOG_MAX];
	size_t size = make(bytes, "null"), n;
	struct raw_log_reader *r;
	struct error e = { 0 };
	const void *at;
	uint32_t kind, huge = UINT32_MAX;

	memcpy(bytes + sizeof(struct raw_log_header) + 5 + 4, &huge, sizeof(huge));
	assert_int_equal(raw_log__open(&r, bytes, size, &e), 0);
	assert_int_equal(raw_log__next(r, &kind, &at, &n), -EBADMSG);
	raw_log__free(r);
}

/* Processes that come and go, by what the log says: rows that are not there, a name without end. */
static void test_bad_process(void **state)
{
	struct raw_log_member m = { .first = 4, .sites = MP_SITES - 4 };
	static uint8_t bytes[sizeof(m) + MP_SITES * sizeof(struct mp_site)];
	size_t size = sizeof(m) + (MP_SITES - 4) * sizeof(struct mp_site);
	const struct raw_log_member *found;
	const struct mp_site *rows;
	const void *saved;

	memcpy(bytes, &m, sizeof(m));
	assert_int_equal(raw_log__parse_join(bytes, size, &found, &rows, &saved), 0);
	m.first = 5;
	memcpy(bytes, &m, sizeof(m));
	assert_int_equal(raw_log__parse_join(bytes, size, &found, &rows, &saved), -EBADMSG);
	m.first = UINT32_MAX;
	memcpy(bytes, &m, sizeof(m));
	assert_int_equal(raw_log__parse_join(bytes, size, &found, &rows, &saved), -EBADMSG);
	m.first = 0;
	memset(m.process.role, 'a', sizeof(m.process.role));
	memcpy(bytes, &m, sizeof(m));
	assert_int_equal(raw_log__parse_join(bytes, size, &found, &rows, &saved), -EBADMSG);
}

/* The null engine, of which a process joins and leaves: what the stream says of it. */
static void test_replayed_process(void **state)
{
	uint8_t bytes[LOG_MAX];
	size_t size = make(bytes, "null");
	int out = memfd_create("out", 0);
	struct trace_reader *r;
	struct trace_item item;
	struct error e = { 0 };
	int processes = 0, losses = 0, last = 0;

	assert_int_equal(replay__run(bytes, size, out, &e), 0);
	assert_int_equal(lseek(out, 0, SEEK_SET), 0);
	assert_int_equal(trace_reader__open(&r, out, "out", &e), 0);
	while (trace_reader__next(r, &item, &e) == 1) {
		last = item.type;
		if (item.type == TRACE_LOSS) {
			losses++;
			assert_int_equal(item.loss->cause, TRACE_LOSS_CHUNKS);
			assert_int_equal(item.loss->count, 3);
			assert_int_equal(item.loss->head.time_ns, 97);
			assert_int_equal(item.loss->since_ns, 9);
		}
		if (item.type != TRACE_PROCESS)
			continue;
		processes++;
		assert_int_equal(item.process->pid, 77);
		assert_memory_equal(item.column[2].bytes, "server", 6);
	}
	assert_int_equal(processes, 1);
	assert_int_equal(losses, 1);
	assert_int_equal(last, TRACE_END);
	trace_reader__free(r);
	close(out);
}

static void test_no_such_engine(void **state)
{
	uint8_t bytes[LOG_MAX];
	size_t size = make(bytes, "nobody's engine");
	int out = memfd_create("out", 0);
	struct error e = { 0 };

	assert_true(replay__run(bytes, size, out, &e) < 0);
	assert_int_equal(e.exit, EXIT_UNSUPPORTED);
	assert_non_null(strstr(e.what, "nobody's engine"));
	assert_int_equal(lseek(out, 0, SEEK_END), 0); /* nothing was written */
	close(out);
}

/* The disk is full: said once, at the end at the latest. */
static void test_full(void **state)
{
	struct raw_log_header h = { 0 };
	struct raw_log_writer *w;
	struct error e = { 0 };
	static const uint8_t noise[4096];
	int fd = open("/dev/full", O_WRONLY), err = 0;

	assert_true(fd >= 0);
	assert_int_equal(raw_log__create(&w, fd, &h, NULL, &e), 0);
	for (int i = 0; i < 100 && !err; i++)
		err = raw_log__append(w, RAW_LOG_EVENT, noise, sizeof(noise));
	assert_int_equal(err, -EIO);
	assert_true(raw_log__close(w, &e) < 0);
	assert_int_equal(e.exit, EXIT_FAILED);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_next_if),
		cmocka_unit_test(test_cut_everywhere),
		cmocka_unit_test(test_foreign),
		cmocka_unit_test(test_bad_entry),
		cmocka_unit_test(test_bad_process),
		cmocka_unit_test(test_replayed_process),
		cmocka_unit_test(test_no_such_engine),
		cmocka_unit_test(test_full),
	};

	return cmocka_run_group_tests_name("raw_log", tests, NULL, NULL);
}
