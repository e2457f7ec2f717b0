/* SPDX-License-Identifier: BSD-2-Clause */
/* Real probes on a real process: exact hits by cookie, and nothing left behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/bpf.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "collector/unlinker.h"
#include "probe/attach/ability.h"
#include "probe/attach/link.h"
#include "probe/attach/uprobe_abi.h"
#include "probe/base/error.h"
#include "tests/unit/hot_target.h"

#define COOKIES 4
#define LENGTH(a) (sizeof(a) / sizeof((a)[0]))

static struct ability abilities[ABILITY_COUNT];
static char tool[PATH_MAX];

static bool is_there(enum ability_id id)
{
	return abilities[id].state == ABILITY_THERE;
}

static void skip_unless(bool there, const char *why)
{
	if (!there) {
		printf("[  SKIP    ] %s\n", why);
		skip();
	}
}

static void need_rights(void)
{
	struct error e = { 0 };

	if (ability__require(abilities, &e))
		skip_unless(false, e.what);
	skip_unless(tool[0], "hot_loop is not built: run `make tools`");
}

/* Count a hit in map[cookie], by hand so that no compiled program is needed. */
static int load_counter(int map_fd, bool multi)
{
	struct bpf_insn code[] = {
		{ .code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_get_attach_cookie },
		{ .code = BPF_STX | BPF_MEM | BPF_W, .dst_reg = 10, .src_reg = 0, .off = -4 },
		{ .code = BPF_LD | BPF_IMM | BPF_DW,
		  .dst_reg = 1,
		  .src_reg = BPF_PSEUDO_MAP_FD,
		  .imm = map_fd },
		{ 0 },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = 2, .src_reg = 10 },
		{ .code = BPF_ALU64 | BPF_ADD | BPF_K, .dst_reg = 2, .imm = -4 },
		{ .code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_map_lookup_elem },
		{ .code = BPF_JMP | BPF_JEQ | BPF_K, .dst_reg = 0, .off = 2 },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 1, .imm = 1 },
		{ .code = BPF_STX | BPF_ATOMIC | BPF_DW,
		  .dst_reg = 0,
		  .src_reg = 1,
		  .imm = BPF_ADD },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	LIBBPF_OPTS(bpf_prog_load_opts, options,
		    .expected_attach_type = multi ? UPROBE_MULTI_ATTACH_TYPE : 0);

	return bpf_prog_load(BPF_PROG_TYPE_KPROBE, "count", "GPL", code, LENGTH(code), &options);
}

static uint64_t count_of(int map_fd, uint32_t key)
{
	uint64_t value = UINT64_MAX;

	assert_int_equal(bpf_map_lookup_elem(map_fd, &key, &value), 0);
	return value;
}

/* The first instruction byte of @offset as the process has it now. */
static uint8_t byte_now(pid_t pid, uint64_t offset)
{
	unsigned long start, end, at;
	char path[64], line[512], perms[8];
	uint8_t byte = 0;
	FILE *maps;
	int mem;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	maps = fopen(path, "re");
	assert_non_null(maps);
	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	mem = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(mem >= 0);
	while (fgets(line, sizeof(line), maps)) {
		if (sscanf(line, "%lx-%lx %7s %lx", &start, &end, perms, &at) == 4 &&
		    strstr(line, "hot_loop") && perms[2] == 'x' && offset >= at &&
		    offset - at < end - start)
			assert_int_equal(pread(mem, &byte, 1, (off_t)(start + offset - at)), 1);
	}
	fclose(maps);
	close(mem);
	return byte;
}

static void links_count_exactly(bool multi)
{
	static const uint64_t cookies[] = { 1, 2, 3 };
	struct uprobe_links *links;
	struct hot_target t, other;
	struct error e = { 0 };
	uint64_t offsets[3];
	int map, program;
	uint8_t before;

	hot_target__start(&t, tool);
	hot_target__start(&other, tool);
	map = bpf_map_create(BPF_MAP_TYPE_ARRAY, "counts", 4, 8, COOKIES, NULL);
	program = load_counter(map, multi);
	assert_true(map >= 0 && program >= 0);
	offsets[0] = t.push;
	offsets[1] = t.step;
	offsets[2] = t.late;
	before = byte_now(t.pid, t.push);
	assert_int_not_equal(before, 0xcc);
	struct link_request r = { .program_fd = program,
				  .file_fd = t.file_fd,
				  .pid = t.pid,
				  .count = 3,
				  .offsets = offsets,
				  .cookies = cookies,
				  .multi = multi };
	assert_int_equal(uprobe_links__open(&links, &r, &e), 0);
	assert_non_null(links);
	assert_int_equal(byte_now(t.pid, t.push), 0xcc);
	/* All threads of the process count, not only the first; no other process does. */
	hot_target__call(&t, "hot_push", 1009, 3);
	hot_target__call(&t, "hot_step", 211, 1);
	hot_target__call(&t, "hot_late", 503, 2);
	hot_target__call(&other, "hot_push", 5000, 1);
	assert_int_equal(count_of(map, 0), 0);
	assert_int_equal(count_of(map, 1), 3 * 1009);
	assert_int_equal(count_of(map, 2), 211);
	assert_int_equal(count_of(map, 3), 2 * 503);

	uprobe_links__close(links);
	assert_int_equal(byte_now(t.pid, t.push), before);
	hot_target__call(&t, "hot_push", 1000, 1);
	assert_int_equal(count_of(map, 1), 3 * 1009);
	close(program);
	close(map);
	hot_target__stop(&t);
	hot_target__stop(&other);
}

