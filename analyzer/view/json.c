/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Scalars of a record come from a table of fields; what has columns adds them by a function of
 * its own. Unknown is null. A name or text from the target never reaches the output unescaped.
 */
#include "analyzer/view/json.h"

#include <errno.h>
#include <json-c/json.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "analyzer/view/value.h"
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

#define X(id, name, ...) [id] = #name,
static const char *const ending_names[] = { TRACE_ENDINGS(X) };
static const char *const loss_names[] = { TRACE_LOSSES(X) };
static const char *const invalid_names[] = { TRACE_INVALIDS(X) };
static const char *const missing_names[] = { TRACE_MISSING(X) };
static const char *const stop_names[] = { TRACE_STOPS(X) };
static const char *const finish_names[] = { TRACE_FINISHES(X) };
static const char *const gate_names[] = { TRACE_GATES(X) };
static const char *const origin_names[] = { TRACE_ORIGINS(X) };
static const char *const reason_names[] = { TRACE_REASONS(X) };
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

static void add_source(struct json_object *o, const struct trace_item *item, struct json_context *c)
{
	value__add_text(o, "tool", item, 0);
	value__add_text(o, "host", item, 1);
}

static void add_process(struct json_object *o, const struct trace_item *item,
			struct json_context *c)
{
	value__add(o, "build_id",
		   value__digest(item->process->build_id, sizeof(item->process->build_id)));
	value__add_text(o, "engine", item, 0);
	value__add_text(o, "version", item, 1);
	value__add_text(o, "command", item, 2);
	value__add_text(o, "role", item, 3);
}

static void add_model(struct json_object *o, const struct trace_item *item, struct json_context *c)
{
	value__add(o, "from_file",
		   json_object_new_boolean(item->head->flags & TRACE_MODEL_FROM_FILE));
	value__add(o, "ordinals",
		   json_object_new_boolean(item->head->flags & TRACE_MODEL_ORDINALS));
	value__add(o, "layer_ids",
		   value__list(item->column[0].bytes, 0, item->model->layers, 2, false));
	value__add_text(o, "architecture", item, 1);
	value__add_text(o, "name", item, 2);
	value__add_text(o, "path", item, 3);
	value__add_text(o, "quantisation", item, 4);
	value__add_text(o, "kv_type", item, 5);
	value__add(o, "model_digest",
		   value__digest(item->model->model_digest, sizeof(item->model->model_digest)));
	value__add(o, "tokenizer_digest",
		   value__digest(item->model->tokenizer_digest,
				 sizeof(item->model->tokenizer_digest)));
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
	r->client_id = item->column[0].size
			       ? value__escape(item->column[0].bytes, item->column[0].size)
			       : NULL;
}

static void add_request_begin(struct json_object *o, const struct trace_item *item,
			      struct json_context *c)
{
	const int32_t *token = item->column[1].bytes;
	struct json_object *tokens = NULL;
	size_t i;

	value__add_text(o, "client_id", item, 0);
	value__add(o, "before_attach",
		   json_object_new_boolean(item->head->flags & TRACE_REQUEST_BEFORE_ATTACH));
	if (item->column[1].size)
		tokens = json_object_new_array();
	for (i = 0; tokens && i < item->request_begin->prompt_known; i++)
		json_object_array_add(tokens, json_object_new_int(token[i]));
	value__add(o, "prompt_tokens", tokens);
	remember(c, item);
}

/* A client's id that became known later is repeated at the end too. */
static void update(struct json_context *c, const struct trace_item *item)
{
	struct open_request *r = NULL;

	if (c && item->column[0].size)
		HASH_FIND(hh, c->open, &item->request_info->request, sizeof(uint32_t), r);
	if (!r)
		return;
	free(r->client_id);
	r->client_id = value__escape(item->column[0].bytes, item->column[0].size);
}

static void forget(struct json_context *c, struct open_request *r)
{
	HASH_DEL(c->open, r);
	free(r->client_id);
	free(r);
}

static void add_request_end(struct json_object *o, const struct trace_item *item,
			    struct json_context *c)
{
	struct open_request *r = NULL;

	if (c)
		HASH_FIND(hh, c->open, &item->request_end->request, sizeof(uint32_t), r);
	value__add(o, "slot", r ? value__maybe(r->slot) : NULL);
	value__add(o, "task", r ? value__maybe(r->task) : NULL);
	value__add(o, "client_id", r && r->client_id ? json_object_new_string(r->client_id) : NULL);
	value__add(o, "cached", r ? value__maybe(r->cached) : NULL);
	if (r)
		forget(c, r);
}

/* Bits of STEP's row flags. */
static const char *const row_flag_names[] = { "output", "padding", "draft", "rejected",
					      "finished" };

