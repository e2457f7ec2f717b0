/* SPDX-License-Identifier: BSD-2-Clause */
/* MessagePack of every type, cut at every byte, and lengths that lie. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "probe/engine/wire/msgpack.h"

/* The first item of @bytes, which are all of the message. */
static int first(const char *bytes, size_t size, struct msgpack_item *item)
{
	uint8_t *exact = malloc(size ? size : 1); /* so that a sanitizer sees a read behind it */
	struct msgpack m;
	size_t at;
	int err;

	memcpy(exact, bytes, size);
	m = msgpack__over(exact, size, size);
	err = msgpack__next(&m, item);
	at = m.at;
	free(exact);
	if (err)
		assert_int_equal(at, 0);
	return err;
}

#define FIRST(text, item) first(text, sizeof(text) - 1, item)

static void reads_every_type(void **state)
{
	struct msgpack_item i;

	assert_int_equal(FIRST("\xc0", &i), 0);
	assert_int_equal(i.type, MSGPACK_NIL);
	assert_int_equal(FIRST("\xc3", &i), 0);
	assert_true(i.type == MSGPACK_BOOL && i.value.boolean);
	assert_int_equal(FIRST("\xc2", &i), 0);
	assert_true(i.type == MSGPACK_BOOL && !i.value.boolean);
	assert_int_equal(FIRST("\x7f", &i), 0);
	assert_true(i.type == MSGPACK_UINT && i.value.u == 127);
	assert_int_equal(FIRST("\xcc\xff", &i), 0);
	assert_true(i.type == MSGPACK_UINT && i.value.u == 255);
	assert_int_equal(FIRST("\xcd\x01\x00", &i), 0);
	assert_true(i.type == MSGPACK_UINT && i.value.u == 256);
	assert_int_equal(FIRST("\xce\xff\xff\xff\xff", &i), 0);
	assert_true(i.type == MSGPACK_UINT && i.value.u == UINT32_MAX);
	assert_int_equal(FIRST("\xcf\xff\xff\xff\xff\xff\xff\xff\xff", &i), 0);
	assert_true(i.type == MSGPACK_UINT && i.value.u == UINT64_MAX);
	assert_int_equal(FIRST("\xe0", &i), 0);
	assert_true(i.type == MSGPACK_INT && i.value.i == -32);
	assert_int_equal(FIRST("\xd0\x80", &i), 0);
	assert_true(i.type == MSGPACK_INT && i.value.i == -128);
	assert_int_equal(FIRST("\xd1\x7f\xff", &i), 0);
	assert_true(i.type == MSGPACK_UINT && i.value.u == 32767);
	assert_int_equal(FIRST("\xd2\xff\xff\xff\xfe", &i), 0);
	assert_true(i.type == MSGPACK_INT && i.value.i == -2);
	assert_int_equal(FIRST("\xd3\x80\0\0\0\0\0\0\0", &i), 0);
	assert_true(i.type == MSGPACK_INT && i.value.i == INT64_MIN);
	assert_int_equal(FIRST("\xca\x3f\x80\0\0", &i), 0);
	assert_true(i.type == MSGPACK_FLOAT && i.value.f == 1.0);
	assert_int_equal(FIRST("\xcb\xbf\xf0\0\0\0\0\0\0", &i), 0);
	assert_true(i.type == MSGPACK_FLOAT && i.value.f == -1.0);
}

