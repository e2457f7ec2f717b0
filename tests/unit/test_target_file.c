/* SPDX-License-Identifier: BSD-2-Clause */
/* Which files are opened by name for a reader that has no rights. */
#include <errno.h>
#include <fcntl.h>
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

#include "collector/target_file.h"
#include "tests/unit/child.h"

static char folder[] = "/tmp/target-file-XXXXXX";

static const char *place(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	return path;
}

static void put(const char *name, const char *bytes, size_t n)
{
	int fd = open(place(name), O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, n), n);
	close(fd);
}

/* 0 or -errno. */
static int try(const char *name)
{
	int fd = target_file__open_model(getpid(), place(name));

	if (fd >= 0) {
		assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
		close(fd);
	}
	return fd < 0 ? fd : 0;
}

/* Of a model folder, what is named and begins as its files do. */
static void opens_what_begins_as_it_is_named(void **state)
{
	static const struct {
		const char *name, *text;
		size_t size;
		int result;
	} cases[] = {
#define TEXT(name, text, result) { name, text, sizeof(text) - 1, result }
		TEXT("model.gguf", "GGUF", 0),
		TEXT("any", "GGUF", 0),
		TEXT("any", "GGU", -EACCES),
		TEXT("config.json", "{\"model_type\": \"olmoe\"}", 0),
		TEXT("config.json", " \n\t{\"a\":{\"model_type\":1}}", 0),
		TEXT("config.json", "{\"auths\":{\"a\":\"secret\"}}", -EACCES),
		TEXT("config.json", "[\"model_type\"]", -EACCES),
		TEXT("config.json", "", -EACCES),
		TEXT("config.json", "   ", -EACCES),
		TEXT("config.json", "GGUF{\"model_type\"", -EACCES),
		TEXT("generation_config.json", "{}", 0),
		TEXT("generation_config.json", "\0{}", -EACCES),
		TEXT("tokenizer.json", "\r\n{", 0),
		TEXT("tokenizer.json", "x{", -EACCES),
		TEXT("model.safetensors.index.json", "{", 0),
		TEXT("other.json", "{\"model_type\":1}", -EACCES),
		TEXT("xconfig.json", "{\"model_type\":1}", -EACCES),
		TEXT("config.json.bak", "{\"model_type\":1}", -EACCES),
		TEXT("tokenizer_config.json", "{}", -EACCES),
		TEXT("model-00001-of-00002.safetensors", "\2\0\0\0\0\0\0\0{}", 0),
		TEXT("model.safetensors", "\0\xe1\xf5\5\0\0\0\0{", 0),
		TEXT("model.safetensors", "\1\xe1\xf5\5\0\0\0\0{", -EACCES),
		TEXT("model.safetensors", "\2\0\0\0\0\0\0\x80{}", -EACCES),
		TEXT("model.safetensors", "\2\0\0\0\0\0\0\0[]", -EACCES),
		TEXT("model.safetensors", "\2\0\0\0\0\0\0\0", -EACCES),
		TEXT("model.safetensors", "GGUF", -EACCES),
#undef TEXT
	};

	need_root();
	assert_non_null(mkdtemp(folder));
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		put(cases[i].name, cases[i].text, cases[i].size);
		assert_int_equal(try(cases[i].name), cases[i].result);
		unlink(place(cases[i].name));
	}
	/* Named like one, and a folder. */
	assert_int_equal(mkdir(place("config.json"), 0700), 0);
	assert_int_equal(try("config.json"), -EINVAL);
	rmdir(place("config.json"));
	assert_int_equal(try("config.json"), -ENOENT);
	rmdir(folder);
}

#define HASH "0123456789abcdef0123456789abcdef01234567"
#define LONG_HASH HASH "89abcdef0123456789abcdef"
#define HUB "models--owner--name"