static void nothing_to_let_go(void *ctx)
{
	++*(int *)ctx; /* in the child: not seen here */
}

/* The traps are gone at once, also where nobody waits for the kernel; and so is the child. */
static void unlinked_by_a_child(void **state)
{
	const int waits[] = { 10000, 0 };
	struct hot_target t;
	struct error e = { 0 };
	int map, program, calls = 0;
	uint8_t before;

	need_rights();
	skip_unless(is_there(ABILITY_UPROBE_MULTI), "this kernel has no usable uprobe_multi");
	hot_target__start(&t, tool);
	map = bpf_map_create(BPF_MAP_TYPE_ARRAY, "counts", 4, 8, COOKIES, NULL);
	program = load_counter(map, true);
	before = byte_now(t.pid, t.push);
	for (size_t i = 0; i < LENGTH(waits); i++) {
		const struct unlinker_options o = {
			.let_go = nothing_to_let_go,
			.ctx = &calls,
			.wait_ms = waits[i],
		};
		const uint64_t offsets[2][1] = { { t.push }, { t.step } }, cookies[1] = { 1 };
		struct uprobe_links *links[3] = { NULL };

		for (int j = 0; j < 2; j++) {
			struct link_request r = { .program_fd = program,
						  .file_fd = t.file_fd,
						  .pid = t.pid,
						  .count = 1,
						  .offsets = offsets[j],
						  .cookies = cookies,
						  .multi = true };

			assert_int_equal(uprobe_links__open(&links[2 * j], &r, &e), 0);
		}
		assert_int_equal(byte_now(t.pid, t.push), 0xcc);
		unlinker__run(links, 3, &o);
		assert_null(links[0]);
		assert_null(links[2]);
		for (int j = 0; !waits[i] && j < 1000 && byte_now(t.pid, t.push) == 0xcc; j++)
			usleep(1000);
		assert_int_equal(byte_now(t.pid, t.push), before);
		while (waitpid(-1, NULL, WNOHANG) == 0 && !waits[i])
			usleep(1000); /* the child; the target does not end */
		if (!waits[i])
			break;
		assert_int_equal(waitpid(-1, NULL, WNOHANG), 0);
	}
	assert_int_equal(calls, 0);
	close(program);
	close(map);
	hot_target__stop(&t);
}

static void multi_link(void **state)
{
	need_rights();
	skip_unless(is_there(ABILITY_UPROBE_MULTI), "this kernel has no usable uprobe_multi");
	links_count_exactly(true);
}

static void single_links(void **state)
{
	need_rights();
	skip_unless(is_there(ABILITY_UPROBE), "uprobes by perf_event_open are not there");
	links_count_exactly(false);
}

/* A deleted file is still found: by descriptor, not by name. */
static void deleted_file(void **state)
{
	char copy[] = "/tmp/moeprobe-hot_loop-XXXXXX", command[PATH_MAX * 2];
	static const uint64_t cookie = 1;
	struct uprobe_links *links;
	struct hot_target t;
	struct error e = { 0 };
	int map, program, fd;
	bool multi;

	need_rights();
	multi = is_there(ABILITY_UPROBE_MULTI);
	fd = mkstemp(copy);
	close(fd);
	snprintf(command, sizeof(command), "cp '%s' '%s' && chmod 755 '%s'", tool, copy, copy);
	assert_int_equal(system(command), 0);
	hot_target__start(&t, copy);
	unlink(copy);
	map = bpf_map_create(BPF_MAP_TYPE_ARRAY, "counts", 4, 8, COOKIES, NULL);
	program = load_counter(map, multi);
	struct link_request r = { .program_fd = program,
				  .file_fd = t.file_fd,
				  .pid = t.pid,
				  .count = 1,
				  .offsets = &t.push,
				  .cookies = &cookie,
				  .multi = multi };
	assert_int_equal(uprobe_links__open(&links, &r, &e), 0);
	hot_target__call(&t, "hot_push", 77, 1);
	assert_int_equal(count_of(map, 1), 77);
	uprobe_links__close(links);
	close(program);
	close(map);
	hot_target__stop(&t);
}

