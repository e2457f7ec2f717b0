/* SPDX-License-Identifier: BSD-2-Clause */
/* Files of the command line are opened with the rights of whoever typed it. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "analyzer/privilege.h"
#include "tests/unit/child.h"
#include "probe/base/error.h"

static char path[64];

static int make_file(void **state)
{
	int fd;

	snprintf(path, sizeof(path), "/tmp/privilege-%d", getpid());
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
	if (fd >= 0)
		close(fd);
	return fd < 0;
}

static int remove_file(void **state)
{
	unsetenv("SUDO_UID");
	unsetenv("SUDO_GID");
	return unlink(path);
}

/* What opening the file gives to root by sudo, typed by @uid of @gid. */
static int open_by_sudo(const char *uid, const char *gid)
{
	struct error e = { 0 };
	struct identity id;
	int fd, err;

	setenv("SUDO_UID", uid, 1);
	setenv("SUDO_GID", gid, 1);
	assert_int_equal(identity__find(&id, NULL, &e), 0);
	assert_true(id.by_sudo);
	err = identity__open_file(&id, &fd, path, &e);
	if (!err)
		close(fd);
	assert_int_equal(fd >= 0, !err);
	assert_int_equal(error__is_set(&e), err != 0);
	if (err) {
		assert_int_equal(e.exit, EXIT_FAILED);
		assert_non_null(strstr(e.what, path));
	}
	/* And root again, in every respect. */
	assert_int_equal(geteuid(), 0);
	assert_int_equal(access("/etc/shadow", R_OK), 0);
	return err;
}

static void test_typists_rights(void **state)
{
	need_root();
	assert_int_equal(open_by_sudo("4242", "4243"), -EACCES);
	assert_int_equal(chown(path, 4242, 0), 0);
	assert_int_equal(open_by_sudo("4242", "4243"), 0);
	assert_int_equal(chown(path, 0, 4243), 0);
	assert_int_equal(open_by_sudo("4242", "4243"), -EACCES);
	assert_int_equal(chmod(path, 0640), 0);
	assert_int_equal(open_by_sudo("4242", "4243"), 0);
}

/* Root's own groups open nothing, and come back. */
static void test_groups_are_not_roots(void **state)
{
	gid_t ours = 4244, now[4];

	need_root();
	assert_int_equal(setgroups(1, &ours), 0);
	assert_int_equal(chown(path, 0, 4244), 0);
	assert_int_equal(chmod(path, 0640), 0);
	assert_int_equal(open_by_sudo("4242", "4243"), -EACCES);
	assert_int_equal(getgroups(4, now), 1);
	assert_int_equal(now[0], ours);
	assert_int_equal(setgroups(0, NULL), 0);
}

static void test_root_and_standard_input(void **state)
{
	struct error e = { 0 };
	struct identity id;
	int fd;

	need_root();
	assert_int_equal(identity__find(&id, NULL, &e), 0);
	assert_false(id.by_sudo);
	assert_int_equal(identity__open_file(&id, &fd, path, &e), 0);
	close(fd);
	assert_int_equal(identity__open_file(&id, &fd, "-", &e), 0);
	assert_true(fd > STDERR_FILENO);
	close(fd);
	assert_int_equal(identity__open_file(&id, &fd, "/tmp", &e), -EISDIR);
	assert_int_equal(fd, -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_typists_rights, make_file, remove_file),
		cmocka_unit_test_setup_teardown(test_groups_are_not_roots, make_file, remove_file),
		cmocka_unit_test_setup_teardown(test_root_and_standard_input, make_file,
						remove_file),
	};

	return cmocka_run_group_tests_name("privilege", tests, NULL, NULL);
}
