/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "probe/base/buffer.h"
#include "probe/target/maps.h"
#include "probe/target/opener.h"
#include "probe/target/proc_file.h"
#include "probe/target/stat.h"

static struct maps parse(const char *text)
{
	size_t size = strlen(text);
	char *exact = malloc(size); /* so that a sanitizer sees a read behind the end */
	struct maps m;

	memcpy(exact, text, size);
	assert_int_equal(maps__parse(&m, exact, size), 0);
	free(exact);
	return m;
}

static void takes_file_backed_lines(void **state)
{
	struct maps m = parse(
		"55d0c0a00000-55d0c0a21000 r-xp 00001000 fe:01 1234   /usr/bin/my server\n"
		"55d0c1000000-55d0c1021000 rw-p 00000000 00:00 0      [heap]\n"
		"7f0000000000-7f0000001000 r--s ffffffff000 103:fffff 18446744073709551615 /a\n"
		"7f0000002000-7f0000003000 rw-p 00000000 00:00 0 \n"
		"7f0000004000-7f0000005000 rw-p 00000000 00:00 0\n"
		"7ffd00000000-7ffd00001000 r-xp 00000000 00:00 0      [vdso]\n");

	assert_int_equal(m.count, 2);
	assert_int_equal(m.malformed, 0);
	assert_string_equal(m.items[0].path, "/usr/bin/my server");
	assert_true(m.items[0].start == 0x55d0c0a00000 && m.items[0].end == 0x55d0c0a21000);
	assert_true(m.items[0].offset == 0x1000 && m.items[0].inode == 1234);
	assert_true(m.items[0].device == (0xfeull << 32 | 1));
	assert_true(m.items[0].executable);
	assert_false(m.items[0].deleted);
	assert_string_equal(m.items[1].path, "/a");
	assert_true(m.items[1].offset == 0xffffffff000 && m.items[1].inode == UINT64_MAX);
	assert_true(m.items[1].device == (0x103ull << 32 | 0xfffff));
	assert_false(m.items[1].executable);
	maps__free(&m);
}

static void understands_names(void **state)
{
	struct maps m = parse("1000-2000 r-xp 00000000 08:01 5 /tmp/lib.so (deleted)\n"
			      "2000-3000 r-xp 00000000 00:01 6 /memfd:model weights (deleted)\n"
			      "3000-4000 r-xp 00000000 08:01 7 /tmp/two\\012lines\\134n\n"
			      "4000-5000 r-xp 00000000 08:01 8 / (deleted)\n"
			      "5000-6000 r-xp 00000000 08:01 9  (deleted)\n"
			      "6000-7000 r-xp 00000000 08:01 9 /trailing  \n"
			      "7000-8000 r-xp 00000000 08:01 9 anon_inode:[perf_event]\n"
			      "8000-9000 r-xp 00000000 08:01 9 /last");

	assert_int_equal(m.malformed, 0);
	assert_int_equal(m.count, 6);
	assert_string_equal(m.items[0].path, "/tmp/lib.so");
	assert_true(m.items[0].deleted);
	assert_string_equal(m.items[1].path, "/memfd:model weights");
	assert_true(m.items[1].deleted);
	assert_string_equal(m.items[2].path, "/tmp/two\nlines\\134n");
	assert_string_equal(m.items[3].path, "/");
	assert_true(m.items[3].deleted);
	assert_string_equal(m.items[4].path, "/trailing  ");
	assert_string_equal(m.items[5].path, "/last");
	maps__free(&m);
}

static void passes_over_nonsense(void **state)
{
	static const char *const bad[] = {
		"",
		"x",
		"-",
		"1000",
		"1000-",
		"1000-2000",
		"1000-2000 r-xp",
		" 1000-2000",
		"1000-2000 r-xp 0 08:01 5x /a",
		"1000-2000 r-xp 0 08:01 -5 /a",
		"1000-2000 rwx 00000000 08:01 5 /a",
		"1000-2000 R-xp 00000000 08:01 5 /a",
		"1000-2000 r-xp 00000000 0801 5 /a",
		"1000-2000 r-xp 00000000 08:100000000 5 /a",
		"1000-2000 r-xp 10000000000000000 08:01 5 /a",
		"1000-2000 r-xp 0 08:01 18446744073709551616 /a",
		"2000-2000 r-xp 0 08:01 5 /a",
		"2000-1000 r-xp 0 08:01 5 /a",
		"0x1000-0x2000 r-xp 0 08:01 5 /a",
		"1000-2000  r-xp 0 08:01 5 /a",
		"1000-2000\tr-xp 0 08:01 5 /a",
	};
	char text[256];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct maps m;

		snprintf(text, sizeof(text), "%s\n9000-a000 r-xp 0 08:01 5 /good\n", bad[i]);
		m = parse(text);
		assert_int_equal(m.malformed, 1);
		assert_int_equal(m.count, 1);
		assert_string_equal(m.items[0].path, "/good");
		maps__free(&m);
	}
}

