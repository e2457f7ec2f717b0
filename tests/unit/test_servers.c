/* SPDX-License-Identifier: BSD-2-Clause */
/* analyzer/view/servers: one row a server, refused ones apart, and what --name and --port mean. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "analyzer/view/servers.h"
#include "analyzer/view/table.h"
#include "tests/unit/synthetic.h"

static void find(struct synthetic *s, uint32_t pid, enum trace_status status, const char *name,
		 const char *value, const char *remedy)
{
	struct trace_finding n = {
		.head = synthetic__head(s, 0),
		.status = status,
		.pid = pid,
		.area_length = 7,
		.name_length = (uint16_t)strlen(name),
		.value_length = (uint16_t)strlen(value),
		.remedy_length = (uint16_t)strlen(remedy),
	};
	struct trace_column column[] = {
		{ "process", 7 },
		{ name, strlen(name) },
		{ value, strlen(value) },
		{ remedy, strlen(remedy) },
	};

	synthetic__add(s, TRACE_FINDING, &n, sizeof(n), column, 4);
}

static int take(void *ctx, const struct trace_item *item)
{
	return servers__take(ctx, item, NULL);
}

/* Process 1234 runs a model, 1300 none that can be attached to, 1400 is not known yet. */
static struct servers *three(void)
{
	struct servers *servers;
	struct synthetic s;

	synthetic__begin(&s, 64, 8);
	find(&s, 1234, TRACE_STATUS_OK, "command", "llama-server", "");
	find(&s, 1234, TRACE_STATUS_OK, "engine", "llama.cpp b1", "");
	find(&s, 1234, TRACE_STATUS_OK, "model", "tiny, olmoe, 2 MoE layers, F32", "");
	find(&s, 1234, TRACE_STATUS_OK, "port", "8080, 8081", "");
	find(&s, 1234, TRACE_STATUS_OK, "predicted cost",
	     "12.3 us a step and thread: 4 hits of 3.08 us", "");
	find(&s, 1300, TRACE_STATUS_OK, "command", "dense-server", "");
	find(&s, 1300, TRACE_STATUS_OK, "port", "9000", "");
	find(&s, 1300, TRACE_STATUS_MISSING, "not attachable", "the model has no experts",
	     "load another one");
	find(&s, 1400, TRACE_STATUS_OK, "command", "llama-server", "");
	find(&s, 1400, TRACE_STATUS_OK, "port", "80", "");
	find(&s, 1400, TRACE_STATUS_UNKNOWN, "predicted cost", "unknown before its first token",
	     "");
	find(&s, 0, TRACE_STATUS_MISSING, "processes", "3 could not be read", "sudo it");
	find(&s, 0, TRACE_STATUS_MISSING, "later", "not this", "");
	assert_int_equal(synthetic__done(&s), 0);
	assert_int_equal(servers__new(&servers), 0);
	assert_true(synthetic__read(s.fd, take, servers) > 0);
	close(s.fd);
	return servers;
}

static void test_rows(void **unused)
{
	struct servers *s = three();
	struct table *table;
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	assert_int_equal(servers__table(&table, s), 0);
	assert_int_equal(table__rows(table), 2);
	table__print(table, out);
	table__free(table);
	fclose(out);
	assert_string_equal(text,
			    "Servers found\n"
			    "  pid   engine     model, layers x experts  port        cost a step\n"
			    "  1234  llama.cpp  tiny?[31m, 2 x 64, k 8   8080, 8081  12.3 us\n"
			    "  1400  -          -                        80          -\n");
	free(text);
	out = open_memstream(&text, &size);
	assert_int_equal(servers__refused(s), 1);
	servers__print_refused(s, out);
	fclose(out);
	assert_string_equal(text, "  1300, dense-server: the model has no experts; try: load "
				  "another one\n");
	free(text);
	servers__free(s);
}

static size_t matching(const struct servers *s, const char *name, uint16_t port, uint32_t *first)
{
	*first = 0;
	return servers__match(s, name, port, first, 1);
}

/* By command and model: not by whatever else was said of a server. */
static void test_match(void **unused)
{
	struct servers *s = three();
	uint32_t pid;

	assert_int_equal(matching(s, "llama-server", 0, &pid), 2);
	assert_int_equal(pid, 1234);
	assert_int_equal(matching(s, "OLMoE", 0, &pid), 1);
	assert_int_equal(matching(s, "tiny", 0, &pid), 1);
	assert_int_equal(matching(s, "dense", 0, &pid), 1);
	assert_int_equal(pid, 1300);
	assert_int_equal(matching(s, "us a step", 0, &pid), 0);
	assert_int_equal(matching(s, "F32", 0, &pid), 0);
	assert_int_equal(matching(s, "80", 0, &pid), 0);
	assert_int_equal(matching(s, NULL, 8081, &pid), 1);
	assert_int_equal(matching(s, NULL, 80, &pid), 1);
	assert_int_equal(pid, 1400);
	assert_int_equal(matching(s, NULL, 4, &pid), 0);
	servers__free(s);
}

static void test_obstacle(void **unused)
{
	struct servers *s = three(), *none;
	const char *what, *remedy;

	assert_true(servers__obstacle(s, &what, &remedy));
	assert_string_equal(what, "3 could not be read");
	assert_string_equal(remedy, "sudo it");
	servers__free(s);
	assert_int_equal(servers__new(&none), 0);
	assert_false(servers__obstacle(none, &what, &remedy));
	servers__free(none);
	servers__free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_match),
		cmocka_unit_test(test_obstacle),
	};

	return cmocka_run_group_tests_name("servers", tests, NULL, NULL);
}