/* The kernel lets go by itself when whoever holds the links is killed. */
static void killed_holder(void **state)
{
	static const uint64_t cookie = 1;
	int map, program, ready[2], status, i;
	struct uprobe_links *links;
	struct hot_target t;
	struct error e = { 0 };
	uint8_t before;
	pid_t holder;
	char c;
	bool multi;

	need_rights();
	multi = is_there(ABILITY_UPROBE_MULTI);
	hot_target__start(&t, tool);
	before = byte_now(t.pid, t.push);
	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	holder = fork();
	if (!holder) {
		map = bpf_map_create(BPF_MAP_TYPE_ARRAY, "counts", 4, 8, COOKIES, NULL);
		program = load_counter(map, multi);
		struct link_request r = { .program_fd = program,
					  .file_fd = t.file_fd,
					  .pid = t.pid,
					  .count = 1,
					  .offsets = &t.push,
					  .cookies = &cookie,
					  .multi = multi };
		c = uprobe_links__open(&links, &r, &e) ? 'n' : 'y';
		if (write(ready[1], &c, 1) != 1)
			_exit(1);
		pause();
		_exit(0);
	}
	assert_int_equal(read(ready[0], &c, 1), 1);
	assert_int_equal(c, 'y');
	assert_int_equal(byte_now(t.pid, t.push), 0xcc);
	kill(holder, SIGKILL);
	assert_int_equal(waitpid(holder, &status, 0), holder);
	for (i = 0; i < 200 && byte_now(t.pid, t.push) != before; i++)
		usleep(10000);
	assert_int_equal(byte_now(t.pid, t.push), before);
	hot_target__call(&t, "hot_push", 10, 1);
	close(ready[0]);
	close(ready[1]);
	hot_target__stop(&t);
}

static size_t open_descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	size_t n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

/* A refusal names its reason and keeps nothing, also when it comes half way. */
static void refusals(void **state)
{
	static const uint64_t cookies[] = { 1, 2 };
	uint64_t offsets[2];
	struct uprobe_links *links = (void *)1;
	struct hot_target t;
	struct error e = { 0 };
	int map, program, multi;
	size_t descriptors;
	uint8_t before;

	need_rights();
	hot_target__start(&t, tool);
	before = byte_now(t.pid, t.push);
	for (multi = 0; multi <= is_there(ABILITY_UPROBE_MULTI); multi++) {
		map = bpf_map_create(BPF_MAP_TYPE_ARRAY, "counts", 4, 8, COOKIES, NULL);
		program = load_counter(map, multi);
		descriptors = open_descriptors();
		struct link_request r = { .program_fd = program,
					  .file_fd = t.file_fd,
					  .pid = t.pid,
					  .count = 2,
					  .offsets = offsets,
					  .cookies = cookies,
					  .multi = multi };

		offsets[0] = t.push;
		offsets[1] = UINT64_C(1) << 40; /* behind the end of the file */
		error__clear(&e);
		assert_true(uprobe_links__open(&links, &r, &e) < 0);
		assert_null(links);
		assert_int_equal(e.exit, EXIT_UNSUPPORTED);
		assert_int_equal(byte_now(t.pid, t.push), before);

		r.count = 1;
		r.pid = 0x3fffffff; /* beyond any pid */
		error__clear(&e);
		assert_int_equal(uprobe_links__open(&links, &r, &e), -ESRCH);
		assert_int_equal(e.exit, EXIT_NO_TARGET);

		r.count = 0;
		error__clear(&e);
		assert_int_equal(uprobe_links__open(&links, &r, &e), -EINVAL);
		assert_int_equal(open_descriptors(), descriptors);
		close(program);
		close(map);
	}
	hot_target__stop(&t);
	uprobe_links__close(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(multi_link),   cmocka_unit_test(single_links),
		cmocka_unit_test(deleted_file), cmocka_unit_test(killed_holder),
		cmocka_unit_test(refusals),     cmocka_unit_test(unlinked_by_a_child),
	};

	signal(SIGPIPE, SIG_IGN);
	ability__probe_all(abilities);
	hot_target__find(tool);
	return cmocka_run_group_tests_name("link", tests, NULL, NULL);
}
