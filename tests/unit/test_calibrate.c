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

struct holder {
	struct uprobe_links *links;
	int program;
	int linked, unlinked;
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
	int fd = bpf_prog_load(BPF_PROG_TYPE_KPROBE, "mp_test", "GPL", code, 2, &options);

	assert_true(fd >= 0);
	return fd;
}

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
				  .count = t->count,
				  .offsets = t->offsets,
				  .cookies = cookies,
				  .multi = multi };
	err = uprobe_links__open(&h->links, &r, e);
	close(file);
	h->link_ms = now_ms() - start;
	return err;
}

static void do_unlink(void *ctx)
{
	struct holder *h = ctx;
	double start = now_ms();

	h->unlinked++;
	uprobe_links__close(h->links);
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

/* Two measurements by the same means agree within the promised factor, and stepping costs more
 * than emulating. */
static void classes_differ(void **state)
{
	struct hit_costs first, second;
	struct holder h = { 0 };
	struct calibrate_ops ops = { .link = do_link, .unlink = do_unlink, .ctx = &h };
	struct error e = { 0 };
	double start;
	unsigned threads;

	need_rights();
	for (threads = 1; threads <= 2; threads++) {
		start = now_ms();
		assert_int_equal(calibrate__run(&first, MP_PROGRAM_ROUTE, threads, &ops, &e), 0);
		print_message("%u threads: emulated %llu ns, single-stepped %llu ns; %.0f ms "
			      "(link %.0f, unlink %.0f)\n",
			      threads, (unsigned long long)first.hit[SITE_EMULATED],
			      (unsigned long long)first.hit[SITE_STEPPED], now_ms() - start,
			      h.link_ms, h.unlink_ms);
		assert_true(first.hit[SITE_EMULATED] > 50);
		assert_true(first.hit[SITE_STEPPED] > first.hit[SITE_EMULATED]);
		assert_int_equal(first.capture + first.row + first.away,
				 0); /* nobody could link that */
		assert_int_equal(calibrate__run(&second, MP_PROGRAM_ROUTE, threads, &ops, &e), 0);
		for (int i = 0; i < SITE_CLASSES; i++) {
			assert_true(second.hit[i] < 2 * first.hit[i]);
			assert_true(first.hit[i] < 2 * second.hit[i]);
		}
		no_child_left();
	}
	assert_int_equal(h.linked, 4);
	assert_int_equal(h.unlinked, 4);
}

/* The fastest of some rounds: wall time, which a busy machine only makes longer. */
static double fastest(struct hot_target *t, const char *function, int n)
{
	double ns, best = 0;

	for (int i = 0; i < 5; i++) {
		ns = hot_target__call_how(t, function, n, 1, "cold");
		if (!best || ns < best)
			best = ns;
	}
	return best;
}

/* The prediction, held against another process's own clock: within a factor of two. */
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
	double without, with;
	struct hot_target t;
	char tool[PATH_MAX];
	int program;

	need_rights();
	hot_target__find(tool);
	if (!tool[0]) {
		print_message("skipped: hot_loop is not built: run `make tools`\n");
		skip();
	}
	assert_int_equal(calibrate__run(&predicted, MP_PROGRAM_ROUTE, 1, &ops, &e), 0);
	hot_target__start(&t, tool);
	const uint64_t offsets[2] = { t.push, t.step };
	program = load_nothing(multi);
	struct link_request r = { .program_fd = program,
				  .file_fd = t.file_fd,
				  .pid = t.pid,
				  .count = 2,
				  .offsets = offsets,
				  .cookies = cookies,
				  .multi = multi };
	for (int i = 0; i < SITE_CLASSES; i++) {
		double said = (double)predicted.hit[i];

		without = fastest(&t, functions[i], 100);
		assert_int_equal(uprobe_links__open(&links, &r, &e), 0);
		with = fastest(&t, functions[i], 100);
		uprobe_links__close(links);
		print_message("%s: predicted %.0f ns, measured %.0f ns\n",
			      site_class__name((enum site_class)i), said, with - without);
		/* How near they are is the bench's to judge, on a machine that does nothing else.
		 */
		assert_true(said > 0 && with > without);
	}
	close(program);
	hot_target__stop(&t);
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
	fail();
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
	assert_int_equal(found, 1);
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

/* A probe that does not fire is an error, not a hit for nothing. */
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

static int link_nothing(void *ctx, const struct calibrate_target *t, const struct mp_site *site)
{
	return 0;
}

static size_t drain_nothing(void *ctx)
{
	return 0;
}

/* A capture that did not happen is not known, not free; what a hit costs is known all the same. */
static void silent_capture(void **state)
{
	struct holder h = { 0 };
	struct calibrate_ops ops = {
		.link = do_link,
		.link_router = link_nothing,
		.drain = drain_nothing,
		.unlink = do_unlink,
		.ctx = &h,
	};
	struct hit_costs c;
	struct error e = { 0 };

	need_rights();
	assert_int_equal(calibrate__run(&c, MP_PROGRAM_ROUTE, 1, &ops, &e), 0);
	assert_true(c.hit[SITE_EMULATED] > 50);
	assert_int_equal(c.capture, 0);
	assert_int_equal(c.row, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(classes_differ), cmocka_unit_test(prediction_holds),
		cmocka_unit_test(refused_link),   cmocka_unit_test(silent_probe),
		cmocka_unit_test(silent_capture),
	};

	ability__probe_all(abilities);
	return cmocka_run_group_tests_name("calibrate", tests, NULL, NULL);
}
