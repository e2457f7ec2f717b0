/* SPDX-License-Identifier: BSD-2-Clause */
/* The file of -o: whatever happens around it, what is written is not lost, and is said where. */
#include <limits.h>
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

#include "analyzer/output_file.h"
#include "analyzer/privilege.h"
#include "probe/base/error.h"

static char folder[64], path[96], other[96];
static struct identity us;

static int make_folder(void **state)
{
	snprintf(folder, sizeof(folder), "/tmp/output-file-XXXXXX");
	if (!mkdtemp(folder))
		return -1;
	snprintf(path, sizeof(path), "%s/in/a.moe", folder);
	snprintf(other, sizeof(other), "%s/in", folder);
	us = (struct identity){ .uid = geteuid(), .gid = getegid() };
	return mkdir(other, 0755);
}

static int remove_folder(void **state)
{
	char command[160];

	snprintf(command, sizeof(command), "rm -rf '%s'", folder);
	return system(command);
}

static struct output_file *open_output(void)
{
	struct error e = { 0 };
	struct output_file *o;

	assert_int_equal(output_file__open(&o, &us, path, &e), 0);
	assert_false(output_file__published(o));
	assert_int_equal(access(path, F_OK), -1);
	return o;
}

static void assert_holds(const char *file, const char *text)
{
	char found[16] = "";
	FILE *f = fopen(file, "r");

	assert_non_null(f);
	assert_non_null(fgets(found, sizeof(found), f));
	fclose(f);
	assert_string_equal(found, text);
}

/* Write "old" before and "new" after; free; both must be in the file that @o says. */
static void write_and_find(struct output_file *o, const char *expected, const char *reason)
{
	struct error e = { 0 };
	char where[PATH_MAX];

	assert_int_equal(write(output_file__fd(o), "new", 3), 3);
	snprintf(where, sizeof(where), "%s", output_file__where(o, &e));
	output_file__free(o);
	if (expected)
		assert_string_equal(where, expected);
	assert_holds(where, "oldnew");
	assert_int_equal(error__is_set(&e), reason != NULL);
	if (!reason)
		return;
	assert_int_equal(e.exit, EXIT_FAILED);
	assert_non_null(strstr(e.what, path));
	assert_non_null(strstr(e.what, reason));
	assert_non_null(strstr(e.remedy, where));
}

static void test_in_place(void **state)
{
	struct output_file *o = open_output();

	assert_int_equal(write(output_file__fd(o), "old", 3), 3);
	output_file__publish(o);
	assert_true(output_file__published(o));
	write_and_find(o, path, NULL);
}

/* A folder stands where the file should come to. */
static void test_refused_rename(void **state)
{
	struct output_file *o = open_output();

	assert_int_equal(write(output_file__fd(o), "old", 3), 3);
	assert_int_equal(mkdir(path, 0755), 0);
	output_file__publish(o);
	assert_true(output_file__published(o));
	write_and_find(o, NULL, "failed to rename what was written to");
}

/* The user may not write to the folder any more. */
static void test_folder_turns_read_only(void **state)
{
	struct output_file *o;

	if (geteuid())
		skip();
	us = (struct identity){ .is_root = true,
				.uid = 4242,
				.gid = 4242,
				.by_sudo = true,
				.sudo_uid = 4242,
				.sudo_gid = 4242 };
	assert_int_equal(chmod(folder, 0755), 0);
	assert_int_equal(chown(other, 4242, 4242), 0);
	o = open_output();
	assert_int_equal(write(output_file__fd(o), "old", 3), 3);
	assert_int_equal(chmod(other, 0555), 0);
	output_file__publish(o);
	write_and_find(o, NULL, "Permission denied");
}

/* The folder is moved, before or after the file is in its place, and another one takes its name. */
static void test_folder_is_replaced(void **state)
{
	char moved[96], file[128];

	snprintf(moved, sizeof(moved), "%s/moved", folder);
	snprintf(file, sizeof(file), "%s/a.moe", moved);
	for (int after = 0; after < 2; after++) {
		struct output_file *o = open_output();

		assert_int_equal(write(output_file__fd(o), "old", 3), 3);
		if (after)
			output_file__publish(o);
		assert_int_equal(rename(other, moved), 0);
		if (after)
			assert_int_equal(mkdir(other, 0755), 0);
		output_file__publish(o);
		write_and_find(o, file, "it was moved or replaced");
		assert_int_equal(unlink(file), 0);
		assert_int_equal(rmdir(moved), 0);
		if (!after)
			assert_int_equal(mkdir(other, 0755), 0);
	}
}

static void test_removed(void **state)
{
	struct output_file *o = open_output();
	struct error e = { 0 };

	output_file__publish(o);
	assert_int_equal(unlink(path), 0);
	assert_string_equal(output_file__where(o, &e), path);
	assert_non_null(strstr(e.what, "it was removed"));
	assert_string_equal(e.remedy, "record again");
	output_file__free(o);
}

/* Nothing was put in its place: nothing stays. */
static void test_given_up(void **state)
{
	output_file__free(open_output());
	assert_int_equal(rmdir(other), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_in_place),
		TEST(test_refused_rename),
		TEST(test_folder_turns_read_only),
		TEST(test_folder_is_replaced),
		TEST(test_removed),
		TEST(test_given_up),
	};

	return cmocka_run_group_tests_name("output_file", tests, NULL, NULL);
}