/* A link named as a model's file opens what is named so itself, or a blob of a hub's cache. */
static void what_a_link_leads_to(void **state)
{
	static const struct {
		const char *link, *to, *text;
		int result;
	} cases[] = {
		{ "config.json", "a/config.json", "{\"model_type\":1}", 0 },
		{ "config.json", "a/other.json", "{\"model_type\":1}", -EACCES },
		{ "tokenizer.json", "a/secret.json", "{}", -EACCES },
		{ "tokenizer.json", "a/config.json", "{}", -EACCES },
		{ "tokenizer.json", "a/" HASH, "{}", -EACCES },
		{ "config.json", HUB "/blobs/" HASH, "{\"model_type\":1}", 0 },
		{ "config.json", HUB "/blobs/" HASH, "{}", -EACCES },
		{ "tokenizer.json", HUB "/blobs/" LONG_HASH, "{}", 0 },
		{ "tokenizer.json", HUB "/blobs/" HASH "0", "{}", -EACCES },
		{ "tokenizer.json", HUB "/blobs/secret.json", "{}", -EACCES },
		{ "tokenizer.json", HUB "/refs/" HASH, "{}", -EACCES },
		{ "tokenizer.json", "blobs/" HASH, "{}", -EACCES },
		{ "tokenizer.json", "a/blobs/" HASH, "{}", -EACCES },
		{ "one.safetensors", "a/two.bin", "{}", -EACCES },
		{ "any", "a/model.gguf", "GGUF", 0 },
		{ "model.gguf", "a/" HASH, "GGUF", 0 },
		{ "any", "a/config.json", "GGUF", -EACCES },
	};
	static const char *const folders[] = { "a",          "blobs",     "a/blobs",       HUB,
					       HUB "/blobs", HUB "/refs", HUB "/snapshots" };

	need_root();
	strcpy(folder, "/tmp/target-file-XXXXXX");
	assert_non_null(mkdtemp(folder));
	for (size_t i = 0; i < sizeof(folders) / sizeof(*folders); i++)
		assert_int_equal(mkdir(place(folders[i]), 0700), 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		put(cases[i].to, cases[i].text, strlen(cases[i].text));
		assert_int_equal(symlink(cases[i].to, place(cases[i].link)), 0);
		assert_int_equal(try(cases[i].link), cases[i].result);
		unlink(place(cases[i].link));
		unlink(place(cases[i].to));
	}
	/* As a hub's cache has it. */
	put(HUB "/blobs/" HASH, "{}", 2);
	assert_int_equal(symlink("../blobs/" HASH, place(HUB "/snapshots/tokenizer.json")), 0);
	assert_int_equal(try(HUB "/snapshots/tokenizer.json"), 0);
	assert_int_equal(try(HUB "/blobs/" HASH), -EACCES);
	unlink(place(HUB "/snapshots/tokenizer.json"));
	unlink(place(HUB "/blobs/" HASH));
	assert_int_equal(symlink("/etc/passwd", place("tokenizer.json")), 0);
	assert_int_equal(try("tokenizer.json"), -EACCES);
	unlink(place("tokenizer.json"));
	for (size_t i = sizeof(folders) / sizeof(*folders); i--;)
		rmdir(place(folders[i]));
	assert_int_equal(rmdir(folder), 0);
}

/* What says which snapshot a revision is: a commit and nothing else, where a hub keeps it. */
static void references(void **state)
{
	static const struct {
		const char *name, *text;
		int result;
	} cases[] = {
		{ HUB "/refs/main", HASH, 0 },
		{ HUB "/refs/main", HASH "\n", 0 },
		{ HUB "/refs/main", HASH "\n\n", -EACCES },
		{ HUB "/refs/main", HASH "0", -EACCES },
		{ HUB "/refs/main", "0123456789abcdef0123456789abcdef0123456g", -EACCES },
		{ HUB "/refs/main", "0123456789ABCDEF0123456789abcdef01234567", -EACCES },
		{ HUB "/refs/main", "", -EACCES },
		{ HUB "/refs/main", "secret", -EACCES },
		{ HUB "/blobs/main", HASH, -EACCES },
		{ "refs/main", HASH, -EACCES },
		{ "a/refs/main", HASH, -EACCES },
		{ "secret", HASH, -EACCES },
	};
	static const char *const folders[] = {
		"refs", "a", "a/refs", HUB, HUB "/refs", HUB "/blobs"
	};

	need_root();
	strcpy(folder, "/tmp/target-file-XXXXXX");
	assert_non_null(mkdtemp(folder));
	for (size_t i = 0; i < sizeof(folders) / sizeof(*folders); i++)
		assert_int_equal(mkdir(place(folders[i]), 0700), 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		put(cases[i].name, cases[i].text, strlen(cases[i].text));
		assert_int_equal(try(cases[i].name), cases[i].result);
		unlink(place(cases[i].name));
	}
	for (size_t i = sizeof(folders) / sizeof(*folders); i--;)
		rmdir(place(folders[i]));
	assert_int_equal(rmdir(folder), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(opens_what_begins_as_it_is_named),
		cmocka_unit_test(what_a_link_leads_to),
		cmocka_unit_test(references),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
