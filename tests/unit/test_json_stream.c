/* SPDX-License-Identifier: BSD-2-Clause */
/* The tokens of a JSON text are the same however it comes in pieces. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "probe/target/json_stream.h"

/* What was told, as text: depth, kind, text of each token. */
struct told {
	struct json_stream json;
	char text[4096];
	size_t length;
};

static void on_token(void *ctx, enum json_token kind, const char *text)
{
	static const char kinds[] = { '<', '>', 'k', 's', 'b' };
	struct told *t = ctx;

	t->length += (size_t)snprintf(t->text + t->length, sizeof(t->text) - t->length, "%u%c%s%s ",
				      t->json.depth, kinds[kind], text, t->json.cut ? "+" : "");
	assert_true(t->length < sizeof(t->text));
}

/* @size bytes in pieces of @piece. */
static bool feed(struct told *t, const char *text, size_t size, size_t piece)
{
	memset(t, 0, sizeof(*t));
	t->json = (struct json_stream){ .token = on_token, .ctx = t };
	for (size_t at = 0; at < size; at += piece)
		json_stream__feed(&t->json, text + at, size - at < piece ? size - at : piece);
	return json_stream__is_whole(&t->json);
}

static void tells_tokens(void **state)
{
	static const struct {
		const char *json, *tokens;
		bool whole;
	} cases[] = {
		{ "{\"a\": [1, -2.5e3,true],\n\"b\":{\"c\":\"d\"}}",
		  "0< 1ka 1< 2b1 2b-2.5e3 2btrue 1> 1kb 1< 2kc 2sd 1> 0> ", true },
		{ "[]", "0< 0> ", true },
		{ "[\"\",\"\\\"]\\\\\"]", "0< 1s 1s\\\"]\\\\ 0> ", true },
		{ "{\"a:b\":\"c,d\"}", "0< 1ka:b 1sc,d 0> ", true },
		{ "", "", false },
		{ "1", "", false },
		{ "{\"a\":1", "0< 1ka ", false },
		{ "{}}{}", "0< 0> ", false },
		{ "[\"a", "0< ", false },
		{ "[\"a\"\"b\"]", "0< 1sa 1sb 0> ", true },
		{ "::,,[:,]", "0< 0> ", true },
	};
	static struct told t;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		size_t n = strlen(cases[i].json);

		for (size_t piece = 1; piece <= n + 1; piece++) {
			assert_int_equal(feed(&t, cases[i].json, n, piece), cases[i].whole);
			assert_string_equal(t.text, cases[i].tokens);
		}
	}
}

static void cuts_long_texts(void **state)
{
	static char json[2 * JSON_TEXT_MAX + 4];
	static struct told t;

	memset(json, 'x', sizeof(json));
	memcpy(json, "[\"", 2);
	memcpy(json + sizeof(json) - 2, "\"]", 2);
	assert_true(feed(&t, json, sizeof(json), 7));
	assert_int_equal(strspn(t.text + 5, "x"), JSON_TEXT_MAX - 1);
	assert_string_equal(t.text + 5 + JSON_TEXT_MAX - 1, "+ 0> ");
}

static void bounds_the_depth(void **state)
{
	static char json[JSON_DEPTH_MAX + 1];
	static struct told t;

	memset(json, '[', sizeof(json));
	feed(&t, json, JSON_DEPTH_MAX, 64);
	assert_false(t.json.broken);
	feed(&t, json, sizeof(json), 64);
	assert_true(t.json.broken);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tells_tokens),
		cmocka_unit_test(cuts_long_texts),
		cmocka_unit_test(bounds_the_depth),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