static void drops_what_goes_backwards(void **state)
{
	struct maps m = parse("3000-5000 r-xp 0 08:01 5 /a\n4000-6000 r-xp 0 08:01 5 /b\n"
			      "1000-2000 r-xp 0 08:01 5 /c\n5000-6000 r-xp 0 08:01 5 /d\n");

	assert_int_equal(m.count, 2);
	assert_int_equal(m.malformed, 2);
	assert_string_equal(m.items[0].path, "/a");
	assert_string_equal(m.items[1].path, "/d");
	maps__free(&m);
}

static void bounds_paths(void **state)
{
	static const char with_nul[] = "1000-2000 r-xp 0 08:01 5 /a\0b\n";
	static char text[4 * PATH_MAX];
	struct maps m;
	size_t n = (size_t)sprintf(text, "1000-2000 r-xp 0 08:01 5 /");

	memset(text + n, 'x', 2 * PATH_MAX);
	m = parse(text);
	assert_int_equal(m.count, 0);
	assert_int_equal(m.malformed, 1);
	maps__free(&m);
	text[n + PATH_MAX - 1] = '\0';
	m = parse(text);
	assert_int_equal(m.count, 1);
	assert_int_equal(strlen(m.items[0].path), PATH_MAX);
	maps__free(&m);
	assert_int_equal(maps__parse(&m, with_nul, sizeof(with_nul) - 1), 0);
	assert_int_equal(m.count, 0);
	assert_int_equal(m.malformed, 1);
	maps__free(&m);
}

static void parses_nothing(void **state)
{
	struct maps m;

	assert_int_equal(maps__parse(&m, NULL, 0), 0);
	assert_int_equal(m.count, 0);
	maps__free(&m);
	maps__free(&m);
}

/* Cut anywhere, a text gives the mappings before the cut and never another number. */
static void survives_every_cut(void **state)
{
	static const char text[] = "1000-2000 r-xp 00001000 08:01 77 /first\n"
				   "3000-4000 r-xp 00000000 08:01 78 /second\n";

	for (size_t n = 1; n < sizeof(text); n++) {
		char *cut = malloc(n);
		struct maps m;

		memcpy(cut, text, n);
		assert_int_equal(maps__parse(&m, cut, n), 0);
		assert_true(m.count <= 2);
		if (n >= 40) {
			assert_true(m.count >= 1);
			assert_string_equal(m.items[0].path, "/first");
			assert_int_equal(m.items[0].inode, 77);
		}
		maps__free(&m);
		free(cut);
	}
}

static void understands_this_process(void **state)
{
	struct buffer text = { 0 };
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	uint64_t here = (uint64_t)(uintptr_t)understands_this_process;
	bool found = false;
	struct maps m;

	assert_true(n > 0);
	self[n] = '\0';
	assert_int_equal(proc_file__read(&opener_direct, getpid(), PROC_MAPS, 1 << 24, &text), 0);
	assert_int_equal(maps__parse(&m, (char *)text.data, text.size), 0);
	assert_int_equal(m.malformed, 0);
	for (size_t i = 0; i < m.count; i++) {
		if (here < m.items[i].start || here >= m.items[i].end)
			continue;
		found = true;
		assert_true(m.items[i].executable);
		assert_string_equal(m.items[i].path, self);
	}
	assert_true(found);
	maps__free(&m);
	buffer__free(&text);
}

static void stat_takes_any_name(void **state)
{
	static const char text[] =
		"4242 (a) S 1 (b\n\x1b) S 77 4242 4242 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 9 0 "
		"31415926535 1000 20 18446744073709551615 1 1\n";
	struct pid_stat s;
	size_t first_digit;

	assert_int_equal(pid_stat__parse(&s, text, strlen(text)), 0);
	assert_int_equal(s.pid, 4242);
	assert_string_equal(s.command, "a) S 1 (b??");
	assert_int_equal(s.state, 'S');
	assert_int_equal(s.parent, 77);
	assert_int_equal(s.threads, 9);
	assert_true(s.start_ticks == 31415926535ull);
	assert_false(s.kernel_thread);
	first_digit = (size_t)(strstr(text, "31415") - text);
	for (size_t n = 0; n <= first_digit; n++)
		assert_int_equal(pid_stat__parse(&s, text, n), -EINVAL);
	assert_int_equal(pid_stat__parse(&s, text, first_digit + 1), 0);
}