static void add_step(struct json_object *o, const struct trace_item *item, struct json_context *c)
{
	const uint32_t *sequence = item->column[0].bytes, *request = item->column[1].bytes;
	const uint32_t *position = item->column[2].bytes;
	const uint8_t *phase = item->column[3].bytes, *flags = item->column[4].bytes;
	const int32_t *token = item->column[5].size ? item->column[5].bytes : NULL;
	struct json_object *rows = json_object_new_array(), *row;
	uint32_t i;

	for (i = 0; rows && i < item->step->rows; i++) {
		row = json_object_new_object();
		if (!row)
			break;
		value__add(row, "sequence", value__maybe(sequence[i]));
		value__add(row, "request", value__maybe(request[i]));
		value__add(row, "position", value__maybe(position[i]));
		value__add(row, "phase", value__name(phase_names, COUNT(phase_names), phase[i]));
		value__add(row, "token",
			   token && token[i] >= 0 ? json_object_new_int(token[i]) : NULL);
		for (size_t f = 0; f < COUNT(row_flag_names); f++)
			value__add(row, row_flag_names[f],
				   json_object_new_boolean(flags[i] & 1u << f));
		json_object_array_add(rows, row);
	}
	value__add(o, "rows", rows);
}

_Static_assert(TRACE_ROUTE_PHYSICAL == TRACE_COUNTS_PHYSICAL, "one function for both");
_Static_assert(TRACE_ROUTE_LOCAL == TRACE_COUNTS_LOCAL, "one function for both");

/* What ids count. */
static struct json_object *ids_name(uint32_t flags)
{
	return json_object_new_string(flags & TRACE_ROUTE_PHYSICAL ? "physical"
				      : flags & TRACE_ROUTE_LOCAL  ? "local"
								   : "logical");
}

/* Entries whose choice between equal scores was inferred; null: no entry says. */
static struct json_object *ties(const struct trace_item *item)
{
	const uint8_t *flags = item->column[3].bytes;
	struct json_object *l;

	if (!(item->head->flags & TRACE_ROUTE_ROW_FLAGS))
		return NULL;
	l = json_object_new_array();
	for (uint32_t i = 0; l && i < item->route->rows; i++)
		if (flags[i] & TRACE_ROUTE_ROW_TIE)
			json_object_array_add(l, json_object_new_uint64(i));
	return l;
}

/* The ids of the entry that begins at @from. */
static struct json_object *chosen(const struct trace_item *item, size_t from)
{
	struct json_object *l = json_object_new_array();

	for (uint32_t j = 0; l && j < item->route->k; j++)
		json_object_array_add(l, value__maybe(trace_item__expert(item, from + j)));
	return l;
}

static void add_route(struct json_object *o, const struct trace_item *item, struct json_context *c)
{
	const struct trace_route *r = item->route;
	bool weighted = r->head.flags & TRACE_ROUTE_WEIGHTS;
	struct json_object *rows = json_object_new_array(), *experts = json_object_new_array();
	struct json_object *weights = weighted ? json_object_new_array() : NULL;
	const uint32_t *row = item->column[0].size ? item->column[0].bytes : NULL;
	uint32_t i;

	for (i = 0; rows && experts && i < r->rows; i++) {
		size_t from = (size_t)i * r->k;

		json_object_array_add(rows, json_object_new_uint64(row ? row[i] : i));
		json_object_array_add(experts, chosen(item, from));
		if (weights)
			json_object_array_add(
				weights, value__list(item->column[2].bytes, from, r->k, 4, true));
	}
	value__add(o, "rows", rows);
	value__add(o, "experts", experts);
	value__add(o, "weights", weights);
	value__add(o, "inferred", json_object_new_boolean(r->head.flags & TRACE_ROUTE_INFERRED));
	value__add(o, "raw", json_object_new_boolean(r->head.flags & TRACE_ROUTE_RAW));
	value__add(o, "ids", ids_name(r->head.flags));
	value__add(o, "ties", ties(item));
}

/* Causes of a later writer by their number. */
static void add_coverage(struct json_object *o, const struct trace_item *item,
			 struct json_context *c)
{
	const uint64_t *count = item->column[0].bytes;
	uint32_t causes = item->coverage->causes;
	struct json_object *missing = json_object_new_object();
	char name[VALUE_NAME_SIZE];

	for (uint32_t i = 0; missing && (i < causes || i < TRACE_MISSING_COUNT); i++) {
		if (i < TRACE_MISSING_COUNT)
			value__small(name, missing_names[i + 1]);
		else
			snprintf(name, sizeof(name), "%u", i + 1);
		value__add(missing, name, json_object_new_uint64(i < causes ? count[i] : 0));
	}
	value__add(o, "missing", missing);
}

