/* SPDX-License-Identifier: BSD-2-Clause */
/* What a hit costs: predicted, and measured on another program. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "probe/attach/ability.h"
#include "probe/attach/calibrate.h"
#include "probe/attach/link.h"
#include "probe/attach/uprobe_abi.h"
#include "probe/base/error.h"
#include "tests/unit/hot_target.h"

static struct ability abilities[ABILITY_COUNT];

static struct hot_target target;

struct holder {
	struct uprobe_links *links, *router;
	int program;
	size_t leave_out; /* so many of the places get no probe */
	int linked, linked_router, unlinked;
	double link_ms, unlink_ms;
};

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int load_nothing(bool multi)
{
	static const struct bpf_insn code[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	LIBBPF_OPTS(bpf_prog_load_opts, options,
		    .expected_attach_type = multi ? UPROBE_MULTI_ATTACH_TYPE : 0);

	return bpf_prog_load(BPF_PROG_TYPE_KPROBE, "mp_test", "GPL", code, 2, &options);
}

/* Nothing that calibrate__run() calls may assert: the child would be left. */
static int do_link(void *ctx, const struct calibrate_target *t, struct error *e)
{
	bool multi = abilities[ABILITY_UPROBE_MULTI].state == ABILITY_THERE;
	const uint64_t cookies[2] = { 0, 0 };
	struct holder *h = ctx;
	double start = now_ms();
	int err, file;

	h->linked++;
	h->program = load_nothing(multi);
	file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	struct link_request r = { .program_fd = h->program,
				  .file_fd = file,
				  .pid = t->pid,
				  .count = t->count - h->leave_out,
				  .offsets = t->offsets,
				  .cookies = cookies,
				  .multi = multi };
	err = uprobe_links__open(&h->links, &r, e);
	close(file);
	h->link_ms = now_ms() - start;
	return err;
}

/* The program that does nothing, where one that captures should be. */
static int do_link_router(void *ctx, const struct calibrate_target *t, const struct mp_site *site)
{
	bool multi = abilities[ABILITY_UPROBE_MULTI].state == ABILITY_THERE;
	int err, file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	struct holder *h = ctx;
	const uint64_t cookie = 0;
	struct link_request r = { .program_fd = h->program,
				  .file_fd = file,
				  .pid = t->pid,
				  .count = t->count,
				  .offsets = t->offsets,
				  .cookies = &cookie,
				  .multi = multi };

	h->linked_router++;
	err = uprobe_links__open(&h->router, &r, NULL);
	close(file);
	return err;
}

static void do_unlink(void *ctx)
{
	struct holder *h = ctx;
	double start = now_ms();

	h->unlinked++;
	uprobe_links__close(h->router);
	uprobe_links__close(h->links);
	h->router = h->links = NULL;
	h->unlink_ms = now_ms() - start;
	close(h->program);
}

static void need_rights(void)
{
	struct error e = { 0 };

	if (!ability__require(abilities, &e))
		return;
	print_message("skipped: %s\n", e.what);
	skip();
}

static void no_child_left(void)
{
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
}

/* Stepping costs more than emulating: ten times as much on a quiet machine. */
static void classes_differ(void **state)
{
	struct hit_costs c;
	struct holder h = { 0 };
	struct calibrate_ops ops = { .link = do_link, .unlink = do_unlink, .ctx = &h };
	struct error e = { 0 };
	double start;
	unsigned threads;

	need_rights();
	for (threads = 1; threads <= 2; threads++) {
		start = now_ms();
		assert_int_equal(calibrate__run(&c, MP_PROGRAM_ROUTE, threads, &ops, &e), 0);
		print_message("%u threads: emulated %llu ns, single-stepped %llu ns; %.0f ms "
			      "(link %.0f, unlink %.0f)\n",
			      threads, (unsigned long long)c.hit[SITE_EMULATED],
			      (unsigned long long)c.hit[SITE_STEPPED], now_ms() - start, h.link_ms,
			      h.unlink_ms);
		assert_true(c.hit[SITE_EMULATED] > 50);
		assert_true(c.hit[SITE_STEPPED] > c.hit[SITE_EMULATED]);
		assert_int_equal(c.capture + c.row + c.away, 0); /* nobody could link that */
		no_child_left();
	}
	assert_int_equal(h.linked, 2);
	assert_int_equal(h.unlinked, 2);
}

static void take_faster(double *best, struct hot_target *t, const char *function)
{
	double ns = hot_target__call_how(t, function, 100, 1, "cold");

	if (!*best || ns < *best)
		*best = ns;
}

static int end_target(void **state)
{
	if (target.pid > 0) {
		kill(target.pid, SIGKILL);
		waitpid(target.pid, NULL, 0);
	}
	target.pid = 0;
	return 0;
}

/* The prediction, next to another process's own clock. Its wall time is longer on a busy machine,
 * so the fastest of some rounds counts, with and without a probe by turns. */
static void prediction_holds(void **state)
{
	static const char *const functions[] = { "hot_push", "hot_step" };
	bool multi = abilities[ABILITY_UPROBE_MULTI].state == ABILITY_THERE;
	struct holder h = { 0 };
	struct calibrate_ops ops = { .link = do_link, .unlink = do_unlink, .ctx = &h };
	const uint64_t cookies[2] = { 0, 0 };
	struct uprobe_links *links;
	struct hit_costs predicted;
	struct error e = { 0 };
	char tool[PATH_MAX];
	int program;

	need_rights();
	hot_target__find(tool);
	if (!tool[0]) {
		print_message("skipped: hot_loop is not built: run `make tools`\n");
		skip();
	}
	assert_int_equal(calibrate__run(&predicted, MP_PROGRAM_ROUTE, 1, &ops, &e), 0);
	hot_target__start(&target, tool);
	const uint64_t offsets[2] = { target.push, target.step };
	program = load_nothing(multi);
	assert_true(program >= 0);
	struct link_request r = { .program_fd = program,
				  .file_fd = target.file_fd,
				  .pid = target.pid,
				  .count = 2,
				  .offsets = offsets,
				  .cookies = cookies,
				  .multi = multi };
	for (int i = 0; i < SITE_CLASSES; i++) {
		double said = (double)predicted.hit[i], without = 0, with = 0;

		for (int round = 0; round < 5; round++) {
			take_faster(&without, &target, functions[i]);
			assert_int_equal(uprobe_links__open(&links, &r, &e), 0);
			take_faster(&with, &target, functions[i]);
			uprobe_links__close(links);
		}
		print_message("%s: predicted %.0f ns, measured %.0f ns\n",
			      site_class__name((enum site_class)i), said, with - without);
		/* How near they are is the bench's to judge, on a machine that does nothing else.
		 */
		assert_true(said > 50 && with > without);
	}
	close(program);
	hot_target__stop(&target);
}

/* What the callback is told is where the child has it mapped. */
static int look_only(void *ctx, const struct calibrate_target *t, struct error *e)
{
	char path[64], line[512], range[64];
	int *found = ctx;
	FILE *maps;

	snprintf(path, sizeof(path), "/proc/%d/maps", t->pid);
	snprintf(range, sizeof(range), "%llx-%llx r-xp", (unsigned long long)t->start,
		 (unsigned long long)t->end);
	maps = fopen(path, "re");
	while (maps && fgets(line, sizeof(line), maps))
		*found += strstr(line, range) != NULL;
	if (maps)
		fclose(maps);
	return error__set(e, EXIT_PERMISSION, EPERM, NULL, "test: no");
}

static void never_linked(void *ctx)
{
	*(int *)ctx += 100;
}

static void refused_link(void **state)
{
	int found = 0;
	struct calibrate_ops ops = { .link = look_only, .unlink = never_linked, .ctx = &found };
	struct hit_costs c;
	struct error e = { 0 };

	assert_int_equal(calibrate__run(&c, MP_PROGRAM_ROUTE, 1, &ops, &e), -EPERM);
	assert_int_equal(e.exit, EXIT_PERMISSION);
	assert_string_equal(e.what, "test: no");
	assert_int_equal(found, 1); /* and nothing was to be taken away */
	assert_int_equal(c.hit[SITE_EMULATED] + c.hit[SITE_STEPPED], 0);
	no_child_left();
}

static int pretend(void *ctx, const struct calibrate_target *t, struct error *e)
{
	return 0;
}

static void pretend_unlink(void *ctx)
{
}

/* A probe that is not in place is an error, not a hit for nothing. */
static void silent_probe(void **state)
{
	struct calibrate_ops ops = { .link = pretend, .unlink = pretend_unlink };
	struct hit_costs c;
	struct error e = { 0 };

	assert_int_equal(calibrate__run(&c, MP_PROGRAM_ROUTE, 1000, &ops, &e), -ENODATA);
	assert_int_equal(e.exit, EXIT_FAILED);
	assert_int_equal(c.hit[SITE_EMULATED], 0);
	no_child_left();
}

/* Nor does it help that the other one is. */
static void half_linked(void **state)
{
	struct holder h = { .leave_out = 1 };
	struct calibrate_ops ops = { .link = do_link, .unlink = do_unlink, .ctx = &h };
	struct hit_costs c;
	struct error e = { 0 };

	need_rights();
	assert_int_equal(calibrate__run(&c, MP_PROGRAM_ROUTE, 1, &ops, &e), -ENODATA);
	assert_int_equal(c.hit[SITE_EMULATED] + c.hit[SITE_STEPPED], 0);
	assert_int_equal(h.unlinked, 1);
	no_child_left();
}

static int link_nothing(void *ctx, const struct calibrate_target *t, const struct mp_site *site)
{
	return 0;
}

/* Of one capture a call, all but one in a round. */
static size_t drain_too_few(void *ctx)
{
	const struct holder *h = ctx;

	return h->linked_router ? CALIBRATE_ROUND_PAIRS - 1 : 0;
}

static size_t drain_nothing(void *ctx)
{
	return 0;
}

static void measure_no_capture(const struct calibrate_ops *how, int linked)
{
	struct holder h = { 0 };
	struct calibrate_ops ops = *how;
	struct hit_costs c;
	struct error e = { 0 };

	ops.link = do_link;
	ops.unlink = do_unlink;
	ops.ctx = &h;
	assert_int_equal(calibrate__run(&c, MP_PROGRAM_ROUTE, 1, &ops, &e), 0);
	assert_int_equal(h.linked_router, linked);
	assert_true(c.hit[SITE_EMULATED] > 50);
	assert_int_equal(c.capture + c.away + c.row + c.row_bytes, 0);
	no_child_left();
}

/* A capture that did not happen is not known, not free; what a hit costs is known all the same. */
static void silent_capture(void **state)
{
	static const struct calibrate_ops not_in_place = { .link_router = link_nothing,
							   .drain = drain_nothing };
	static const struct calibrate_ops no_captures = { .link_router = do_link_router,
							  .drain = drain_nothing };
	static const struct calibrate_ops too_few = { .link_router = do_link_router,
						      .drain = drain_too_few };

	need_rights();
	measure_no_capture(&not_in_place, 0);
	measure_no_capture(&no_captures, 1);
	measure_no_capture(&too_few, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(classes_differ),
		cmocka_unit_test_teardown(prediction_holds, end_target),
		cmocka_unit_test(refused_link),
		cmocka_unit_test(silent_probe),
		cmocka_unit_test(half_linked),
		cmocka_unit_test(silent_capture),
	};

	ability__probe_all(abilities);
	return cmocka_run_group_tests_name("calibrate", tests, NULL, NULL);
}
