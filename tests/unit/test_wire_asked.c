/* SPDX-License-Identifier: BSD-2-Clause */
/* Chosen headers of requests: each of its own request, and nothing where that is not certain. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "probe/abi/event.h"
#include "probe/engine/wire/asked.h"

#define HEAD_A "POST /v1/chat HTTP/1.1\r\nHost: x\r\nX-Tenant: a\r\nContent-Length: 10\r\n\r\n"
#define HEAD_B "POST /v1/chat HTTP/1.1\r\nX-TENANT:\t b \t\r\ncontent-length: 4\r\n\r\n"
#define HEAD_GET "GET / HTTP/1.1\r\nx-tenant: c\r\n\r\n"
#define HEAD_NONE "POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n"

static struct header_names names;
static struct wire_asked asked;
static uint64_t at; /* what the connection has brought so far */

static int choose(void **state)
{
	memset(&names, 0, sizeof(names));
	memset(&asked, 0, sizeof(asked));
	at = 0;
	assert_int_equal(header_names__add(&names, "X-Tenant"), 0);
	return header_names__add(&names, "x-request-id");
}

enum { OPENS = 1, LOST = 2, ANSWERING = 4, CUT = 8, GOES_ON = 16 };

/* A call brings @head and @body bytes behind it. */
static void bring(const char *head, uint64_t body, unsigned flags)
{
	size_t size = strlen(head);
	const struct asked_part p = {
		.position = at,
		.length = size + body,
		.head = (const uint8_t *)head,
		.head_size = size,
		.opens = flags & OPENS,
		.begins = !(flags & GOES_ON),
		.ends = !(flags & CUT),
		.lost = flags & LOST,
	};

	wire_asked__part(&asked, &names, &p, flags & ANSWERING);
	at += size + body;
}

static void assert_answered(const char *labels)
{
	char is[ASKED_LABELS_BYTES];

	wire_asked__answer(&asked, &names, is);
	assert_string_equal(is, labels);
}

static void each_has_its_own(void **state)
{
	bring(HEAD_A, 10, OPENS);
	assert_answered("x-tenant=a\n");
	bring(HEAD_B, 0, 0);
	at += 4; /* the body, by another call */
	assert_answered("x-tenant=b\n");
	bring(HEAD_NONE, 2, 0);
	assert_answered("");
	bring(HEAD_GET, 0, 0);
	assert_answered("x-tenant=c\n");
	assert_answered(""); /* said once */
	bring(HEAD_GET, 0, OPENS | LOST);
	assert_answered(""); /* a new connection begins at 0 */
	at = 0;
	bring(HEAD_GET, 0, OPENS | LOST);
	assert_answered("x-tenant=c\n");
}

static void a_head_in_parts(void **state)
{
	static const char head[] = HEAD_A;

	for (size_t cut = 5; cut < sizeof(head) - 1; cut++) {
		char first[sizeof(head)] = "";

		memcpy(first, head, cut);
		at = 0;
		bring(first, 0, OPENS | CUT);
		bring(head + cut, 10, GOES_ON);
		assert_answered("x-tenant=a\n");
	}
	bring(HEAD_GET, 0, 0);
	assert_answered("x-tenant=c\n");
	/* Answered before its end was seen. */
	bring("POST / HTTP/1.1\r\nX-Tenant: a\r\n", 0, CUT);
	assert_answered("");
	bring("\r\n", 0, GOES_ON);
	assert_answered("");
}

/* What is in a body looks like a request. */
static void a_body_is_no_request(void **state)
{
	bring("POST / HTTP/1.1\r\nX-Tenant: a\r\nContent-Length: 1000\r\n\r\n", 100, OPENS);
	bring(HEAD_GET, 0, 0);
	bring(HEAD_A, 10, ANSWERING);
	assert_answered("x-tenant=a\n");
	bring(HEAD_B, 0, 0); /* still inside */
	assert_answered("");
	at = 0;
	bring(HEAD_B, 4, OPENS);
	assert_answered("x-tenant=b\n");
}