static void add_counts(struct json_object *o, const struct trace_item *item, struct json_context *c)
{
	value__add(o, "count",
		   value__list(item->column[0].bytes, 0, item->counts->experts, 4, false));
	value__add(o, "gate",
		   item->head->flags & TRACE_COUNTS_GATE
			   ? value__list(item->column[1].bytes, 0, item->counts->experts, 4, true)
			   : NULL);
	value__add(o, "ids", ids_name(item->head->flags));
}

/* "key=value" lines as an object; a line without '=' is a key without a value. */
static struct json_object *labels(const struct trace_item *item, size_t column)
{
	const char *at = item->column[column].bytes, *end = at + item->column[column].size;
	struct json_object *o = item->column[column].size ? json_object_new_object() : NULL;

	while (o && at < end) {
		const char *line = memchr(at, '\n', (size_t)(end - at));
		const char *stop = line ? line : end;
		const char *equals = memchr(at, '=', (size_t)(stop - at));
		char *key = value__escape(at, (size_t)((equals ? equals : stop) - at));
		char *value =
			equals ? value__escape(equals + 1, (size_t)(stop - equals - 1)) : NULL;

		if (key)
			value__add(o, key, value ? json_object_new_string(value) : NULL);
		free(key);
		free(value);
		at = stop + 1;
	}
	return o;
}

static void add_request_info(struct json_object *o, const struct trace_item *item,
			     struct json_context *c)
{
	value__add_text(o, "client_id", item, 0);
	value__add_text(o, "request_id", item, 1);
	value__add_text(o, "trace_id", item, 2);
	value__add_text(o, "adapter", item, 3);
	value__add(o, "labels", labels(item, 4));
	update(c, item);
}

static void add_finding(struct json_object *o, const struct trace_item *item,
			struct json_context *c)
{
	value__add_text(o, "area", item, 0);
	value__add_text(o, "name", item, 1);
	value__add_text(o, "value", item, 2);
	value__add_text(o, "remedy", item, 3);
}

