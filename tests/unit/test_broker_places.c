/* SPDX-License-Identifier: BSD-2-Clause */
/* Where the broker places probes, and where it does not for a reader that was taken over: programs
 * and places out of bounds, other processes, places that are new once it is attached. */
#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "collector/broker.h"
#include "collector/broker_protocol.h"
#include "probe/base/error.h"
#include "tests/unit/broker_play.h"

/* The programs are loaded, and links are still refused out of bounds. */
static void test_link_refusals(void **state)
{
	struct family f = start_family();
	struct broker *b = start_broker(f.parent, false);
	struct broker_request r;
	struct broker_response response;
	int fds[BROKER_FDS_MAX];

	load_or_skip(b, &f);
	r = (struct broker_request){ .operation = BROKER_LINK, .pid = f.parent };
	assert_int_equal(ask(b, &r), -EINVAL);
	r.places.count = LINK_PLACES_MAX + 1;
	assert_int_equal(ask(b, &r), -EINVAL);
	r.places.count = UINT32_MAX;
	assert_int_equal(ask(b, &r), -EINVAL);
	r.places.count = 1;
	r.places.program = MP_PROGRAM_COUNT;
	assert_int_equal(ask(b, &r), -EINVAL);
	r.places.program = MP_PROGRAM_EMPTY;
	r.places.cookie[0] = MP_SITES;
	assert_int_equal(ask(b, &r), -EINVAL);
	r.places.cookie[0] = 0;
	r.pid = getpid();
	assert_int_equal(ask(b, &r), -EACCES);
	r.pid = f.parent;
	assert_true(ask(b, &r) < 0); /* nothing is mapped at 0 */
	end_family(&f);
	broker__answer(b, &r, &response, fds);
	assert_int_equal(response.result, -ESRCH);
	assert_int_equal(response.error.exit, EXIT_NO_TARGET);
	broker__free(b);
}

/* --- which places --------------------------------------------------------------------------- */

/* Our own functions, which the family has too and never calls. */
__attribute__((noinline)) static void first_place(void)
{
	__asm__ volatile("nop");
}

__attribute__((noinline)) static void second_place(void)
{
	__asm__ volatile("nop; nop");
}

/* A request that puts the empty program at @function of @pid, which is a fork of us. */
static struct broker_request link_at(pid_t pid, void (*function)(void))
{
	struct broker_request r = { .operation = BROKER_LINK, .pid = pid };
	uint64_t address = (uint64_t)(uintptr_t)function;
	unsigned long long start, end, offset;
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[PATH_MAX + 128];

	assert_non_null(maps);
	r.places.program = MP_PROGRAM_EMPTY;
	r.places.count = 1;
	r.places.cookie[0] = MP_SITES - 1;
	while (fgets(line, sizeof(line), maps)) {
		if (sscanf(line, "%llx-%llx %*s %llx", &start, &end, &offset) != 3 ||
		    address < start || address >= end)
			continue;
		r.start = start;
		r.end = end;
		r.places.offset[0] = address - start + offset;
	}
	fclose(maps);
	assert_true(r.end > 0);
	return r;
}

static int unlink_all(struct broker *b)
{
	struct broker_request r = { .operation = BROKER_UNLINK };

	return ask(b, &r);
}

/* Once attached, a reader that was taken over finds no new place for a probe. */
static void test_frozen(void **state)
{
	struct broker_request calibrate = { .operation = BROKER_CALIBRATE,
					    .calibrate = { 1, MP_PROGRAM_ROUTE } };

	for (int by_unlink = 0; by_unlink < 2; by_unlink++) {
		struct family f = start_family();
		struct broker *b = start_broker(f.parent, false);
		struct broker_request old = link_at(f.parent, first_place), other = old;
		struct broker_request fresh = link_at(f.parent, second_place);

		load_or_skip(b, &f);
		assert_int_equal(ask(b, &old), 0);
		assert_int_equal(by_unlink ? unlink_all(b) : ask(b, &calibrate), 0);
		assert_int_equal(ask(b, &fresh), -EACCES);
		other.places.program = MP_PROGRAM_ROUTE;
		assert_int_equal(ask(b, &other), -EACCES); /* there, but another program */
		other = old;
		other.places.count = 2;
		other.places.offset[1] = fresh.places.offset[0];
		assert_int_equal(ask(b, &other), -EACCES); /* one of both is new */
		assert_int_equal(unlink_all(b), 0);
		assert_int_equal(ask(b, &old), 0);
		assert_int_equal(unlink_all(b), 0);
		assert_int_equal(ask(b, &fresh), -EACCES);
		end_family(&f);
		broker__free(b);
	}
}

