/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A service of several processes with an engine of our own: who takes part, in which order, with
 * which rows; workers that die and come again; with a real broker and real probes. A worker is a
 * fork of this test that calls a probed function when it is told to.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <bpf/libbpf.h>

#include "collector/broker.h"
#include "collector/broker_client.h"
#include "collector/counters.h"
#include "collector/service.h"
#include "collector/stream.h"
#include "probe/base/error.h"
#include "probe/target/target.h"

#define WORKERS_MAX 8
#define SITES 2u

/* --- the processes -------------------------------------------------------------------------- */

__attribute__((noinline)) static void probed_place(void)
{
	__asm__ volatile("push %%rax; pop %%rax" ::: "memory");
}

/* Shared by all processes of this test. */
static struct {
	volatile int calls[WORKERS_MAX]; /* that worker @i is to make */
	volatile int done[WORKERS_MAX];
	volatile int takes_part[WORKERS_MAX]; /* for the engine */
	volatile int sites[WORKERS_MAX];      /* that it plans; 0: SITES */
	volatile pid_t pid[WORKERS_MAX];
	volatile int start[WORKERS_MAX]; /* the root starts worker @i */
} * shared;

static void work(int number)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	shared->pid[number] = getpid();
	for (;;) {
		while (shared->done[number] < shared->calls[number]) {
			probed_place();
			shared->done[number]++;
		}
		usleep(1000);
	}
}

/* The process that is named: a supervisor. */
static void supervise(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		for (int i = 0; i < WORKERS_MAX; i++) {
			if (!shared->start[i])
				continue;
			shared->start[i] = 0;
			if (!fork())
				work(i);
		}
		waitpid(-1, NULL, WNOHANG);
		usleep(1000);
	}
}

static pid_t start_worker(int number)
{
	shared->pid[number] = 0;
	shared->calls[number] = shared->done[number] = 0;
	shared->start[number] = 1;
	while (!shared->pid[number])
		usleep(1000);
	return shared->pid[number];
}

static void call(int number, int times)
{
	shared->calls[number] += times;
	while (shared->done[number] < shared->calls[number])
		usleep(1000);
}

/* --- the engine ----------------------------------------------------------------------------- */

struct engine {
	int joins, leaves, tables;
	pid_t left;
};

static struct engine *opened;

static int number_of(const struct target *t)
{
	for (int i = 0; i < WORKERS_MAX; i++)
		if (shared->pid[i] == target__info(t)->pid)
			return i;
	return -1;
}

static int match(struct target *t, struct error *e)
{
	int number = number_of(t);

	return number >= 0 && shared->takes_part[number];
}

/* Two rows at one place; the second is optional. */
static void plan_sites(struct engine_plan *plan, struct target *t)
{
	uint64_t address = (uint64_t)(uintptr_t)probed_place;
	int number = number_of(t);
	const struct mapping *m;
	size_t count;

	m = target__mappings(t, &count);
	while (count && (address < m->start || address >= m->end))
		m++, count--;
	assert_true(count > 0);
	plan->sites = shared->sites[number] ? (size_t)shared->sites[number] : SITES;
	for (size_t i = 0; i < plan->sites && i < ENGINE_SITES_MAX; i++) {
		plan->site[i].purpose = "place";
		plan->site[i].library = m;
		plan->site[i].place.file_offset = address - m->start + m->offset;
		plan->site[i].row.program = MP_PROGRAM_EMPTY;
		plan->site[i].required = 1;
	}
	strcpy(plan->role, "worker");
	plan->rank_tensor = (uint32_t)number;
}

static int open_engine(struct engine **out, struct target *t, struct engine_plan *plan,
		       struct error *e)
{
	*out = opened = calloc(1, sizeof(**out));
	plan_sites(plan, t);
	return 0;
}

static int join(struct engine *g, struct target *t, struct engine_plan *plan, struct error *e)
{
	int number = number_of(t);

	g->joins++;
	if (number < 0 || !shared->takes_part[number])
		return 0;
	if (shared->takes_part[number] < 0)
		return error__set(e, EXIT_UNSUPPORTED, ENOTSUP, "another build",
				  "test: failed to read worker %d", number);
	plan_sites(plan, t);
	return 1;
}

static void table(struct engine *g, pid_t pid, struct mp_site *rows)
{
	g->tables++;
	for (size_t i = 0; i < SITES; i++) {
		assert_int_equal(rows[i].tgid, pid);
		assert_int_equal(rows[i].enabled, 0);
	}
}

static void free_engine(struct engine *g)
{
	free(g);
}

static const struct engine_ops engine_test = {
	.name = "test",
	.looked_for = "",
	.match = match,
	.open = open_engine,
	.join = join,
	.table = table,
	.free = free_engine,
};

/* --- what is said --------------------------------------------------------------------------- */

static struct {
	int joined, left, failed, refused;
	pid_t last;
	char why[512];
} said;

