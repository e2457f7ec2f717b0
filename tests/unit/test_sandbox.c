/* SPDX-License-Identifier: BSD-2-Clause */
/* Whom the reader becomes, and with whose rights files are opened meanwhile. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "collector/sandbox.h"
#include "probe/base/error.h"

#define CALLER 4242 /* has no entry in the list of users */
#define CALLER_GROUP 4243

static int be_root_by_sudo(void **state)
{
	setenv("SUDO_UID", "4242", 1);
	setenv("SUDO_GID", "4243", 1);
	return 0;
}

static void test_nobody_and_caller(void **state)
{
	struct sandbox_user u;
	struct error e = { 0 };
	struct stat st;
	char path[64];
	int fd;

	if (geteuid())
		skip();
	assert_int_equal(sandbox__choose(&u, NULL, &e), 0);
	assert_true(u.uid != 0 && u.uid != CALLER);
	assert_string_equal(u.name, "nobody");
	assert_true(u.change);
	assert_int_equal(sandbox__open(&u, "/etc/shadow", &e), -EACCES);
	assert_int_equal(e.exit, EXIT_PERMISSION);
	snprintf(path, sizeof(path), "/tmp/sandbox-%d", getpid());
	error__clear(&e);
	fd = sandbox__create(&u, path, &e);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_uid, CALLER);
	assert_int_equal(st.st_gid, CALLER_GROUP);
	assert_int_equal(st.st_mode & 07777, 0600);
	close(fd);
	unlink(path);
	/* And root again. */
	assert_int_equal(access("/etc/shadow", R_OK), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_nobody_and_caller, be_root_by_sudo),
	};

	return cmocka_run_group_tests_name("sandbox", tests, NULL, NULL);
}