static void pipelined(void **state)
{
	bring(HEAD_A, 10, OPENS);
	bring(HEAD_B, 4, 0);
	assert_answered("");
	assert_answered("");
	bring(HEAD_GET, 0, 0);
	assert_answered(""); /* until it is opened anew */
	at = 0;
	bring(HEAD_A, 10, OPENS);
	assert_answered("x-tenant=a\n");
	bring(HEAD_B, 4, ANSWERING);
	assert_answered("");
}

/* Two in one call: of the second only the length shows that it was there. */
static void pipelined_in_one_call(void **state)
{
	bring(HEAD_A, 10 + strlen(HEAD_B) + 4, OPENS);
	assert_answered("x-tenant=a\n");
	bring(HEAD_GET, 0, 0);
	assert_answered("");
	assert_answered("");
}

static void what_is_lost_says_nothing(void **state)
{
	bring(HEAD_A, 10, OPENS);
	wire_asked__lost(&asked); /* of its response */
	assert_answered("");
	bring(HEAD_B, 4, 0);
	assert_answered("");
	at = 0;
	bring(HEAD_A, 10, OPENS);
	assert_answered("x-tenant=a\n");
	wire_asked__lost(&asked); /* nothing waited */
	bring(HEAD_B, 4, 0);
	assert_answered("x-tenant=b\n");
	bring(HEAD_A, 10, LOST);
	assert_answered("");
}

/* A connection that was there before us, and one that the kernel has forgotten. */
static void seen_late(void **state)
{
	bring(HEAD_A, 10, 0);
	assert_answered("x-tenant=a\n");
	bring(HEAD_B, 4, 0);
	assert_answered("x-tenant=b\n");
	at = 0;
	bring(HEAD_GET, 0, 0);
	assert_answered("x-tenant=c\n");
	bring(HEAD_GET, 0, 0);
	at = 0;
	bring(HEAD_A, 10, 0); /* while one waits */
	assert_answered("");
}

static void chunked(void **state)
{
	bring("POST / HTTP/1.1\r\nX-Tenant: a\r\nTransfer-Encoding: chunked\r\n\r\n", 30, OPENS);
	assert_answered("x-tenant=a\n");
	bring(HEAD_B, 4, 0); /* where it begins is not known */
	assert_answered("");
	at = 0;
	bring("POST / HTTP/1.1\r\nX-Tenant: a\r\nTransfer-Encoding: chunked\r\n"
	      "Content-Length: 4\r\n\r\n",
	      30, OPENS);
	assert_answered("");
}

static void odd_heads(void **state)
{
	static const struct {
		const char *lines, *labels;
	} cases[] = {
		{ "X-Tenant: a\r\nX-Request-Id: 7\r\n", "x-tenant=a\nx-request-id=7\n" },
		{ "X-Request-Id: 7\nX-Tenant: a=b c\n", "x-tenant=a=b c\nx-request-id=7\n" },
		{ "X-Tenant: a\x01\x7f\xc3\xa4z\r\n", "x-tenant=a????z\n" },
		{ "X-Tenant: \r\n", "" },
		{ "X-Tenant:\r\n", "" },
		{ "X-Tenan: a\r\nX-Tenantt: b\r\n", "" },
		{ "X-Tenant: a\r\nX-Tenant: b\r\n", "" },
		{ "X-Tenant: a\r\n b\r\n", "" },
		{ "X-Tenant : a\r\n", "" },
		{ "X-Tenant: a\r\nnonsense\r\n", "" },
		{ "X-Tenant: a\r\n: b\r\n", "" },
		{ "X-Tenant: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n", "" },
		{ "X-Tenant: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n", "x-tenant=a\n" },
		{ "X-Tenant: a\r\nContent-Length: -1\r\n", "" },
		{ "X-Tenant: a\r\nContent-Length:\r\n", "" },
		{ "X-Tenant: a\r\nContent-Length: 9999999999999999\r\n", "" },
	};
	char head[512];

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		snprintf(head, sizeof(head), "GET / HTTP/1.1\r\n%s\r\n", cases[i].lines);
		at = 0;
		bring(head, 0, OPENS);
		assert_answered(cases[i].labels);
	}
}