static void reads_bytes_and_containers(void **state)
{
	static const struct {
		const char *bytes;
		size_t size;
		enum msgpack_type type;
		uint32_t length;
	} CASES[] = {
		{ "\xa2hi", 3, MSGPACK_STR, 2 },
		{ "\xd9\x02hi", 4, MSGPACK_STR, 2 },
		{ "\xda\0\x02hi", 5, MSGPACK_STR, 2 },
		{ "\xdb\0\0\0\x02hi", 7, MSGPACK_STR, 2 },
		{ "\xc4\x02hi", 4, MSGPACK_BIN, 2 },
		{ "\xc5\0\x02hi", 5, MSGPACK_BIN, 2 },
		{ "\xc6\0\0\0\x02hi", 7, MSGPACK_BIN, 2 },
		{ "\xc7\x02\xfehi", 5, MSGPACK_EXT, 2 },
		{ "\xc8\0\x02\xfehi", 6, MSGPACK_EXT, 2 },
		{ "\xc9\0\0\0\x02\xfehi", 8, MSGPACK_EXT, 2 },
		{ "\xd4\xfeh", 3, MSGPACK_EXT, 1 },
		{ "\xd8\xfehihihihihihihihi", 18, MSGPACK_EXT, 16 },
		{ "\x92\x01\x02", 3, MSGPACK_ARRAY, 2 },
		{ "\xdc\0\x02\x01\x02", 5, MSGPACK_ARRAY, 2 },
		{ "\xdd\0\0\0\x02\x01\x02", 7, MSGPACK_ARRAY, 2 },
		{ "\x81\x01\x02", 3, MSGPACK_MAP, 1 },
		{ "\xde\0\x01\x01\x02", 5, MSGPACK_MAP, 1 },
		{ "\xdf\0\0\0\x01\x01\x02", 7, MSGPACK_MAP, 1 },
	};

	for (size_t c = 0; c < sizeof(CASES) / sizeof(CASES[0]); c++) {
		struct msgpack_item i;
		struct msgpack m = msgpack__over(CASES[c].bytes, CASES[c].size, 0);

		assert_int_equal(msgpack__next(&m, &i), 0);
		assert_int_equal(i.type, CASES[c].type);
		assert_int_equal(i.size + i.count, CASES[c].length);
		if (i.size)
			assert_memory_equal(i.bytes, "hihihihihihihihi", i.size);
		if (i.type == MSGPACK_EXT)
			assert_int_equal(i.ext_type, -2);
		/* Cut anywhere it is an error: what is missing exists, or does not. */
		for (size_t n = 0; n < CASES[c].size; n++) {
			m = msgpack__over(CASES[c].bytes, n, CASES[c].size);
			assert_int_equal(msgpack__skip(&m), -ENODATA);
			assert_int_equal(m.at, 0);
			m = msgpack__over(CASES[c].bytes, n, n);
			assert_int_equal(msgpack__skip(&m), -EBADMSG);
		}
		m = msgpack__over(CASES[c].bytes, CASES[c].size, 0);
		assert_int_equal(msgpack__skip(&m), 0);
		assert_int_equal(m.at, CASES[c].size);
	}
}

static void refuses_lengths_that_lie(void **state)
{
	struct msgpack_item i;

	assert_int_equal(FIRST("", &i), -EBADMSG);
	assert_int_equal(FIRST("\xc1", &i), -EBADMSG);
	assert_int_equal(FIRST("\xdd\xff\xff\xff\xff\x01", &i), -EBADMSG);
	assert_int_equal(FIRST("\xdf\x80\0\0\0\x01", &i), -EBADMSG);
	assert_int_equal(FIRST("\xdf\0\0\0\x01\x01", &i), -EBADMSG);
	assert_int_equal(FIRST("\xdb\xff\xff\xff\xffx", &i), -EBADMSG);
	assert_int_equal(FIRST("\xc9\xff\xff\xff\xffx", &i), -EBADMSG);
}

static void passes_nested_values(void **state)
{
	static const char NESTED[] = "\x93\x90\x80\x82\xa1k\x92\x01\xc0\xa1l\x81\x02\x03";
	uint8_t deep[MSGPACK_DEPTH + 2];
	struct msgpack m = msgpack__over(NESTED, sizeof(NESTED), 0);
	struct msgpack_item i;

	assert_int_equal(msgpack__skip(&m), 0);
	assert_int_equal(m.at, sizeof(NESTED) - 1);
	memset(deep, 0x91, sizeof(deep));
	deep[MSGPACK_DEPTH] = 0x01;
	m = msgpack__over(deep, MSGPACK_DEPTH + 1, 0);
	assert_int_equal(msgpack__skip(&m), 0);
	deep[MSGPACK_DEPTH] = 0x91;
	deep[MSGPACK_DEPTH + 1] = 0x01;
	m = msgpack__over(deep, sizeof(deep), 0);
	assert_int_equal(msgpack__skip(&m), -E2BIG);
	assert_int_equal(m.at, 0);
	m = msgpack__over("\x01\xa1x", 3, 0);
	assert_int_equal(msgpack__expect(&m, MSGPACK_STR, &i), -EBADMSG);
	assert_int_equal(msgpack__expect(&m, MSGPACK_UINT, &i), 0);
	assert_int_equal(msgpack__expect(&m, MSGPACK_STR, &i), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_every_type),
		cmocka_unit_test(reads_bytes_and_containers),
		cmocka_unit_test(refuses_lengths_that_lie),
		cmocka_unit_test(passes_nested_values),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
