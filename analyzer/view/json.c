/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Scalars of a record come from a table of fields; what has columns adds them by a function of
 * its own. Unknown is null. A name or text from the target never reaches the output unescaped.
 */
#include "analyzer/view/json.h"

#include <ctype.h>
#include <errno.h>
#include <json-c/json.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "analyzer/state/printable.h"
#include "collector/trace/layout.h"
#include "collector/trace/reader.h"
#include "probe/base/hash.h"

/* Requests remembered at once; a stream that opens more is not one of ours. */
#define OPEN_REQUESTS_MAX 65536

struct open_request {
	uint32_t request;
	uint32_t slot, task, cached;
	char *client_id; /* escaped; NULL: unknown */
	UT_hash_handle hh;
};

struct json_context {
	struct open_request *open;
};

enum kind {
	NUMBER,       /* u32 */
	MAYBE,        /* u32 or unknown */
	ZERO_UNKNOWN, /* u32, 0 is unknown */
	LONG,         /* u64 */
	LONG_MAYBE,   /* u64 or unknown */
	LONG_ZERO_UNKNOWN,
	ADDRESS, /* u64 as hexadecimal text: above 2^53 numbers are not safe in JSON */
	TRUTH,   /* u32: 0, 1 or unknown */
	NAME,    /* u32 of an enumeration */
};

struct field {
	const char *name; /* NULL ends the list */
	uint16_t offset;
	enum kind kind;
	const char *const *names; /* NAME: by value; shown in small letters */
	uint32_t name_count;
};

typedef struct json_object json;

#define X(id, name, ...) [id] = #name,
static const char *const ending_names[] = { TRACE_ENDINGS(X) };
static const char *const loss_names[] = { TRACE_LOSSES(X) };
static const char *const invalid_names[] = { TRACE_INVALIDS(X) };
static const char *const missing_names[] = { TRACE_MISSING(X) };
static const char *const stop_names[] = { TRACE_STOPS(X) };
#undef X
static const char *const phase_names[] = {
	[TRACE_PREFILL] = "prefill",
	[TRACE_DECODE] = "decode",
	[TRACE_PHASE_UNKNOWN] = "unknown",
};
static const char *const certainty_names[] = {
	[TRACE_EXACT] = "exact",
	[TRACE_INFERRED] = "inferred",
};
static const char *const status_names[] = {
	[TRACE_STATUS_OK] = "ok",
	[TRACE_STATUS_WARN] = "warn",
	[TRACE_STATUS_MISSING] = "missing",
	[TRACE_STATUS_UNKNOWN] = "unknown",
};
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define NAME_SIZE 32

static const char *small_letters(char out[NAME_SIZE], const char *name)
{
	size_t i;

	for (i = 0; name[i] && i < NAME_SIZE - 1; i++)
		out[i] = (char)tolower((unsigned char)name[i]);
	out[i] = '\0';
	return out;
}

/* The name of @value, null for the one that means unknown, or the number where a later writer
 * knows more. */
static json *name_value(const char *const *names, size_t count, uint32_t value)
{
	char text[NAME_SIZE];

	if (value >= count || !names[value])
		return json_object_new_uint64(value);
	if (!strcasecmp(names[value], "unknown"))
		return NULL;
	return json_object_new_string(small_letters(text, names[value]));
}

/* Untrusted bytes as text, malloc'd: what is no harmless character becomes \xNN byte by byte. */
static char *escape(const void *bytes, size_t size)
{
	const unsigned char *p = bytes;
	char *text = malloc(size * 4 + 1), *to = text;
	size_t n;

	if (!text)
		return NULL;
	while (size) {
		n = printable__length(p, size);
		if (n) {
			memcpy(to, p, n);
			to += n;
		} else {
			n = 1;
			to += sprintf(to, "\\x%02x", *p);
		}
		p += n;
		size -= n;
	}
	*to = '\0';
	return text;
}

/* Adding to an object or list; json-c copies keys, and takes the value. A NULL value is null. */
static void add(json *o, const char *key, json *value)
{
	json_object_object_add(o, key, value);
}

/* Column @i as text; empty is unknown. */
static void add_text(json *o, const char *key, const struct trace_item *item, size_t i)
{
	char *text;

	if (!item->column[i].size) {
		add(o, key, NULL);
		return;
	}
	text = escape(item->column[i].bytes, item->column[i].size);
	add(o, key, text ? json_object_new_string(text) : NULL);
	free(text);
}