static int on_joined(void *ctx, struct member *m)
{
	said.joined++;
	said.last = m->pid;
	return 0;
}

static int on_left(void *ctx, struct member *m)
{
	said.left += !m->failed;
	said.failed += m->failed;
	said.last = m->pid;
	return 0;
}

static int on_refused(void *ctx, pid_t pid, const struct error *why)
{
	said.refused++;
	said.last = pid;
	strcpy(said.why, why->what);
	return 0;
}

static const struct service_events events = { on_joined, on_left, on_refused, NULL };

/* --- the stage ------------------------------------------------------------------------------ */

static struct stage {
	pid_t root, broker;
	struct broker_client client;
	struct service *service;
	struct counters *counters;
} stage;

static pid_t serve(pid_t target, int *fd)
{
	struct broker_options o = { .pid = target };
	struct broker *b;
	int ends[2];
	pid_t pid;

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		close(ends[1]);
		if (broker__new(&b, &o, NULL))
			_exit(1);
		broker__set_multi(b, true);
		broker__serve(b, ends[0]);
		broker__free(b);
		_exit(0);
	}
	close(ends[0]);
	*fd = ends[1];
	return pid;
}

/* A supervisor with @workers, those of @part taking part and planning @sites; looked at. */
static int begin_with(int workers, int part, const int *sites, struct error *e)
{
	struct service_options o = { .ops = &engine_test };

	if (geteuid())
		skip();
	memset(&said, 0, sizeof(said));
	memset(&stage, 0, sizeof(stage));
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	assert_true(shared != MAP_FAILED);
	stage.root = fork();
	if (!stage.root)
		supervise();
	for (int i = 0; i < workers; i++) {
		shared->takes_part[i] = i < part;
		shared->sites[i] = sites ? sites[i] : 0;
		start_worker(i);
	}
	stage.broker = serve(stage.root, &stage.client.fd);
	stage.service = calloc(1, sizeof(*stage.service));
	o.broker = &stage.client;
	o.pid = stage.root;
	return service__open(stage.service, &o, e);
}

static int begin(int workers, int part, struct error *e)
{
	return begin_with(workers, part, NULL, e);
}

static void attach(void)
{
	struct service *s = stage.service;
	struct error e = { 0 };

	if (service__load(s, BROKER_RING_MIN, &e) || service__link(s, &e))
		fail_msg("%s", e.what);
	assert_int_equal(
		counters__open(&stage.counters, s->counters_fd, libbpf_num_possible_cpus(), &e), 0);
	assert_int_equal(service__begin(s, &events), 0);
	broker_client__calibrate(&stage.client, MP_PROGRAM_ROUTE,
				 1); /* the places are frozen from now on */
}

static void finish(void)
{
	int status;

	service__unlink(stage.service);
	counters__free(stage.counters);
	service__close(stage.service);
	free(stage.service);
	close(stage.client.fd);
	waitpid(stage.broker, &status, 0); /* its links go first */
	kill(stage.root, SIGKILL);
	waitpid(stage.root, NULL, 0);
	munmap(shared, sizeof(*shared));
}

/* As a session does it, until @*what is @value. */
static void follow(const int *what, int value)
{
	for (int i = 0; i < 200 && *what != value; i++) {
		struct service *s = stage.service;

		if (service__find_gone(s))
			assert_int_equal(service__drop_gone(s, stream__now_ns(), &events), 0);
		assert_int_equal(service__look(s, stream__now_ns(), &events), 0);
		usleep(20000);
	}
	assert_int_equal(*what, value);
}

static uint64_t hits(uint32_t row)
{
	struct mp_counters now[MP_SITES];

	assert_int_equal(counters__read(stage.counters, now, stage.service->rows), 0);
	return now[row].hits;
}

/* --- the tests ------------------------------------------------------------------------------ */

/* The engine is found below the named process; each member has rows of its own, and what one calls
 * is counted there and nowhere else. */
static void test_two_members(void **state)
{
	struct error e = { 0 };

	if (begin(3, 2, &e))
		fail_msg("%s", e.what);
	assert_int_equal(stage.service->members, 2);
	assert_int_equal(stage.service->member[0]->pid, shared->pid[0]);
	assert_int_equal(stage.service->member[1]->pid, shared->pid[1]);
	assert_int_equal(stage.service->member[1]->plan.rank_tensor, 1);
	assert_int_equal(stage.service->member[1]->plan.rank_data, UINT32_MAX);
	assert_int_equal(opened->joins, 3); /* the supervisor, and the two others */
	attach();
	assert_int_equal(opened->tables, 2);
	assert_int_equal(said.joined, 2);
	assert_int_equal(stage.service->rows, 2 * SITES);
	call(0, 3);
	call(1, 5);
	call(2, 7);
	for (uint32_t i = 0; i < 2 * SITES; i++)
		assert_int_equal(hits(i), i < SITES ? 3 : 5);
	finish();
}

