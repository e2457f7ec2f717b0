/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "probe/base/buffer.h"
#include "probe/base/error.h"
#include "probe/base/log.h"
#include "probe/base/sha256.h"

static void assert_digest(const char *bytes, size_t size, size_t part, const char *want)
{
	uint8_t digest[SHA256_BYTES];
	char text[2 * SHA256_BYTES + 1];
	struct sha256 h;

	sha256__begin(&h);
	for (size_t at = 0; at < size; at += part)
		sha256__add(&h, bytes + at, size - at < part ? size - at : part);
	sha256__end(&h, digest);
	for (size_t i = 0; i < SHA256_BYTES; i++)
		snprintf(text + 2 * i, 3, "%02x", digest[i]);
	assert_string_equal(text, want);
}

/* FIPS 180-4's own examples, and a million times "a"; in parts of any size. */
static void sha256_of_known_texts(void **state)
{
	static const char two[] = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
	char *million = malloc(1000000);

	assert_digest("", 0, 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
	assert_digest("abc", 3, 9,
		      "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	for (size_t part = 1; part < sizeof(two); part++)
		assert_digest(two, sizeof(two) - 1, part,
			      "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
	memset(million, 'a', 1000000);
	assert_digest(million, 1000000, 997,
		      "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
	free(million);
}

static void buffer_grows_and_keeps_its_bytes(void **state)
{
	struct buffer b = { 0 };

	for (unsigned i = 0; i < 1000; i++)
		assert_int_equal(buffer__append(&b, &i, sizeof(i)), 0);
	assert_int_equal(b.size, 4000);
	for (unsigned i = 0; i < 1000; i++)
		assert_memory_equal(b.data + 4 * i, &i, sizeof(i));
	buffer__consume(&b, 3996);
	assert_int_equal(b.size, 4);
	assert_memory_equal(b.data, &(unsigned){ 999 }, 4);
	buffer__consume(&b, 0);
	assert_int_equal(b.size, 4);
	buffer__free(&b);
	assert_null(b.data);
	buffer__free(&b);
}

static void buffer_extends_with_zeros(void **state)
{
	struct buffer b = { 0 };
	uint8_t *p;

	assert_int_equal(buffer__append(&b, "ab", 2), 0);
	memset(b.data + 2, 0xff, b.capacity - 2);
	p = buffer__extend(&b, 3);
	assert_ptr_equal(p, b.data + 2);
	assert_memory_equal(b.data, "ab\0\0\0", 5);
	assert_int_equal(b.size, 5);
	assert_non_null(buffer__extend(&b, 0));
	assert_int_equal(b.size, 5);
	buffer__free(&b);
}

static void buffer_refuses_what_overflows(void **state)
{
	struct buffer b = { 0 };

	assert_int_equal(buffer__append(&b, "x", 1), 0);
	assert_int_equal(buffer__reserve(&b, SIZE_MAX), -ENOMEM);
	assert_int_equal(buffer__reserve(&b, SIZE_MAX / 2 + 2), -ENOMEM);
	assert_int_equal(b.size, 1);
	assert_int_equal(b.data[0], 'x');
	buffer__free(&b);
}

static void cursor_reads_little_endian(void **state)
{
	static const uint8_t bytes[] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0xff };
	struct cursor c = cursor__over(bytes, sizeof(bytes));

	assert_int_equal(cursor__u16(&c), 0x0201);
	assert_int_equal(cursor__u32(&c), 0x06050403);
	assert_true(cursor__u64(&c) == 0x0e0d0c0b0a090807ull);
	assert_int_equal(cursor__left(&c), 1);
	assert_int_equal(cursor__u8(&c), 0xff);
	assert_int_equal(cursor__left(&c), 0);
	assert_false(c.failed);
	assert_non_null(cursor__take(&c, 0));
}

static void cursor_stays_failed(void **state)
{
	static const uint8_t bytes[] = { 1, 2, 3 };
	struct cursor c = cursor__over(bytes, sizeof(bytes));

	assert_int_equal(cursor__u32(&c), 0);
	assert_true(c.failed);
	assert_int_equal(cursor__u8(&c), 0); /* though a byte is left */
	assert_null(cursor__take(&c, 1));
	assert_int_equal(c.at, 0);
	c = cursor__over(bytes, sizeof(bytes));
	assert_null(cursor__take(&c, SIZE_MAX));
	assert_true(c.failed);
}

static void error_keeps_the_first(void **state)
{
	struct error e = { 0 };

	assert_false(error__is_set(&e));
	assert_int_equal(error__set(&e, EXIT_PERMISSION, EACCES, "do it", "a: failed '%s'", "x"),
			 -EACCES);
	assert_int_equal(error__set(&e, EXIT_FAILED, EIO, NULL, "b: failed"), -EIO);
	assert_true(error__is_set(&e));
	assert_int_equal(e.exit, EXIT_PERMISSION);
	assert_int_equal(e.errnum, EACCES);
	assert_string_equal(e.what, "a: failed 'x'");
	assert_string_equal(e.remedy, "do it");
	error__clear(&e);
	assert_false(error__is_set(&e));
	assert_int_equal(error__set(NULL, EXIT_FAILED, EIO, NULL, "c"), -EIO);
	assert_false(error__is_set(NULL));
	error__clear(NULL);
}

static void error_is_cut_and_cleaned(void **state)
{
	char longer[2000];
	struct error e = { 0 };

	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	error__set(&e, EXIT_FAILED, EIO, longer, "%s", longer);
	assert_int_equal(strlen(e.what), sizeof(e.what) - 1);
	assert_int_equal(strlen(e.remedy), sizeof(e.remedy) - 1);
	error__clear(&e);
	error__set(&e, EXIT_FAILED, EIO, "one\ntwo\r", "open '%s'", "\x1b[2Jm\xc3\xb6\n\x7f");
	assert_string_equal(e.what, "open '?[2Jm\xc3\xb6?\?'");
	assert_string_equal(e.remedy, "one\ntwo?");
}

static void printed(const struct error *e, char *text, size_t size)
{
	FILE *out = fmemopen(text, size, "w");

	assert_non_null(out);
	error__print(e, "moeprobe", out);
	fclose(out);
}

static void error_prints_what_and_remedy(void **state)
{
	struct error e = { 0 };
	char text[256];

	printed(&e, text, sizeof(text));
	assert_string_equal(text, "moeprobe: failed (no reason given)\n");
	error__set(&e, EXIT_FAILED, EIO, NULL, "a: failed to read 'b': gone");
	printed(&e, text, sizeof(text));
	assert_string_equal(text, "moeprobe: a: failed to read 'b': gone\n");
	error__clear(&e);
	error__set(&e, EXIT_FAILED, EIO, "c", "a");
	printed(&e, text, sizeof(text));
	assert_string_equal(text, "moeprobe: a\n  try: c\n");
}

/* What @level messages come out on standard error when shown up to @shown. */
static size_t logged(enum log_level shown, enum log_level level, char *text, size_t size)
{
	int ends[2], saved = dup(STDERR_FILENO);
	ssize_t n;

	assert_int_equal(pipe(ends), 0);
	fflush(stderr);
	dup2(ends[1], STDERR_FILENO);
	log__set_level(shown);
	log__write(level, "module", "read %d of '%s'", 3, "a\nb\x1b");
	log__set_level(LOG_WARN);
	dup2(saved, STDERR_FILENO);
	close(saved);
	close(ends[1]);
	n = read(ends[0], text, size - 1);
	close(ends[0]);
	assert_true(n >= 0);
	text[n] = '\0';
	return (size_t)n;
}

static void log_shows_by_level(void **state)
{
	char text[256];

	assert_int_equal(logged(LOG_WARN, LOG_INFO, text, sizeof(text)), 0);
	logged(LOG_INFO, LOG_INFO, text, sizeof(text));
	assert_string_equal(text, "module: read 3 of 'a?b?'\n");
	logged(LOG_ERROR, LOG_ERROR, text, sizeof(text));
	assert_string_equal(text, "module: read 3 of 'a?b?'\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sha256_of_known_texts),
		cmocka_unit_test(buffer_grows_and_keeps_its_bytes),
		cmocka_unit_test(buffer_extends_with_zeros),
		cmocka_unit_test(buffer_refuses_what_overflows),
		cmocka_unit_test(cursor_reads_little_endian),
		cmocka_unit_test(cursor_stays_failed),
		cmocka_unit_test(error_keeps_the_first),
		cmocka_unit_test(error_is_cut_and_cleaned),
		cmocka_unit_test(error_prints_what_and_remedy),
		cmocka_unit_test(log_shows_by_level),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
