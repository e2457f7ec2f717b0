/* SPDX-License-Identifier: BSD-2-Clause */
/* docs/trace-format.md against the header and the table of layouts: readers are written from that
 * page alone, so every offset, size, column and name in it is held here. Run from the root. */
#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "collector/trace/layout.h"

static char *page;

static int page_read(void **state)
{
	FILE *f = fopen("docs/trace-format.md", "re");
	size_t size;

	assert_non_null(f);
	page = calloc(1, 1 << 20);
	size = fread(page, 1, (1 << 20) - 1, f);
	assert_true(size > 1000 && size < (1 << 20) - 1);
	fclose(f);
	return 0;
}

static int page_free(void **state)
{
	free(page);
	return 0;
}

/* The section under the heading line @heading, up to the next heading; malloc'd. */
static char *section(const char *heading)
{
	char line[128];
	const char *from, *to;

	snprintf(line, sizeof(line), "\n%s\n", heading);
	from = strstr(page, line);
	if (!from)
		fail_msg("no section '%s'", heading);
	from += strlen(line);
	to = strstr(from, "\n#");
	return to ? strndup(from, (size_t)(to - from)) : strdup(from);
}

struct field {
	const char *name;
	size_t offset, size;
};

/* Bytes of a type as the page writes it: "u32", "u8[20]". */
static size_t type_bytes(const char *type)
{
	const char *digits = strpbrk(type, "0123456789");
	unsigned count = 1;
	size_t bits = 8;

	if (!strncmp(type, "char", 4))
		digits = type + 3;
	else
		bits = strtoul(digits, NULL, 10);
	if (strchr(type, '['))
		count = (unsigned)strtoul(strchr(type, '[') + 1, NULL, 10);
	return bits / 8 * count;
}

/* The first table of @text has exactly @fields, in order, and they fill @from to @size. */
static void check_fields(const char *heading, const char *text, const struct field *fields,
			 size_t count, size_t from, size_t size)
{
	const char *row = strstr(text, "|---|---|---|---|\n");
	char type[32], name[64];
	size_t i, offset;

	assert_non_null(row);
	for (i = 0; i < count; i++) {
		row = strchr(row, '\n') + 1;
		if (sscanf(row, "| %zu | %31s | %63s |", &offset, type, name) != 3)
			fail_msg("%s: no row for '%s'", heading, fields[i].name);
		if (strcmp(name, fields[i].name) || offset != fields[i].offset ||
		    type_bytes(type) != fields[i].size)
			fail_msg("%s: '%s' %s at %zu should be '%s' of %zu bytes at %zu", heading,
				 name, type, offset, fields[i].name, fields[i].size,
				 fields[i].offset);
		assert_int_equal(offset, from); /* no field of the struct is left out here */
		from += fields[i].size;
	}
	assert_int_not_equal(strchr(row, '\n')[1], '|');
	assert_int_equal(from, size);
}