static json *maybe(uint32_t value)
{
	return value == TRACE_UNKNOWN ? NULL : json_object_new_uint64(value);
}

/* The shortest text that gives the same binary32 again. */
static json *real(float value)
{
	char text[32];

	if (!isfinite(value))
		return NULL;
	snprintf(text, sizeof(text), "%.9g", (double)value);
	return json_object_new_double_s((double)value, text);
}

/* Entries of a column; @width in bytes; @as_float for f32. */
static json *list(const void *bytes, size_t from, size_t count, unsigned width, bool as_float)
{
	json *l = json_object_new_array_ext((int)count), *value;
	size_t i;

	for (i = from; l && i < from + count; i++) {
		if (as_float)
			value = real(((const float *)bytes)[i]);
		else if (width == 1)
			value = json_object_new_uint64(((const uint8_t *)bytes)[i]);
		else if (width == 2)
			value = json_object_new_uint64(((const uint16_t *)bytes)[i]);
		else
			value = json_object_new_uint64(((const uint32_t *)bytes)[i]);
		json_object_array_add(l, value);
	}
	return l;
}

static json *address(uint64_t value)
{
	char text[32];

	snprintf(text, sizeof(text), "0x%llx", (unsigned long long)value);
	return json_object_new_string(text);
}

static json *field_value(const struct field *f, const void *record)
{
	const uint8_t *at = (const uint8_t *)record + f->offset;
	uint32_t number;
	uint64_t big;

	memcpy(&number, at, sizeof(number));
	switch (f->kind) {
	case NUMBER:
		return json_object_new_uint64(number);
	case MAYBE:
		return maybe(number);
	case ZERO_UNKNOWN:
		return number ? json_object_new_uint64(number) : NULL;
	case TRUTH:
		return number > 1 ? NULL : json_object_new_boolean((int)number);
	case NAME:
		return name_value(f->names, f->name_count, number);
	default:
		break;
	}
	memcpy(&big, at, sizeof(big));
	if (f->kind == ADDRESS)
		return address(big);
	if ((f->kind == LONG_MAYBE && big == UINT64_MAX) || (f->kind == LONG_ZERO_UNKNOWN && !big))
		return NULL;
	return json_object_new_uint64(big);
}

static void add_source(json *o, const struct trace_item *item, struct json_context *c)
{
	add_text(o, "tool", item, 0);
	add_text(o, "host", item, 1);
}

static void add_process(json *o, const struct trace_item *item, struct json_context *c)
{
	static const uint8_t none[sizeof(item->process->build_id)];
	const uint8_t *id = item->process->build_id;
	char text[2 * sizeof(none) + 1];
	size_t i;

	for (i = 0; i < sizeof(none); i++)
		sprintf(text + 2 * i, "%02x", id[i]);
	add(o, "build_id", memcmp(id, none, sizeof(none)) ? json_object_new_string(text) : NULL);
	add_text(o, "engine", item, 0);
	add_text(o, "version", item, 1);
	add_text(o, "command", item, 2);
	add_text(o, "role", item, 3);
}

static void add_model(json *o, const struct trace_item *item, struct json_context *c)
{
	add(o, "from_file", json_object_new_boolean(item->head->flags & TRACE_MODEL_FROM_FILE));
	add(o, "layer_ids", list(item->column[0].bytes, 0, item->model->layers, 2, false));
	add_text(o, "architecture", item, 1);
	add_text(o, "name", item, 2);
	add_text(o, "path", item, 3);
	add_text(o, "quantisation", item, 4);
}

/* Remember who this is for its end. Without memory the end says null, which is true. */
static void remember(struct json_context *c, const struct trace_item *item)
{
	const struct trace_request_begin *b = item->request_begin;
	struct open_request *r;

	if (!c)
		return;
	HASH_FIND(hh, c->open, &b->request, sizeof(b->request), r);
	if (!r) {
		if (HASH_COUNT(c->open) >= OPEN_REQUESTS_MAX)
			return;
		r = calloc(1, sizeof(*r));
		if (!r)
			return;
		r->request = b->request;
		HASH_ADD(hh, c->open, request, sizeof(r->request), r);
		if (!hash__has(r)) { /* not remembered: its end says less */
			free(r);
			return;
		}
	}
	free(r->client_id);
	r->slot = b->slot;
	r->task = b->task;
	r->cached = b->cached;
	r->client_id =
		item->column[0].size ? escape(item->column[0].bytes, item->column[0].size) : NULL;
}

