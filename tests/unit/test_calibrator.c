/* SPDX-License-Identifier: BSD-2-Clause */
/* The process that measures a hit: what rights it keeps, and that these are enough. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "collector/calibrator.h"
#include "probe/attach/ability.h"
#include "probe/base/error.h"
#include "tests/unit/child.h"

#define BIT(capability) (1ull << (capability))
#define TRIES 6000 /* a minute: the kernel may keep its end for long, see unlinker.h */
#define TRY_NS 10000000

static struct ability abilities[ABILITY_COUNT];
static struct calibrator running;

static void let_go(void *called)
{
	*(int *)called = 1;
}

/* A number of a line of its status; UINT64_MAX: it is gone. */
static uint64_t status_of(pid_t pid, const char *format)
{
	unsigned long long n = UINT64_MAX;
	char path[64], line[256];
	FILE *in;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	in = fopen(path, "re");
	while (in && fgets(line, sizeof(line), in))
		if (sscanf(line, format, &n) == 1)
			break;
	if (in)
		fclose(in);
	return n;
}

/* Until it has a result. Returns what capabilities it had at its fewest. */
static uint64_t watch(struct calibrator *c)
{
	const struct timespec wait = { .tv_nsec = TRY_NS };
	uint64_t fewest = UINT64_MAX, now;

	for (int i = 0; i < TRIES && c->pid; i++) {
		now = status_of(c->pid, "CapEff: %llx");
		/* Once it has ended, but was not waited for, it has none. */
		if (now && now < fewest && status_of(c->pid, "NoNewPrivs: %llu") == 1)
			fewest = now;
		nanosleep(&wait, NULL);
		calibrator__poll(c);
	}
	return fewest;
}

/* A hit of each class is measured, and captures, which were delivered. How much they are is no
 * test's to say; to be turned away may cost less than can be told from nothing. */
static void assert_costs(const struct hit_costs *c)
{
	print_message("emulated %llu ns, turned away %llu ns more, a capture %llu ns more, each "
		      "further row of %llu bytes %llu ns\n",
		      (unsigned long long)c->hit[SITE_EMULATED], (unsigned long long)c->away,
		      (unsigned long long)c->capture, (unsigned long long)c->row_bytes,
		      (unsigned long long)c->row);
	assert_true(c->hit[SITE_EMULATED] > 50);
	assert_true(c->hit[SITE_STEPPED] > c->hit[SITE_EMULATED]);
	assert_true(c->capture > 0);
	assert_true(c->row > 0);
	assert_true(c->row_bytes >= 64);
}

static void measure(enum mp_program router, bool multi)
{
	const uint64_t few = BIT(CAP_BPF) | BIT(CAP_PERFMON), more = few | BIT(CAP_SYS_ADMIN);
	struct calibrator *c = &running;
	int called = 0;
	struct calibrator_options o = {
		.threads = 1, .router = router, .multi = multi, .let_go = let_go, .ctx = &called
	};

	if (abilities[multi ? ABILITY_UPROBE_MULTI : ABILITY_UPROBE].state != ABILITY_THERE)
		return;
	*c = (struct calibrator){ 0 };
	assert_int_equal(calibrator__start(c, &o), 0);
	assert_int_equal(calibrator__start(c, &o), -EALREADY);
	assert_int_equal(watch(c), multi ? few : more);
	assert_int_equal(c->pid, 0);
	assert_costs(&c->costs);
	assert_int_equal(called, 0); /* there, not here */
}

static int stop(void **state)
{
	calibrator__stop(&running);
	return 0;
}

static void test_rights(void **state)
{
	struct error e = { 0 };

	need_root();
	if (ability__require(abilities, &e)) {
		print_message("SKIP: %s\n", e.what);
		skip();
	}
	for (int multi = 0; multi < 2; multi++) {
		measure(MP_PROGRAM_ROUTE, multi);
		measure(MP_PROGRAM_TENSORS, multi);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_rights, stop),
	};

	ability__probe_all(abilities);
	return cmocka_run_group_tests_name("calibrator", tests, NULL, NULL);
}