/* clang-format off */
#define FIELD(type, field, kind) { #field, offsetof(struct trace_##type, field), kind, NULL, 0 }
#define ENUM(type, field, list)                                                                    \
	{ #field, offsetof(struct trace_##type, field), NAME, list##_names, COUNT(list##_names) }
#define FIELDS(...) (const struct value_field[]){ __VA_ARGS__ { 0 } }

/* What a type's object holds after "type", "time_ns" and "source", in this order. */
static const struct {
	const char *type;
	const char *event; /* "event", where one type of object stands for two of record */
	const struct value_field *fields;
	void (*add)(struct json_object *o, const struct trace_item *item, struct json_context *c);
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
		       FIELD(model, blocks, MAYBE), FIELD(model, normalised, TRUTH),
		       ENUM(model, gate, gate), FIELD(model, groups, MAYBE),
		       FIELD(model, groups_used, MAYBE), FIELD(model, scale, FLOAT), ),
		add_model },
	[TRACE_SEQUENCE] = { "sequence", NULL,
		FIELDS(FIELD(sequence, sequence, NUMBER), FIELD(sequence, context, NUMBER),
		       FIELD(sequence, slot, MAYBE), FIELD(sequence, epoch, MAYBE), ), NULL },
	[TRACE_BIND] = { "bind", NULL,
		FIELDS(FIELD(bind, sequence, NUMBER), FIELD(bind, request, MAYBE),
		       FIELD(bind, position, NUMBER), ENUM(bind, certainty, certainty),
		       ENUM(bind, origin, origin), ), NULL },
	[TRACE_REQUEST_BEGIN] = { "request", "begin",
		FIELDS(FIELD(request_begin, request, NUMBER), FIELD(request_begin, context, NUMBER),
		       FIELD(request_begin, sequence, MAYBE), FIELD(request_begin, slot, MAYBE),
		       FIELD(request_begin, task, MAYBE), FIELD(request_begin, cached, MAYBE),
		       FIELD(request_begin, prompt, MAYBE),
		       FIELD(request_begin, begin_ns, LONG_MAYBE),
		       FIELD(request_begin, temperature, FLOAT),
		       FIELD(request_begin, top_p, FLOAT), FIELD(request_begin, top_k, MAYBE),
		       FIELD(request_begin, max_tokens, MAYBE), ), add_request_begin },
	[TRACE_REQUEST_END] = { "request", "end",
		FIELDS(FIELD(request_end, request, NUMBER), ENUM(request_end, ending, ending),
		       { "rows_seen", offsetof(struct trace_request_end, rows), NUMBER, NULL, 0 },
		       FIELD(request_end, tokens, MAYBE), ENUM(request_end, finish, finish),
		       FIELD(request_end, prompt, MAYBE), FIELD(request_end, generated, MAYBE),
		       ENUM(request_end, certainty, certainty), ), add_request_end },
	[TRACE_STEP] = { "step", NULL,
		FIELDS(FIELD(step, step, LONG), FIELD(step, context, NUMBER),
		       FIELD(step, begin_ns, LONG), FIELD(step, end_ns, LONG),
		       FIELD(step, ubatch, MAYBE), FIELD(step, ubatches, MAYBE),
		       FIELD(step, batch, LONG_MAYBE), ), add_step },
	[TRACE_ROUTE] = { "route", NULL,
		FIELDS(FIELD(route, step, LONG), FIELD(route, context, NUMBER),
		       FIELD(route, layer, NUMBER), ), add_route },
	[TRACE_CLOCK] = { "clock", NULL,
		FIELDS(FIELD(clock, monotonic_ns, LONG), FIELD(clock, boot_ns, LONG),
		       FIELD(clock, real_ns, LONG), ), NULL },
	[TRACE_LOSS] = { "loss", NULL,
		FIELDS(ENUM(loss, cause, loss), FIELD(loss, context, MAYBE),
		       FIELD(loss, count, LONG),
		       FIELD(loss, rows, LONG_MAYBE), FIELD(loss, decisions, LONG_MAYBE),
		       FIELD(loss, since_ns, LONG), ), NULL },
	[TRACE_INVALID] = { "invalid", NULL,
		FIELDS(ENUM(invalid, cause, invalid), FIELD(invalid, count, LONG), ), NULL },
	[TRACE_COST] = { "cost", NULL,
		FIELDS(FIELD(cost, interval_ns, LONG), FIELD(cost, hits, LONG),
		       FIELD(cost, hit_ns, LONG_MAYBE), FIELD(cost, collector_cpu_ns, LONG),
		       FIELD(cost, resident_bytes, LONG), FIELD(cost, threads, MAYBE),
		       FIELD(cost, slowdown_ppm, MAYBE), ), NULL },
	[TRACE_COVERAGE] = { "coverage", NULL,
		FIELDS(FIELD(coverage, request, ZERO_UNKNOWN), FIELD(coverage, layer, NUMBER),
		       FIELD(coverage, context, MAYBE), FIELD(coverage, expected, LONG),
		       FIELD(coverage, seen, LONG), ),
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
		       FIELD(counts, first_position, MAYBE), FIELD(counts, k, NUMBER),
		       FIELD(counts, sequence, MAYBE), FIELD(counts, last_position, MAYBE), ),
		add_counts },
	[TRACE_FINDING] = { "finding", NULL,
		FIELDS(ENUM(finding, status, status), FIELD(finding, pid, ZERO_UNKNOWN), ),
		add_finding },
	[TRACE_REQUEST_INFO] = { "request_info", NULL,
		FIELDS(FIELD(request_info, request, NUMBER),
		       ENUM(request_info, certainty, certainty),
		       ENUM(request_info, origin, origin), ), add_request_info },
	[TRACE_WINDOW] = { "window", NULL,
		FIELDS(FIELD(window, context, MAYBE), FIELD(window, begin_ns, LONG),
		       FIELD(window, end_ns, LONG), FIELD(window, inclusion, DOUBLE),
		       ENUM(window, reason, reason), ), NULL },
};
/* clang-format on */

struct json_object *json_view__record(const struct trace_item *item, struct json_context *c)
{
	const struct value_field *f;
	struct json_object *o;

	/* The reader hands out only types of its own list, which is this one. */
	if ((unsigned)item->type >= COUNT(shapes) || !shapes[item->type].type)
		return NULL;
	o = json_object_new_object();
	if (!o)
		return NULL;
	value__add(o, "type", json_object_new_string(shapes[item->type].type));
	if (shapes[item->type].event)
		value__add(o, "event", json_object_new_string(shapes[item->type].event));
	value__add(o, "time_ns", json_object_new_uint64(item->head->time_ns));
	value__add(o, "source", json_object_new_uint64(item->head->source));
	for (f = shapes[item->type].fields; f->name; f++)
		value__add(o, f->name, value__of_field(f, item->fixed));
	if (shapes[item->type].add)
		shapes[item->type].add(o, item, c);
	return o;
}

#define PRINT_FLAGS (JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE)

int json_view__print(FILE *out, const struct trace_item *item, struct json_context *c)
{
	struct json_object *o = json_view__record(item, c);
	const char *text = o ? json_object_to_json_string_ext(o, PRINT_FLAGS) : NULL;
	int err = text ? 0 : -ENOMEM;

	if (text && fprintf(out, "%s\n", text) < 0)
		err = -EIO;
	json_object_put(o);
	return err;
}

int text_view__print(FILE *out, const struct trace_item *item, struct json_context *c)
{
	struct json_object *o = json_view__record(item, c);
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