static void add_request_begin(json *o, const struct trace_item *item, struct json_context *c)
{
	const int32_t *token = item->column[1].bytes;
	json *tokens = NULL;
	size_t i;

	add_text(o, "client_id", item, 0);
	add(o, "before_attach",
	    json_object_new_boolean(item->head->flags & TRACE_REQUEST_BEFORE_ATTACH));
	if (item->column[1].size)
		tokens = json_object_new_array();
	for (i = 0; tokens && i < item->request_begin->prompt_known; i++)
		json_object_array_add(tokens, json_object_new_int(token[i]));
	add(o, "prompt_tokens", tokens);
	remember(c, item);
}

static void forget(struct json_context *c, struct open_request *r)
{
	HASH_DEL(c->open, r);
	free(r->client_id);
	free(r);
}

static void add_request_end(json *o, const struct trace_item *item, struct json_context *c)
{
	struct open_request *r = NULL;

	if (c)
		HASH_FIND(hh, c->open, &item->request_end->request, sizeof(uint32_t), r);
	add(o, "slot", r ? maybe(r->slot) : NULL);
	add(o, "task", r ? maybe(r->task) : NULL);
	add(o, "client_id", r && r->client_id ? json_object_new_string(r->client_id) : NULL);
	add(o, "cached", r ? maybe(r->cached) : NULL);
	if (r)
		forget(c, r);
}

static void add_step(json *o, const struct trace_item *item, struct json_context *c)
{
	const uint32_t *sequence = item->column[0].bytes, *request = item->column[1].bytes;
	const uint32_t *position = item->column[2].bytes;
	const uint8_t *phase = item->column[3].bytes, *flags = item->column[4].bytes;
	const int32_t *token = item->column[5].size ? item->column[5].bytes : NULL;
	json *rows = json_object_new_array(), *row;
	uint32_t i;

	for (i = 0; rows && i < item->step->rows; i++) {
		row = json_object_new_object();
		if (!row)
			break;
		add(row, "sequence", maybe(sequence[i]));
		add(row, "request", maybe(request[i]));
		add(row, "position", maybe(position[i]));
		add(row, "phase", name_value(phase_names, COUNT(phase_names), phase[i]));
		add(row, "token", token && token[i] >= 0 ? json_object_new_int(token[i]) : NULL);
		add(row, "output", json_object_new_boolean(flags[i] & TRACE_ROW_OUTPUT));
		json_object_array_add(rows, row);
	}
	add(o, "rows", rows);
}

static void add_route(json *o, const struct trace_item *item, struct json_context *c)
{
	const struct trace_route *r = item->route;
	unsigned width = r->head.flags & TRACE_ROUTE_IDS_16 ? 2 : 1;
	bool weighted = r->head.flags & TRACE_ROUTE_WEIGHTS;
	json *rows = json_object_new_array(), *experts = json_object_new_array();
	json *weights = weighted ? json_object_new_array() : NULL;
	const uint32_t *row = item->column[0].size ? item->column[0].bytes : NULL;
	uint32_t i;

	for (i = 0; rows && experts && i < r->rows; i++) {
		size_t from = (size_t)i * r->k;

		json_object_array_add(rows, json_object_new_uint64(row ? row[i] : i));
		json_object_array_add(experts,
				      list(item->column[1].bytes, from, r->k, width, false));
		if (weights)
			json_object_array_add(weights,
					      list(item->column[2].bytes, from, r->k, 4, true));
	}
	add(o, "rows", rows);
	add(o, "experts", experts);
	add(o, "weights", weights);
	add(o, "inferred", json_object_new_boolean(r->head.flags & TRACE_ROUTE_INFERRED));
}

static void add_coverage(json *o, const struct trace_item *item, struct json_context *c)
{
	json *missing = json_object_new_object();
	char name[NAME_SIZE];
	size_t i;

	for (i = 0; missing && i < TRACE_MISSING_COUNT; i++)
		add(missing, small_letters(name, missing_names[i + 1]),
		    json_object_new_uint64(item->coverage->missing[i]));
	add(o, "missing", missing);
}

static void add_counts(json *o, const struct trace_item *item, struct json_context *c)
{
	add(o, "count", list(item->column[0].bytes, 0, item->counts->experts, 4, false));
	add(o, "gate", list(item->column[1].bytes, 0, item->counts->experts, 4, true));
}

static void add_finding(json *o, const struct trace_item *item, struct json_context *c)
{
	add_text(o, "area", item, 0);
	add_text(o, "name", item, 1);
	add_text(o, "value", item, 2);
	add_text(o, "remedy", item, 3);
}

