/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A record of the stream as one JSON object (docs/dump-json.md is the contract), and the same
 * object as one line of text: both come from one walk over one table of fields.
 */
#ifndef MP_VIEW_JSON_H
#define MP_VIEW_JSON_H

#include <stdio.h>

struct json_context;
struct json_object;
struct trace_item;

/* What earlier records said that later objects repeat: who an ending request was. NULL: no
 * memory. */
struct json_context *json_context__new(void);
/* Accepts NULL. */
void json_context__free(struct json_context *c);

/*
 * The object of @item, owned by the caller (json_object_put); NULL: no memory. Records of one
 * stream are to be handed over in order with the same @c; without one (NULL) what only earlier
 * records said is null.
 */
struct json_object *json_view__record(const struct trace_item *item, struct json_context *c);

/* Print the object as one line. 0, -ENOMEM, or -EIO if @out took less (errno says why). */
int json_view__print(FILE *out, const struct trace_item *item, struct json_context *c);
/* The same object as "type key=value ...". */
int text_view__print(FILE *out, const struct trace_item *item, struct json_context *c);

#endif