#define F(type, field) \
	{ \
#field, offsetof(struct trace_##type, field), \
			sizeof(((struct trace_##type *)0)->field) \
	}
#define HEADER(heading, type, ...) \
	do { \
		const struct field fields[] = { __VA_ARGS__ }; \
		char *text = section(heading); \
\
		check_fields(heading, text, fields, sizeof(fields) / sizeof(fields[0]), 0, \
			     sizeof(struct trace_##type)); \
		free(text); \
	} while (0)

static void test_headers(void **state)
{
	HEADER("## File header", file_header, F(file_header, magic), F(file_header, version),
	       F(file_header, size), F(file_header, endian), F(file_header, features),
	       F(file_header, crc), F(file_header, reserved));
	HEADER("## Blocks", block_header, F(block_header, magic), F(block_header, size),
	       F(block_header, codec), F(block_header, stored_bytes),
	       F(block_header, decoded_bytes), F(block_header, crc), F(block_header, records),
	       F(block_header, first_ns), F(block_header, last_ns));
	HEADER("## Records", record, F(record, type), F(record, fixed), F(record, size),
	       F(record, time_ns), F(record, source), F(record, flags));
	assert_non_null(strstr(page, "0x4B4C424D, the bytes `MBLK`"));
	assert_int_equal(TRACE_BLOCK_MAGIC, 0x4B4C424D);
	assert_non_null(strstr(page, "at most 16777216"));
	assert_int_equal(TRACE_BLOCK_MAX, 16777216);
	assert_non_null(strstr(page, "at most 4096"));
	assert_int_equal(TRACE_HEADER_MAX, 4096);
}

/* "Size N." and "Columns: name type[count], ..." say what the table of layouts says. */
static void check_columns(const char *heading, const char *text, const struct trace_layout *l)
{
	char want[64];
	size_t i;

	snprintf(want, sizeof(want), "\nSize %u.", l->size);
	assert_int_equal(l->first_size, l->size);
	text = strstr(text, want);
	if (!text)
		fail_msg("%s: does not say '%s'", heading, want + 1);
	for (i = 0; i < TRACE_COLUMNS_MAX && l->column[i].name; i++) {
		const struct trace_column_layout *c = &l->column[i];
		char type = !strcmp(c->name, "tokens") || !strcmp(c->name, "token")  ? 'i'
			    : !strcmp(c->name, "weight") || !strcmp(c->name, "gate") ? 'f'
										     : 'u';

		snprintf(want, sizeof(want), "%s %c%u[", c->name, type, c->width * 8);
		text = strstr(text, want);
		if (!text)
			fail_msg("%s: column '%s' is not there or not in order", heading, want);
		if (c->if_wide) {
			snprintf(want, sizeof(want), "or u%u[", c->width * 16);
			assert_non_null(strstr(text, want));
		}
	}
	assert_true(i || strstr(text, "No columns."));
}

#define RECORD(number, NAME, type, ...) \
	do { \
		const struct field fields[] = { __VA_ARGS__ }; \
		char *text = section("### " #number " " #NAME); \
\
		assert_int_equal(TRACE_##NAME, number); \
		check_fields(#NAME, text, fields, sizeof(fields) / sizeof(fields[0]), \
			     sizeof(struct trace_record), sizeof(struct trace_##type)); \
		check_columns(#NAME, text, trace_layout__find(number)); \
		free(text); \
		checked[number] = true; \
	} while (0)

static bool checked[32];

static void test_identities(void **state)
{
	RECORD(1, SOURCE, source, F(source, id), F(source, tool_length), F(source, host_length));
	RECORD(2, PROCESS, process, F(process, process), F(process, pid), F(process, parent),
	       F(process, rank_tensor), F(process, start_ticks), F(process, pid_namespace_inode),
	       F(process, build_id), F(process, engine_length), F(process, version_length),
	       F(process, command_length), F(process, role_length), F(process, rank_pipeline),
	       F(process, rank_data), F(process, rank_expert));
	RECORD(3, CONTEXT, context, F(context, context), F(context, process), F(context, key),
	       F(context, model_key), F(context, replica_of), F(context, reserved));
	RECORD(4, MODEL, model, F(model, context), F(model, layers), F(model, experts), F(model, k),
	       F(model, shared_experts), F(model, vocabulary), F(model, blocks),
	       F(model, normalised), F(model, architecture_length), F(model, name_length),
	       F(model, path_length), F(model, quantisation_length), F(model, gate),
	       F(model, groups), F(model, groups_used), F(model, scale), F(model, model_digest),
	       F(model, tokenizer_digest), F(model, kv_type_length), F(model, reserved));
	RECORD(5, SEQUENCE, sequence, F(sequence, sequence), F(sequence, context),
	       F(sequence, slot), F(sequence, epoch));
	RECORD(6, BIND, bind, F(bind, sequence), F(bind, request), F(bind, position),
	       F(bind, certainty), F(bind, origin), F(bind, reserved));
	RECORD(7, REQUEST_BEGIN, request_begin, F(request_begin, request),
	       F(request_begin, context), F(request_begin, sequence), F(request_begin, slot),
	       F(request_begin, task), F(request_begin, cached), F(request_begin, prompt),
	       F(request_begin, prompt_known), F(request_begin, begin_ns),
	       F(request_begin, client_id_length), F(request_begin, reserved),
	       F(request_begin, temperature), F(request_begin, top_p), F(request_begin, top_k),
	       F(request_begin, max_tokens));
	RECORD(8, REQUEST_END, request_end, F(request_end, request), F(request_end, ending),
	       F(request_end, rows), F(request_end, tokens), F(request_end, finish),
	       F(request_end, certainty), F(request_end, prompt), F(request_end, generated));
	RECORD(20, REQUEST_INFO, request_info, F(request_info, request), F(request_info, certainty),
	       F(request_info, origin), F(request_info, client_id_length),
	       F(request_info, request_id_length), F(request_info, trace_id_length),
	       F(request_info, adapter_length), F(request_info, labels_length),
	       F(request_info, reserved));
}

static void test_routing(void **state)
{
	RECORD(9, STEP, step, F(step, step), F(step, begin_ns), F(step, end_ns), F(step, context),
	       F(step, rows), F(step, ubatch), F(step, ubatches), F(step, batch));
	RECORD(10, ROUTE, route, F(route, step), F(route, context), F(route, layer), F(route, rows),
	       F(route, k));
	RECORD(16, COVERAGE, coverage, F(coverage, request), F(coverage, layer),
	       F(coverage, expected), F(coverage, seen), F(coverage, causes), F(coverage, context));
	RECORD(18, COUNTS, counts, F(counts, request), F(counts, context), F(counts, layer),
	       F(counts, phase), F(counts, rows), F(counts, experts), F(counts, first_position),
	       F(counts, k), F(counts, sequence), F(counts, last_position));
}

static void test_the_rest(void **state)
{
	RECORD(12, CLOCK, clock, F(clock, monotonic_ns), F(clock, boot_ns), F(clock, real_ns));
	RECORD(13, LOSS, loss, F(loss, cause), F(loss, context), F(loss, count), F(loss, rows),
	       F(loss, decisions), F(loss, since_ns));
	RECORD(14, INVALID, invalid, F(invalid, cause), F(invalid, reserved), F(invalid, count));
	RECORD(15, COST, cost, F(cost, interval_ns), F(cost, hits), F(cost, hit_ns),
	       F(cost, collector_cpu_ns), F(cost, resident_bytes), F(cost, threads),
	       F(cost, slowdown_ppm));
	RECORD(17, END, end, F(end, stop), F(end, reserved), F(end, records), F(end, steps),
	       F(end, rows), F(end, routes), F(end, decisions), F(end, lost), F(end, invalid));
	RECORD(19, FINDING, finding, F(finding, status), F(finding, pid), F(finding, area_length),
	       F(finding, name_length), F(finding, value_length), F(finding, remedy_length));
	RECORD(21, WINDOW, window, F(window, begin_ns), F(window, end_ns), F(window, inclusion),
	       F(window, reason), F(window, context));
#define X(id, NAME, suffix) assert_true(checked[id]);
	TRACE_RECORDS(X)
#undef X
}

/* Flags are named with their bits in their type's section. */
static void check_flag(const char *heading, uint32_t bit, const char *name)
{
	char *text = section(heading), *at, want[64];

	snprintf(want, sizeof(want), "%u `%s`", bit, name);
	for (at = text; *at; at++)
		*at = *at == '\n' ? ' ' : *at;
	if (!strstr(text, want))
		fail_msg("%s: does not say '%s'", heading, want);
	free(text);
}

static void test_flags(void **state)
{
	check_flag("### 4 MODEL", TRACE_MODEL_FROM_FILE, "FROM_FILE");
	check_flag("### 4 MODEL", TRACE_MODEL_ORDINALS, "ORDINALS");
	check_flag("### 7 REQUEST_BEGIN", TRACE_REQUEST_BEFORE_ATTACH, "BEFORE_ATTACH");
	check_flag("### 9 STEP", TRACE_STEP_TOKENS, "TOKENS");
	check_flag("### 9 STEP", TRACE_ROW_OUTPUT, "OUTPUT");
	check_flag("### 10 ROUTE", TRACE_ROUTE_ALL_ROWS, "ALL_ROWS");
	check_flag("### 10 ROUTE", TRACE_ROUTE_WEIGHTS, "WEIGHTS");
	check_flag("### 10 ROUTE", TRACE_ROUTE_IDS_16, "IDS_16");
	check_flag("### 10 ROUTE", TRACE_ROUTE_INFERRED, "INFERRED");
	check_flag("### 10 ROUTE", TRACE_ROUTE_RAW, "RAW");
	check_flag("### 10 ROUTE", TRACE_ROUTE_PHYSICAL, "PHYSICAL");
	check_flag("### 10 ROUTE", TRACE_ROUTE_LOCAL, "LOCAL");
	check_flag("### 10 ROUTE", TRACE_ROUTE_ROW_FLAGS, "ROW_FLAGS");
	check_flag("### 10 ROUTE", TRACE_ROUTE_NO_CHOICE, "NO_CHOICE");
	check_flag("### 10 ROUTE", TRACE_ROUTE_ROW_TIE, "TIE");
	check_flag("### 9 STEP", TRACE_ROW_PADDING, "PADDING");
	check_flag("### 9 STEP", TRACE_ROW_DRAFT, "DRAFT");
	check_flag("### 9 STEP", TRACE_ROW_REJECTED, "REJECTED");
	check_flag("### 9 STEP", TRACE_ROW_FINISHED, "FINISHED");
	check_flag("### 18 COUNTS", TRACE_COUNTS_GATE, "GATE");
	check_flag("### 18 COUNTS", TRACE_COUNTS_PHYSICAL, "PHYSICAL");
	check_flag("### 18 COUNTS", TRACE_COUNTS_LOCAL, "LOCAL");
}

/* A row "| value | name | meaning |" in the section; @meaning "" accepts any. */
static void check_value(const char *heading, unsigned value, const char *name, const char *meaning)
{
	char *text = section(heading), *row, want[256], small[64];
	size_t i;

	for (i = 0; i < sizeof(small) - 1 && name[i]; i++)
		small[i] = (char)tolower((unsigned char)name[i]);
	small[i] = '\0';
	snprintf(want, sizeof(want), "\n| %u | %s | %s", value, small, meaning);
	row = strstr(text, want);
	if (!row)
		fail_msg("%s: no row '%s'", heading, want + 1);
	if (meaning[0])
		assert_int_equal(strncmp(row + strlen(want), " |\n", 3), 0);
	free(text);
}

/* No row but those that were checked. */
static void check_rows(const char *heading, size_t rows)
{
	char *text = section(heading);

	for (char *at = text; (at = strstr(at, "\n| ")); at++)
		rows--;
	assert_int_equal(rows + 1, 0); /* the table's own head */
	free(text);
}

static void test_enumerations(void **state)
{
	size_t n;

#define X(id, name, text) check_value(heading, id, #name, text), n++;
#define LIST(title, list) \
	do { \
		const char *heading = "### " title; \
\
		n = 0; \
		list(X) check_rows(heading, n); \
	} while (0)
	LIST("Endings", TRACE_ENDINGS);
	LIST("Losses", TRACE_LOSSES);
	LIST("Invalid", TRACE_INVALIDS);
	LIST("Missing", TRACE_MISSING);
	LIST("Stops", TRACE_STOPS);
	LIST("Gates", TRACE_GATES);
	LIST("Origins", TRACE_ORIGINS);
	LIST("Finishes", TRACE_FINISHES);
	LIST("Reasons", TRACE_REASONS);
#undef X
	check_value("### Phases", TRACE_PREFILL, "prefill", "");
	check_value("### Phases", TRACE_DECODE, "decode", "");
	check_value("### Phases", TRACE_PHASE_UNKNOWN, "unknown", "");
	check_value("### Certainty", TRACE_EXACT, "exact", "");
	check_value("### Certainty", TRACE_INFERRED, "inferred", "");
	check_value("### Status", TRACE_STATUS_OK, "ok", "");
	check_value("### Status", TRACE_STATUS_WARN, "warn", "");
	check_value("### Status", TRACE_STATUS_MISSING, "missing", "");
	check_value("### Status", TRACE_STATUS_UNKNOWN, "unknown", "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_headers), cmocka_unit_test(test_identities),
		cmocka_unit_test(test_routing), cmocka_unit_test(test_the_rest),
		cmocka_unit_test(test_flags),   cmocka_unit_test(test_enumerations),
	};

	return cmocka_run_group_tests_name("trace_doc", tests, page_read, page_free);
}