/* clang-format off */
#define FIELD(type, field, kind) { #field, offsetof(struct trace_##type, field), kind, NULL, 0 }
#define ENUM(type, field, list)                                                                    \
	{ #field, offsetof(struct trace_##type, field), NAME, list##_names, COUNT(list##_names) }
#define FIELDS(...) (const struct field[]){ __VA_ARGS__ { 0 } }

/* What a type's object holds after "type", "time_ns" and "source", in this order. */
static const struct {
	const char *type;
	const char *event; /* "event", where one type of object stands for two of record */
	const struct field *fields;
	void (*add)(json *o, const struct trace_item *item, struct json_context *c);
} shapes[] = {
	[TRACE_SOURCE] = { "source", NULL, FIELDS(FIELD(source, id, NUMBER), ), add_source },
	[TRACE_PROCESS] = { "process", NULL,
		FIELDS(FIELD(process, process, NUMBER), FIELD(process, pid, NUMBER),
		       FIELD(process, parent, MAYBE), FIELD(process, rank_tensor, MAYBE),
		       FIELD(process, rank_pipeline, MAYBE), FIELD(process, rank_data, MAYBE),
		       FIELD(process, rank_expert, MAYBE), FIELD(process, start_ticks, LONG),
		       FIELD(process, pid_namespace_inode, LONG_ZERO_UNKNOWN), ),
		add_process },
	[TRACE_CONTEXT] = { "context", NULL,
		FIELDS(FIELD(context, context, NUMBER), FIELD(context, process, NUMBER),
		       FIELD(context, key, ADDRESS), FIELD(context, model_key, ADDRESS),
		       FIELD(context, replica_of, NUMBER), ), NULL },
	[TRACE_MODEL] = { "model", NULL,
		FIELDS(FIELD(model, context, NUMBER), FIELD(model, layers, NUMBER),
		       FIELD(model, experts, MAYBE), FIELD(model, k, MAYBE),
		       FIELD(model, shared_experts, MAYBE),
		       { "vocab", offsetof(struct trace_model, vocabulary), MAYBE, NULL, 0 },
		       FIELD(model, blocks, MAYBE), FIELD(model, normalised, TRUTH), ),
		add_model },
	[TRACE_SEQUENCE] = { "sequence", NULL,
		FIELDS(FIELD(sequence, sequence, NUMBER), FIELD(sequence, context, NUMBER),
		       FIELD(sequence, slot, MAYBE), FIELD(sequence, epoch, NUMBER), ), NULL },
	[TRACE_BIND] = { "bind", NULL,
		FIELDS(FIELD(bind, sequence, NUMBER), FIELD(bind, request, NUMBER),
		       FIELD(bind, position, NUMBER), ENUM(bind, certainty, certainty), ), NULL },
	[TRACE_REQUEST_BEGIN] = { "request", "begin",
		FIELDS(FIELD(request_begin, request, NUMBER), FIELD(request_begin, context, NUMBER),
		       FIELD(request_begin, sequence, MAYBE), FIELD(request_begin, slot, MAYBE),
		       FIELD(request_begin, task, MAYBE), FIELD(request_begin, cached, MAYBE),
		       FIELD(request_begin, prompt, MAYBE),
		       FIELD(request_begin, begin_ns, LONG_MAYBE), ), add_request_begin },
	[TRACE_REQUEST_END] = { "request", "end",
		FIELDS(FIELD(request_end, request, NUMBER), ENUM(request_end, ending, ending),
		       { "rows_seen", offsetof(struct trace_request_end, rows), NUMBER, NULL, 0 },
		       FIELD(request_end, tokens, MAYBE), ), add_request_end },
	[TRACE_STEP] = { "step", NULL,
		FIELDS(FIELD(step, step, LONG), FIELD(step, context, NUMBER),
		       FIELD(step, begin_ns, LONG), FIELD(step, end_ns, LONG), ), add_step },
	[TRACE_ROUTE] = { "route", NULL,
		FIELDS(FIELD(route, step, LONG), FIELD(route, context, NUMBER),
		       FIELD(route, layer, NUMBER), ), add_route },
	[TRACE_CLOCK] = { "clock", NULL,
		FIELDS(FIELD(clock, monotonic_ns, LONG), FIELD(clock, boot_ns, LONG),
		       FIELD(clock, real_ns, LONG), ), NULL },
	[TRACE_LOSS] = { "loss", NULL,
		FIELDS(ENUM(loss, cause, loss), FIELD(loss, count, LONG),
		       FIELD(loss, rows, LONG_MAYBE), FIELD(loss, since_ns, LONG), ), NULL },
	[TRACE_INVALID] = { "invalid", NULL,
		FIELDS(ENUM(invalid, cause, invalid), FIELD(invalid, count, LONG), ), NULL },
	[TRACE_COST] = { "cost", NULL,
		FIELDS(FIELD(cost, interval_ns, LONG), FIELD(cost, hits, LONG),
		       FIELD(cost, hit_ns, LONG_MAYBE), FIELD(cost, collector_cpu_ns, LONG),
		       FIELD(cost, resident_bytes, LONG), FIELD(cost, threads, MAYBE),
		       FIELD(cost, slowdown_ppm, MAYBE), ), NULL },
	[TRACE_COVERAGE] = { "coverage", NULL,
		FIELDS(FIELD(coverage, request, ZERO_UNKNOWN), FIELD(coverage, layer, NUMBER),
		       FIELD(coverage, expected, LONG), FIELD(coverage, seen, LONG), ),
		add_coverage },
	[TRACE_END] = { "end", NULL,
		FIELDS(ENUM(end, stop, stop), FIELD(end, records, LONG), FIELD(end, steps, LONG),
		       FIELD(end, rows, LONG), FIELD(end, routes, LONG),
		       FIELD(end, decisions, LONG), FIELD(end, lost, LONG),
		       FIELD(end, invalid, LONG), ), NULL },
	[TRACE_COUNTS] = { "counts", NULL,
		FIELDS(FIELD(counts, request, MAYBE), FIELD(counts, context, NUMBER),
		       FIELD(counts, layer, NUMBER), ENUM(counts, phase, phase),
		       FIELD(counts, rows, NUMBER), FIELD(counts, experts, NUMBER),
		       FIELD(counts, first_position, MAYBE), FIELD(counts, k, NUMBER), ),
		add_counts },
	[TRACE_FINDING] = { "finding", NULL,
		FIELDS(ENUM(finding, status, status), FIELD(finding, pid, ZERO_UNKNOWN), ),
		add_finding },
};
/* clang-format on */

struct json_object *json_view__record(const struct trace_item *item, struct json_context *c)
{
	const struct field *f;
	json *o;

	/* The reader hands out only types of its own list, which is this one. */
	if ((unsigned)item->type >= COUNT(shapes) || !shapes[item->type].type)
		return NULL;
	o = json_object_new_object();
	if (!o)
		return NULL;
	add(o, "type", json_object_new_string(shapes[item->type].type));
	if (shapes[item->type].event)
		add(o, "event", json_object_new_string(shapes[item->type].event));
	add(o, "time_ns", json_object_new_uint64(item->head->time_ns));
	add(o, "source", json_object_new_uint64(item->head->source));
	for (f = shapes[item->type].fields; f->name; f++)
		add(o, f->name, field_value(f, item->fixed));
	if (shapes[item->type].add)
		shapes[item->type].add(o, item, c);
	return o;
}

#define PRINT_FLAGS (JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE)

int json_view__print(FILE *out, const struct trace_item *item, struct json_context *c)
{
	json *o = json_view__record(item, c);
	const char *text = o ? json_object_to_json_string_ext(o, PRINT_FLAGS) : NULL;
	int err = text ? 0 : -ENOMEM;

	if (text && fprintf(out, "%s\n", text) < 0)
		err = -EIO;
	json_object_put(o);
	return err;
}

int text_view__print(FILE *out, const struct trace_item *item, struct json_context *c)
{
	json *o = json_view__record(item, c);
	const char *separator = "";
	int err = o ? 0 : -ENOMEM;

	if (!o)
		return err;
	json_object_object_foreach(o, key, value)
	{
		const char *text = json_object_to_json_string_ext(value, PRINT_FLAGS);

		if (!text)
			err = -ENOMEM;
		else if (!*separator)
			fputs(json_object_get_string(value), out);
		else
			fprintf(out, "%s%s=%s", separator, key, value ? text : "-");
		separator = " ";
	}
	fputc('\n', out);
	json_object_put(o);
	return err ? err : ferror(out) ? -EIO : 0;
}

struct json_context *json_context__new(void)
{
	return calloc(1, sizeof(struct json_context));
}

void json_context__free(struct json_context *c)
{
	struct open_request *r, *next;

	if (!c)
		return;
	HASH_ITER(hh, c->open, r, next)
	{
		forget(c, r);
	}
	free(c);
}