/* A worker dies, and one comes in its place: its rows are others while the old ones rest. */
static void test_respawned(void **state)
{
	struct error e = { 0 };
	pid_t old;

	if (begin(2, 2, &e))
		fail_msg("%s", e.what);
	attach();
	call(1, 5);
	old = shared->pid[1];
	kill(old, SIGKILL);
	follow(&said.left, 1);
	assert_int_equal(said.last, old);
	assert_int_equal(stage.service->members, 1);
	assert_int_equal(stage.service->owner[SITES], 0);
	start_worker(1);
	follow(&said.joined, 3);
	assert_int_equal(said.last, shared->pid[1]);
	assert_int_equal(stage.service->member[1]->first, 2 * SITES);
	assert_int_equal(stage.service->member[1]->process, 3);
	call(0, 1);
	call(1, 4);
	assert_int_equal(hits(0), 1);
	assert_int_equal(hits(SITES), 5);
	assert_int_equal(hits(2 * SITES), 4);
	/* Rested rows are given again, and count on. */
	memset(stage.service->free_ns, 0, sizeof(stage.service->free_ns));
	kill(shared->pid[1], SIGKILL);
	follow(&said.left, 2);
	start_worker(1);
	follow(&said.joined, 4);
	assert_int_equal(stage.service->member[1]->first, SITES);
	call(1, 2);
	assert_int_equal(hits(SITES), 5 + 2);
	finish();
}

/* One that should take part and cannot: said once, and the others go on. */
static void test_refused(void **state)
{
	struct error e = { 0 };

	if (begin(1, 1, &e))
		fail_msg("%s", e.what);
	attach();
	shared->takes_part[1] = -1;
	start_worker(1);
	follow(&said.refused, 1);
	assert_int_equal(said.last, shared->pid[1]);
	assert_string_equal(said.why, "test: failed to read worker 1");
	for (int i = 0; i < 20; i++) {
		assert_int_equal(service__look(stage.service, stream__now_ns(), &events), 0);
		usleep(20000);
	}
	assert_int_equal(said.refused, 1);
	assert_int_equal(said.joined, 1);
	call(0, 2);
	assert_int_equal(hits(0), 2);
	finish();
}

/* More than there are rows for. */
static void test_no_rows(void **state)
{
	struct error e = { 0 };

	if (begin(1, 1, &e))
		fail_msg("%s", e.what);
	attach();
	for (uint32_t i = SITES; i < MP_SITES - 1; i++)
		stage.service->owner[i] = 77;
	shared->takes_part[1] = 1;
	start_worker(1);
	follow(&said.failed, 1);
	assert_int_equal(said.refused, 1);
	assert_non_null(strstr(said.why, "places of a capture are taken"));
	assert_int_equal(stage.service->members, 1);
	finish();
}

/* One plans more than there is room for: the others are probed, and it is said once. */
static void test_no_rows_at_first(void **state)
{
	static const int sites[] = { SITES, ENGINE_SITES_MAX + 1, SITES };
	struct error e = { 0 };

	if (begin_with(3, 3, sites, &e))
		fail_msg("%s", e.what);
	assert_int_equal(stage.service->members, 2);
	assert_int_equal(stage.service->member[1]->pid, shared->pid[2]);
	assert_int_equal(stage.service->member[1]->first, SITES);
	attach();
	assert_int_equal(said.joined, 2);
	assert_int_equal(said.refused, 1);
	assert_int_equal(said.last, shared->pid[1]);
	assert_string_equal(said.why, "collector: test plans too many sites");
	for (int i = 0; i < 3; i++)
		call(i, i + 1);
	assert_int_equal(hits(0), 1);
	assert_int_equal(hits(SITES), 3);
	for (int i = 0; i < 20; i++) {
		assert_int_equal(service__look(stage.service, stream__now_ns(), &events), 0);
		usleep(20000);
	}
	assert_int_equal(said.refused, 1);
	assert_int_equal(said.joined, 2);
	finish();
}

/* The first one cannot be left out. */
static void test_no_rows_for_the_first(void **state)
{
	static const int sites[] = { ENGINE_SITES_MAX + 1, SITES };
	struct error e = { 0 };

	assert_true(begin_with(2, 2, sites, &e) < 0);
	assert_string_equal(e.what, "collector: test plans too many sites");
	finish();
}

static void test_nothing_found(void **state)
{
	struct error e = { 0 };

	assert_true(begin(2, 0, &e) < 0);
	assert_int_equal(e.exit, EXIT_UNSUPPORTED);
	assert_non_null(strstr(e.what, "or in the 2 processes below it"));
	finish();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_two_members),
		cmocka_unit_test(test_respawned),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_no_rows),
		cmocka_unit_test(test_no_rows_at_first),
		cmocka_unit_test(test_no_rows_for_the_first),
		cmocka_unit_test(test_nothing_found),
	};

	return cmocka_run_group_tests_name("service", tests, NULL, NULL);
}
