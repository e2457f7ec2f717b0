/* SPDX-License-Identifier: BSD-2-Clause */
/* What is asked of kernel and rights: checked against what this process can really do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/capability.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "probe/attach/ability.h"
#include "probe/base/error.h"

static size_t open_descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	size_t n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

/* Programs of ours (by name) that the kernel still holds. */
static size_t programs_left(void)
{
	uint32_t id = 0;
	size_t n = 0;

	while (!bpf_prog_get_next_id(id, &id)) {
		struct bpf_prog_info info = { 0 };
		uint32_t size = sizeof(info);
		int fd = bpf_prog_get_fd_by_id(id);

		if (fd >= 0 && !bpf_obj_get_info_by_fd(fd, &info, &size))
			n += !strcmp(info.name, "mp_ability");
		if (fd >= 0)
			close(fd);
	}
	return n;
}

static void set_capability(cap_value_t which, cap_flag_value_t value)
{
	cap_t mine = cap_get_proc();

	assert_int_equal(cap_set_flag(mine, CAP_EFFECTIVE, 1, &which, value), 0);
	assert_int_equal(cap_set_proc(mine), 0);
	cap_free(mine);
}

static void names_are_complete(void **state)
{
	for (int i = 0; i < ABILITY_COUNT; i++)
		assert_true(strlen(ability__name((enum ability_id)i)) > 3);
	assert_string_equal(ability__name(ABILITY_CAP_BPF), "CAP_BPF");
	assert_string_equal(ability__name(ABILITY_COUNT), "?");
}

/* Every missing one says what to do; nothing stays open. */
static void leaves_nothing(void **state)
{
	struct ability all[ABILITY_COUNT];
	size_t before = open_descriptors();
	int i;

	ability__probe_all(all);
	assert_int_equal(open_descriptors(), before);
	for (i = 0; i < ABILITY_COUNT; i++) {
		assert_true(all[i].found[0]);
		assert_true(all[i].state == ABILITY_THERE || all[i].remedy[0]);
	}
	/* The kernel frees them a little later. */
	for (i = 0; i < 100 && programs_left(); i++)
		usleep(10000);
	assert_int_equal(programs_left(), 0);
}

/* Each right is dropped in turn and must be the one that is named. */
static void missing_right_is_named(void **state)
{
	static const struct {
		cap_value_t capability;
		enum ability_id id;
		const char *name;
	} rights[] = {
		{ CAP_BPF, ABILITY_CAP_BPF, "CAP_BPF" },
		{ CAP_PERFMON, ABILITY_CAP_PERFMON, "CAP_PERFMON" },
		{ CAP_SYS_PTRACE, ABILITY_CAP_SYS_PTRACE, "CAP_SYS_PTRACE" },
		{ CAP_DAC_READ_SEARCH, ABILITY_CAP_DAC_READ_SEARCH, "CAP_DAC_READ_SEARCH" },
		{ CAP_CHECKPOINT_RESTORE, ABILITY_CAP_CHECKPOINT_RESTORE,
		  "CAP_CHECKPOINT_RESTORE" },
	};
	struct ability all[ABILITY_COUNT];
	struct error e;
	size_t i;

	if (geteuid() != 0) {
		print_message("skipped: dropping rights takes having them\n");
		skip();
	}
	set_capability(CAP_SYS_ADMIN, CAP_CLEAR); /* it would stand in */
	for (i = 0; i < sizeof(rights) / sizeof(rights[0]); i++) {
		set_capability(rights[i].capability, CAP_CLEAR);
		ability__probe_all(all);
		set_capability(rights[i].capability, CAP_SET);
		assert_int_equal(all[rights[i].id].state, ABILITY_MISSING);
		memset(&e, 0, sizeof(e));
		assert_int_equal(ability__require(all, &e), -EPERM);
		assert_int_equal(e.exit, EXIT_PERMISSION);
		assert_non_null(strstr(e.what, rights[i].name));
		/* Root is not told to become root. */
		assert_null(strstr(e.remedy, "sudo"));
		assert_non_null(strstr(e.remedy, "container"));
		assert_non_null(strstr(e.remedy, "cap_checkpoint_restore"));
	}
	set_capability(CAP_SYS_ADMIN, CAP_SET);
}

/* All that is missing stands in one error, the rights before the kernel. */
static void require_names_all(void **state)
{
	struct ability all[ABILITY_COUNT];
	struct error e = { 0 };

	memset(all, 0, sizeof(all)); /* all there */
	assert_int_equal(ability__require(all, &e), 0);
	assert_false(error__is_set(&e));

	all[ABILITY_RING_BUFFER].required = 1;
	all[ABILITY_RING_BUFFER].state = ABILITY_MISSING;
	strcpy(all[ABILITY_RING_BUFFER].remedy, "another kernel");
	all[ABILITY_UPROBE_MULTI].state = ABILITY_MISSING; /* not required */
	assert_int_equal(ability__require(all, &e), -EOPNOTSUPP);
	assert_int_equal(e.exit, EXIT_UNSUPPORTED);
	assert_string_equal(e.what, "ability: failed to attach: missing BPF ring buffer");
	assert_string_equal(e.remedy, "another kernel");

	error__clear(&e);
	all[ABILITY_CAP_BPF] = all[ABILITY_CAP_PERFMON] = (struct ability){
		.required = 1, .state = ABILITY_MISSING, .by_rights = 1, .remedy = "grant"
	};
	assert_int_equal(ability__require(all, &e), -EPERM);
	assert_int_equal(e.exit, EXIT_PERMISSION);
	assert_string_equal(e.what, "ability: failed to attach: missing CAP_BPF, CAP_PERFMON");
	assert_string_equal(e.remedy, "grant");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_are_complete),
		cmocka_unit_test(leaves_nothing),
		cmocka_unit_test(missing_right_is_named),
		cmocka_unit_test(require_names_all),
	};

	return cmocka_run_group_tests_name("ability", tests, NULL, NULL);
}
