/* SPDX-License-Identifier: BSD-2-Clause */
/* Plain text in 80 columns: lines broken at spaces, wide tables in parts, and nothing lost. */
#include <errno.h>
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "analyzer/view/lines.h"
#include "analyzer/view/table.h"

static int read_utf8(void **state)
{
	return !setlocale(LC_CTYPE, "C.UTF-8");
}

static void test_fit(void **unused)
{
	static const struct {
		const char *text;
		size_t width, bytes;
		const char *rest;
	} cases[] = {
		{ "", 5, 0, "" },
		{ "abc", 3, 3, "" },
		{ "abc", 2, 3, "" }, /* no word is broken */
		{ "abc de", 5, 3, "de" },
		{ "abc de", 6, 6, "" },
		{ "abc   de", 6, 3, "de" },
		{ "  abc de", 4, 5, "de" },
		{ "  abc de", 8, 8, "" },
		{ "ab cd ef", 5, 5, "ef" },
		{ "ab cd  ", 5, 5, "" },
		{ "gr\xc3\xbc\xc3\x9f e", 5, 6, "e" },
		{ "gr\xc3\xbc\xc3\x9f e", 6, 8, "" },
		{ "\xff\xff x", 2, 2, "x" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		assert_int_equal(lines__fit(cases[i].text, cases[i].width), cases[i].bytes);
		assert_string_equal(lines__rest(cases[i].text, cases[i].bytes), cases[i].rest);
	}
	assert_int_equal(lines__width("gr\xc3\xbc\xc3\x9f"), 4);
	assert_int_equal(lines__word_width("a bcd ef"), 3);
	assert_int_equal(lines__word_width(" "), 0);
}

/* What @t prints, malloc'd; no line is wider than 80. */
static char *print(const struct table *t)
{
	char *text = NULL, *line, *copy, *save;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	assert_non_null(out);
	table__print(t, out);
	fclose(out);
	copy = strdup(text);
	for (line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		assert_true(lines__width(line) <= LINES_WIDTH);
		assert_true(line[strlen(line) - 1] != ' ');
	}
	free(copy);
	return text;
}

#define COLUMNS 12

/* Numbers do not become narrower: the table comes in parts, each with its key. */
static void test_parts(void **unused)
{
	static const char *const names[COLUMNS] = { "key", "c1", "c2", "c3", "c4",  "c5",
						    "c6",  "c7", "c8", "c9", "c10", "c11" };
	struct table_column column[COLUMNS];
	struct table *t;
	char *text;

	for (size_t i = 0; i < COLUMNS; i++)
		column[i] = (struct table_column){ names[i], names[i], i ? TABLE_COUNT : TABLE_ID,
						   0, i ? TABLE_CELL : TABLE_KEY };
	assert_int_equal(table__new(&t, "t", "Title", TABLE_ROWS, column, COLUMNS), 0);
	for (uint64_t row = 0; row < 2; row++) {
		table__row(t);
		for (size_t i = 0; i < COLUMNS; i++)
			table__count(t, i, i ? 1000000000 + row : 70 + row);
	}
	text = print(t);
	assert_string_equal(
		text,
		"Title\n"
		"  key             c1             c2             c3             c4             c5\n"
		"  70   1,000,000,000  1,000,000,000  1,000,000,000  1,000,000,000  1,000,000,000\n"
		"  71   1,000,000,001  1,000,000,001  1,000,000,001  1,000,000,001  1,000,000,001\n"
		"\n"
		"  key             c6             c7             c8             c9            c10\n"
		"  70   1,000,000,000  1,000,000,000  1,000,000,000  1,000,000,000  1,000,000,000\n"
		"  71   1,000,000,001  1,000,000,001  1,000,000,001  1,000,000,001  1,000,000,001\n"
		"\n"
		"  key            c11\n"
		"  70   1,000,000,000\n"
		"  71   1,000,000,001\n");
	free(text);
	table__free(t);
	assert_int_equal(table__new(&t, "t", "Title", TABLE_ROWS, column, TABLE_COLUMNS_MAX + 1),
			 -EINVAL);
	assert_null(t);
}

/* Texts become narrower and go on below themselves. */
static void test_texts(void **unused)
{
	static const struct table_column column[] = {
		{ "pid", "pid", TABLE_ID, 0, TABLE_KEY },
		{ "model", "model", TABLE_TEXT, 0, TABLE_CELL },
		{ "port", "port", TABLE_TEXT, 0, TABLE_CELL },
		{ "cost", "predicted cost", TABLE_TEXT, 0, TABLE_CELL },
		{ "try", "try", TABLE_TEXT, 0, TABLE_BELOW },
	};
	struct table *t;
	char *text;

	assert_int_equal(table__new(&t, "t", "Title", TABLE_ROWS, column, 5), 0);
	table__row(t);
	table__count(t, 0, 1234);
	table__text(t, 1, "one two three four five six seven eight nine ten");
	table__text(t, 2, "8080");
	table__text(t, 3, "a very small one, of which nobody takes notice at all");
	table__text(t, 4,
		    "to read it from the beginning to the end, and then once more, aloud, to "
		    "somebody");
	table__row(t);
	table__count(t, 0, 2345);
	table__text(t, 1, "short");
	table__text(t, 2, "80");
	table__text(t, 3, "a_name_of_more_columns_than_any_word_should_have: indeed");
	table__note(t, "a note that is somewhat longer than a line may be, and is broken where a "
		       "word ends");
	text = print(t);
	assert_string_equal(
		text,
		"Title\n"
		"  pid   model                             port  predicted cost\n"
		"  1234  one two three four five six       8080  a very small one, of which\n"
		"        seven eight nine ten                    nobody takes notice at all\n"
		"      try: to read it from the beginning to the end, and then once more, aloud,\n"
		"        to somebody\n"
		"  2345  short                             80\n"
		"      a_name_of_more_columns_than_any_word_should_have: indeed\n"
		"  a note that is somewhat longer than a line may be, and is broken where a word\n"
		"  ends\n");
	free(text);
	table__free(t);
}

static void test_facts(void **unused)
{
	static const struct table_column column[] = {
		{ "name", "name", TABLE_TEXT, 0, TABLE_CELL },
		{ "count", "how many", TABLE_COUNT, 0, TABLE_CELL },
		{ "hidden", "a title that nobody sees", TABLE_COUNT, 0, TABLE_JSON_ONLY },
	};
	struct table *t;
	char *text;

	assert_int_equal(table__new(&t, "t", "Title", TABLE_FACTS, column, 3), 0);
	table__row(t);
	table__text(t, 0,
		    "a name that is much longer than names should be, if you ask me for my "
		    "opinion");
	table__count(t, 1, 1234);
	text = print(t);
	assert_string_equal(
		text,
		"Title\n"
		"  name      a name that is much longer than names should be, if you ask me for\n"
		"            my opinion\n"
		"  how many  1,234\n");
	free(text);
	table__free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fit),
		cmocka_unit_test(test_parts),
		cmocka_unit_test(test_texts),
		cmocka_unit_test(test_facts),
	};

	return cmocka_run_group_tests_name("table", tests, read_utf8, NULL);
}