static void long_values_are_cut(void **state)
{
	char head[600], wanted[ASKED_LABELS_BYTES], value[300];

	memset(value, 'v', sizeof(value) - 1);
	value[sizeof(value) - 1] = '\0';
	snprintf(head, sizeof(head), "GET / HTTP/1.1\r\nX-Tenant: %s\r\n\r\n", value);
	snprintf(wanted, sizeof(wanted), "x-tenant=%.*s\n", ASKED_VALUE_BYTES - 1, value);
	bring(head, 0, OPENS);
	assert_answered(wanted);
}

static void names_of_headers(void **state)
{
	static const char *const bad[] = { "", "a b", "a:", "a=b", "\xc3\xa4", "a\n", "(a)" };
	struct header_names h = { 0 };
	char longest[HEADER_NAME_BYTES + 1];

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_int_equal(header_names__add(&h, bad[i]), -EINVAL);
	memset(longest, 'a', sizeof(longest));
	longest[HEADER_NAME_BYTES] = '\0';
	assert_int_equal(header_names__add(&h, longest), -EINVAL);
	longest[HEADER_NAME_BYTES - 1] = '\0';
	assert_int_equal(header_names__add(&h, longest), 0);
	assert_int_equal(header_names__add(&h, "X-A"), 0);
	assert_int_equal(header_names__add(&h, "x-a"), 0);
	assert_int_equal(h.count, 2);
	assert_string_equal(h.name[1], "x-a");
	assert_int_equal(header_names__add(&h, "c"), 0);
	assert_int_equal(header_names__add(&h, "d"), 0);
	assert_int_equal(header_names__add(&h, "e"), -ENOSPC);
	assert_int_equal(header_names__add(&h, "C"), 0);
	assert_true(header_names__is_sane(&h));
	h.name[1][0] = 'X';
	assert_false(header_names__is_sane(&h));
	h.name[1][0] = 'c';
	h.name[1][1] = '\0';
	assert_false(header_names__is_sane(&h)); /* twice */
	h.count = HEADER_NAMES_MAX + 1;
	assert_false(header_names__is_sane(&h));
}

static void events_that_contradict_themselves(void **state)
{
	struct mp_event_bytes e = { .event = { .chunks = 1, .count = 5, .total = 5, .object = 7 },
				    .length = 5,
				    .flags = MP_BYTES_RECEIVED | MP_BYTES_ENDS };
	struct asked_part p;

	assert_true(asked_part__read(&p, &e, (const uint8_t *)"GET x"));
	assert_true(p.ends && !p.begins && !p.opens && !p.lost);
	assert_int_equal(p.position, 7);
	e.length = 4;
	assert_false(asked_part__read(&p, &e, NULL));
	e.length = 50;
	e.event.total = 6;
	assert_false(asked_part__read(&p, &e, NULL));
	e.event.total = 5;
	e.event.chunks = 2;
	assert_false(asked_part__read(&p, &e, NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(each_has_its_own, choose),
		cmocka_unit_test_setup(a_head_in_parts, choose),
		cmocka_unit_test_setup(a_body_is_no_request, choose),
		cmocka_unit_test_setup(pipelined, choose),
		cmocka_unit_test_setup(pipelined_in_one_call, choose),
		cmocka_unit_test_setup(what_is_lost_says_nothing, choose),
		cmocka_unit_test_setup(seen_late, choose),
		cmocka_unit_test_setup(chunked, choose),
		cmocka_unit_test_setup(odd_heads, choose),
		cmocka_unit_test_setup(long_values_are_cut, choose),
		cmocka_unit_test(names_of_headers),
		cmocka_unit_test(events_that_contradict_themselves),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