static void stat_refuses_nonsense(void **state)
{
	static const char *const bad[] = {
		"",
		"1",
		"(a) S 1",
		"1 )a( S 1 1 1 1 1 1",
		"99999999999 (a) S 1 1 1 0 -1 0 ",
		"1 (a) S -1 1 1 0 -1 0 1 2 3 4 5 6 7 8 20 0 9 0 5",
		"1 (a) S 1 1 1 0 -1 0 1 2 3 4 5 6 7 8 20 0 99999999999 0 5",
		"1 (a) S 1 1 1 0 -1 0 1 2 3 4 5 6 7 8 20 0 9 0 99999999999999999999",
	};
	static const char kernel[] = "2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 5";
	struct pid_stat s;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(pid_stat__parse(&s, bad[i], strlen(bad[i])), -EINVAL);
		assert_int_equal(s.pid, 0);
	}
	assert_int_equal(pid_stat__parse(&s, kernel, strlen(kernel)), 0);
	assert_true(s.kernel_thread);
}

static void status_gives_namespace_pids(void **state)
{
	static const char text[] = "Name:\tNSpid:\t5\nTgid:\t100\nNgid:\t0\nPid:\t101\n"
				   "NStgid:\t100\t7\nNSpid:\t101\t8\t1\n";
	struct pid_status s;

	pid_status__parse(&s, text, strlen(text));
	assert_int_equal(s.thread_group, 100);
	assert_int_equal(s.namespace_pid, 1);
	pid_status__parse(&s, "Tgid:\nNSpid:\tx", 13);
	assert_int_equal(s.thread_group, 0);
	assert_int_equal(s.namespace_pid, 0);
	pid_status__parse(&s, NULL, 0);
}

struct ports {
	uint16_t port[8];
	uint64_t inode[8];
	int count;
};

static bool collect(void *ctx, const struct listening_socket *s)
{
	struct ports *p = ctx;

	p->port[p->count] = s->port;
	p->inode[p->count] = s->inode;
	return ++p->count < 3;
}

static void tcp_table_gives_listeners(void **state)
{
	static const char text[] =
		"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid "
		" "
		"timeout inode\n"
		"   0: 0100007F:46A0 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0"
		"        0 6303 1 00000000c950a14f 100 0 0 10 0\n"
		"   1: 0100007F:46A1 0100007F:1234 01 00000000:00000000 00:00000000 00000000     0"
		"        0 6304 1 0\n"
		"   2: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 "
		"0A "
		"00000000:00000000 00:00000000 00000000     0        0 6305 1 0\n"
		"   3: 0100007F:10000 00000000:0000 0A 0:0 00:0 0 0 0 6306 1\n"
		"   4: 0100007F:46A2 00000000:0000 0A 0:0 00:0 0 0 0 0 1\n"
		"   5: 0100007F:46A3 00000000:0000 0A 0:0 00:0 0 0\n"
		"   6: nonsense\n"
		"   7: 0:50 0:0 0a 0:0 0:0 0 0 0 9";
	struct ports p = { 0 };

	tcp_table__each(text, strlen(text), collect, &p);
	assert_int_equal(p.count, 3);
	assert_int_equal(p.port[0], 18080);
	assert_int_equal(p.inode[0], 6303);
	assert_int_equal(p.port[1], 8080);
	assert_int_equal(p.inode[1], 6305);
	assert_int_equal(p.port[2], 80);
	assert_int_equal(p.inode[2], 9);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(takes_file_backed_lines),
		cmocka_unit_test(understands_names),
		cmocka_unit_test(passes_over_nonsense),
		cmocka_unit_test(drops_what_goes_backwards),
		cmocka_unit_test(bounds_paths),
		cmocka_unit_test(parses_nothing),
		cmocka_unit_test(survives_every_cut),
		cmocka_unit_test(understands_this_process),
		cmocka_unit_test(stat_takes_any_name),
		cmocka_unit_test(stat_refuses_nonsense),
		cmocka_unit_test(status_gives_namespace_pids),
		cmocka_unit_test(tcp_table_gives_listeners),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