/* What had a probe in one process of the service may have one in another that came later: a worker
 * that was started anew. Whatever else may not, and no process outside may. */
static void test_frozen_but_for_descendants(void **state)
{
	struct family f = start_family(), stranger = start_family();
	struct broker *b = start_broker(f.parent, false);
	struct broker_request of_parent = link_at(f.parent, first_place);
	struct broker_request of_child = link_at(f.child, first_place);
	struct broker_request fresh = link_at(f.child, second_place);
	struct broker_request foreign = link_at(stranger.child, first_place);
	struct broker_request calibrate = { .operation = BROKER_CALIBRATE,
					    .calibrate = { 1, MP_PROGRAM_ROUTE } };
	struct broker_request unlink = { .operation = BROKER_UNLINK, .pid = f.child };

	load_or_skip(b, &f);
	assert_int_equal(ask(b, &of_parent), 0);
	/* Only what captures a router's result is measured. */
	calibrate.calibrate.router = MP_PROGRAM_TASKS;
	assert_int_equal(ask(b, &calibrate), -EINVAL);
	calibrate.calibrate.router = UINT32_MAX;
	assert_int_equal(ask(b, &calibrate), -EINVAL);
	calibrate.calibrate.router = MP_PROGRAM_TENSORS;
	assert_int_equal(ask(b, &calibrate), 0);
	assert_int_equal(ask(b, &of_child), 0);
	assert_int_equal(ask(b, &fresh), -EACCES);
	assert_int_equal(ask(b, &foreign), -EACCES);
	of_child.places.program = MP_PROGRAM_ROUTE;
	assert_int_equal(ask(b, &of_child), -EACCES);
	/* That of the child alone goes, and may come again. */
	assert_int_equal(ask(b, &unlink), 0);
	of_child.places.program = MP_PROGRAM_EMPTY;
	assert_int_equal(ask(b, &of_child), 0);
	assert_int_equal(unlink_all(b), 0);
	end_family(&stranger);
	end_family(&f);
	broker__free(b);
}

/* What the named process started is probed too, unless it became another user's. */
static void test_user_of_descendant(void **state)
{
	static const uid_t nobody = 65534;

	if (geteuid())
		skip();
	for (int foreign = 0; foreign < 2; foreign++) {
		struct family f = start_family_of(foreign ? nobody : 0);
		struct broker *b = start_broker(f.parent, false);
		struct broker_request parent = link_at(f.parent, first_place);
		struct broker_request child = link_at(f.child, first_place);

		load_or_skip(b, &f);
		assert_int_equal(ask(b, &child), foreign ? -EACCES : 0);
		assert_int_equal(ask(b, &parent), 0);
		end_family(&f);
		broker__free(b);
	}
}

/* A process whose requests' heads are read: only where the command line asked for it, and only of
 * the service; also of one that came once all was frozen. */
static void test_heads(void **state)
{
	struct family f = start_family(), stranger = start_family();
	const struct broker_options o = { .pid = f.parent, .heads = true };
	struct broker_request parent = { .operation = BROKER_LINK, .pid = f.parent }, other;
	struct broker *b = start_broker(f.parent, false);
	struct error e = { 0 };

	parent.places.program = MP_PROGRAM_HEADS;
	parent.places.count = 1;
	load_or_skip(b, &f);
	assert_int_equal(ask(b, &parent), -EACCES);
	broker__free(b);
	assert_int_equal(broker__new(&b, &o, &e), 0);
	load_or_skip(b, &f);
	other = parent;
	other.pid = stranger.child;
	assert_int_equal(ask(b, &other), -EACCES);
	other = parent;
	other.places.count = 2;
	assert_int_equal(ask(b, &other), -EACCES);
	assert_int_equal(ask(b, &parent), 0);
	assert_int_equal(unlink_all(b), 0);
	other = parent;
	other.pid = f.child;
	assert_int_equal(ask(b, &other), 0);
	assert_int_equal(ask(b, &parent), 0);
	end_family(&stranger);
	end_family(&f);
	broker__free(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_link_refusals),
		cmocka_unit_test(test_frozen),
		cmocka_unit_test(test_frozen_but_for_descendants),
		cmocka_unit_test(test_user_of_descendant),
		cmocka_unit_test(test_heads),
	};

	return cmocka_run_group_tests_name("broker_places", tests, NULL, NULL);
}
