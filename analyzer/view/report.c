/* SPDX-License-Identifier: BSD-2-Clause */
#include "analyzer/view/report.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdlib.h>

#include "analyzer/view/report_tables.h"
#include "analyzer/view/table.h"

/* In the order in which they are printed. */
static int (*const builders[])(struct table **, const struct state *, const char *source) = {
	report__capture, report__models,  report__layers, report__requests, report__coverage,
	report__loss,    report__invalid, report__cost,   report__warnings, report__unanswered,
};

#define TABLES (sizeof(builders) / sizeof(*builders))

struct report {
	struct table *table[TABLES];
};

int report__build(struct report **out, const struct state *s, const char *source)
{
	struct report *r = calloc(1, sizeof(*r));

	*out = NULL;
	if (!r)
		return -ENOMEM;
	for (size_t i = 0; i < TABLES; i++) {
		if (builders[i](&r->table[i], s, source)) {
			report__free(r);
			return -ENOMEM;
		}
	}
	*out = r;
	return 0;
}

void report__print(const struct report *r, FILE *out)
{
	for (size_t i = 0; i < TABLES; i++) {
		if (i)
			fputc('\n', out);
		table__print(r->table[i], out);
	}
}

int report__print_json(const struct report *r, FILE *out)
{
	struct json_object *o = json_object_new_object();
	const char *text = NULL;
	int err = -ENOMEM;

	if (!o)
		return err;
	for (size_t i = 0; i < TABLES; i++)
		json_object_object_add(o, table__name(r->table[i]), table__json(r->table[i]));
	text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY |
							 JSON_C_TO_STRING_NOSLASHESCAPE);
	errno = 0;
	if (text)
		err = fprintf(out, "%s\n", text) >= 0 ? 0 : errno ? -errno : -EIO;
	json_object_put(o);
	return err;
}

void report__free(struct report *r)
{
	if (!r)
		return;
	for (size_t i = 0; i < TABLES; i++)
		table__free(r->table[i]);
	free(r);
}
