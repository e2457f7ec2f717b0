/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/engine/wire/vllm_message.h"

#include <errno.h>
#include <math.h>
#include <string.h>

/* EngineCoreRequestType. */
enum kind { KIND_ADD, KIND_ABORT, KIND_START_WAVE, KIND_UTILITY, KIND_LAST = 5 };

/* Positions in EngineCoreRequest, EngineCoreOutputs, EngineCoreOutput and PrefillStats. */
enum {
	REQUEST_REQUIRED = 9, /* fields without default */
	REQUEST_SAMPLING = 3,
	REQUEST_CLIENT_INDEX = 11,
	REQUEST_EXTERNAL_ID = 16,
	REQUEST_FIELDS = 64, /* no version has more */
	OUTPUTS_LIST = 1,
	OUTPUTS_TIMESTAMP = 3,
	OUTPUT_TOKENS = 1,
	OUTPUT_FINISH = 5,
	OUTPUT_PREFILL = 11,
};

#define SAMPLING_MAX_TOKENS 16 /* where a request does not say */

/* What a field may hold: bits 1 << msgpack_type. */
enum {
	NIL = 1 << MSGPACK_NIL,
	BOOL = 1 << MSGPACK_BOOL,
	UINT = 1 << MSGPACK_UINT,
	INT = UINT | 1 << MSGPACK_INT,
	FLOAT = 1 << MSGPACK_FLOAT,
	STR = 1 << MSGPACK_STR,
	ARRAY = 1 << MSGPACK_ARRAY,
	MAP = 1 << MSGPACK_MAP,
	ANY = 0xffff,
};

static const uint16_t REQUEST_TYPES[] = {
	STR,               /* request_id */
	NIL | ARRAY,       /* prompt_token_ids */
	NIL | ARRAY,       /* mm_features */
	NIL | MAP,         /* sampling_params */
	NIL | MAP | ARRAY, /* pooling_params */
	FLOAT,             /* arrival_time */
	NIL | MAP | ARRAY, /* lora_request */
	NIL | STR,         /* cache_salt */
	NIL | INT,         /* data_parallel_rank */
	NIL | ARRAY,       /* prompt_embeds */
	NIL | ARRAY,       /* prompt_is_token_ids */
	INT,               /* client_index */
	INT,               /* current_wave */
	INT,               /* priority */
	NIL | MAP,         /* trace_headers */
	BOOL,              /* resumable */
	NIL | STR,         /* external_req_id */
};

static const uint16_t OUTPUT_TYPES[] = {
	STR,             /* request_id */
	ARRAY,           /* new_token_ids */
	NIL | ARRAY,     /* new_logprobs */
	NIL | ARRAY,     /* new_prompt_logprobs_tensors */
	NIL | ARRAY,     /* pooling_output */
	NIL | UINT,      /* finish_reason */
	NIL | INT | STR, /* stop_reason */
	NIL | ARRAY,     /* events */
	NIL | MAP,       /* kv_transfer_params */
	NIL | MAP,       /* ec_transfer_params */
	NIL | MAP,       /* trace_headers */
	NIL | MAP,       /* prefill_stats */
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* --- pieces of messages ----------------------------------------------------------------------- */

/* Pass a value of one of @types; its first item is @item. */
static int pass(struct msgpack *m, uint16_t types, struct msgpack_item *item)
{
	struct msgpack ahead = *m;
	int err = msgpack__next(&ahead, item);

	if (err)
		return err;
	if (!(types & 1 << item->type))
		return -EBADMSG;
	err = msgpack__skip(m);
	return err == -E2BIG ? -EBADMSG : err;
}

static int take_text(struct msgpack *m, struct vllm_text *out)
{
	struct msgpack_item item;
	int err = msgpack__expect(m, MSGPACK_STR, &item);

	*out = (struct vllm_text){ 0 };
	if (err)
		return err;
	if (!item.size || item.size > VLLM_ID_BYTES)
		return -EBADMSG;
	*out = (struct vllm_text){ (const char *)item.bytes, item.size };
	return 0;
}

/* The head of a list of token ids; the ids come next. */
static int take_tokens(struct msgpack *m, bool may_be_nil, struct vllm_tokens *out)
{
	struct msgpack_item item;
	int err = msgpack__next(m, &item);

	*out = (struct vllm_tokens){ 0 };
	if (err)
		return err;
	if (item.type != MSGPACK_ARRAY && !(may_be_nil && item.type == MSGPACK_NIL))
		return -EBADMSG;
	out->is_nil = item.type == MSGPACK_NIL;
	out->count = item.count;
	out->reader = *m;
	return 0;
}

static int take_token(struct msgpack *m, uint32_t *out)
{
	struct msgpack_item item;
	int err = msgpack__expect(m, MSGPACK_UINT, &item);

	if (!err && item.value.u > INT32_MAX)
		err = -EBADMSG;
	*out = err ? 0 : (uint32_t)item.value.u;
	return err;
}

static int pass_tokens(struct msgpack *m, const struct vllm_tokens *t)
{
	uint32_t token;
	int err = 0;

	for (uint32_t i = 0; !err && i < t->count; i++)
		err = take_token(m, &token);
	return err;
}

size_t vllm_tokens__next(struct vllm_tokens *t, uint32_t *out, size_t room)
{
	size_t n = 0;

	while (n < room && t->count && !take_token(&t->reader, &out[n])) {
		t->count--;
		n++;
	}
	return n;
}

/* --- EngineCoreRequest --------------------------------------------------------------------------
 */

static bool is_named(const struct msgpack_item *key, const char *name)
{
	return key->type == MSGPACK_STR && key->size == strlen(name) &&
	       !memcmp(key->bytes, name, key->size);
}

/* NaN: it is none that makes sense. */
static float number_of(const struct msgpack_item *i)
{
	double value = i->type == MSGPACK_UINT    ? (double)i->value.u
		       : i->type == MSGPACK_FLOAT ? i->value.f
						  : NAN;

	return value >= 0 && value <= 1e6 ? (float)value : NAN;
}

static uint32_t count_of(const struct msgpack_item *i)
{
	return i->type == MSGPACK_UINT && i->value.u <= INT32_MAX ? (uint32_t)i->value.u
								  : ENGINE_UNKNOWN;
}

/* SamplingParams, a map by names without what is as by default; @m stands before it, and all of it
 * is at hand. */
static int take_sampling(struct msgpack m, struct engine_sampling *out)
{
	struct msgpack_item map, key, value;
	int err = msgpack__expect(&m, MSGPACK_MAP, &map);

	*out = (struct engine_sampling){ 1, 1, 0, SAMPLING_MAX_TOKENS };
	for (uint32_t i = 0; !err && i < map.count; i++) {
		err = pass(&m, ANY, &key);
		if (!err)
			err = pass(&m, ANY, &value);
		if (err)
			break;
		if (is_named(&key, "temperature"))
			out->temperature = number_of(&value);
		else if (is_named(&key, "top_p"))
			out->top_p = number_of(&value);
		else if (is_named(&key, "top_k")) /* negative: not limited */
			out->top_k = value.type == MSGPACK_INT ? 0 : count_of(&value);
		else if (is_named(&key, "max_tokens"))
			out->max_tokens = count_of(&value);
	}
	return err;
}

/* What stands behind the prompt. */
static int take_request_rest(struct msgpack *m, uint32_t fields, struct vllm_request *out)
{
	struct msgpack_item item;
	int err = 0;

	for (uint32_t i = 2; !err && i < fields; i++) {
		struct msgpack before = *m;
		bool is_known = i < COUNT(REQUEST_TYPES);

		err = pass(m, is_known ? REQUEST_TYPES[i] : ANY, &item);
		if (err)
			break;
		if (i == REQUEST_SAMPLING && item.type == MSGPACK_MAP) {
			err = take_sampling(before, &out->sampling);
			out->has_sampling = !err;
		}
		if (i == REQUEST_CLIENT_INDEX && item.type == MSGPACK_UINT &&
		    item.value.u <= UINT32_MAX)
			out->client_index = item.value.u;
		if (i == REQUEST_EXTERNAL_ID && item.type == MSGPACK_STR)
			out->external = (struct vllm_text){ (const char *)item.bytes, item.size };
	}
	return err ? err : m->at == m->whole ? 0 : -EBADMSG;
}

int vllm_message__request(const uint8_t *bytes, size_t size, uint64_t whole,
			  struct vllm_request *out)
{
	struct msgpack m = msgpack__over(bytes, size, whole);
	struct msgpack_item item;
	int err;

	*out = (struct vllm_request){ 0 };
	err = msgpack__expect(&m, MSGPACK_ARRAY, &item);
	if (!err && (item.count < REQUEST_REQUIRED || item.count > REQUEST_FIELDS))
		err = -EBADMSG;
	if (!err)
		err = take_text(&m, &out->id);
	if (!err)
		err = take_tokens(&m, true, &out->prompt);
	if (err)
		goto out;
	err = pass_tokens(&m, &out->prompt);
	if (!err)
		err = take_request_rest(&m, item.count, out);
	if (err == -ENODATA) {
		out->external = (struct vllm_text){ 0 };
		out->client_index = 0;
		return 0;
	}
	out->is_whole = !err;
out:
	if (err)
		*out = (struct vllm_request){ 0 };
	return err;
}

/* --- EngineCoreOutputs ---------------------------------------------------------------------------
 */

/* PrefillStats, a map by names; @m stands before it. */
static int take_prefill(struct msgpack m, struct vllm_output *out)
{
	static const char PROMPT[] = "num_prompt_tokens", CACHED[] = "num_cached_tokens";
	struct msgpack_item map, key, value;
	int err = msgpack__expect(&m, MSGPACK_MAP, &map);

	for (uint32_t i = 0; !err && i < map.count; i++) {
		err = msgpack__expect(&m, MSGPACK_STR, &key);
		if (!err)
			err = msgpack__expect(&m, MSGPACK_UINT, &value);
		if (!err && value.value.u > INT32_MAX)
			err = -EBADMSG;
		if (err)
			break;
		if (key.size == sizeof(PROMPT) - 1 && !memcmp(key.bytes, PROMPT, key.size)) {
			out->prompt_tokens = value.value.u;
			out->has_prefill = true;
		}
		if (key.size == sizeof(CACHED) - 1 && !memcmp(key.bytes, CACHED, key.size))
			out->cached_tokens = value.value.u;
	}
	return err;
}

/* The fields behind the tokens. */
static int take_output_rest(struct msgpack *m, uint32_t fields, struct vllm_output *out)
{
	struct msgpack_item item;
	int err = 0;

	for (uint32_t i = OUTPUT_TOKENS + 1; !err && i < fields; i++) {
		struct msgpack before = *m;
		bool is_known = i < COUNT(OUTPUT_TYPES);

		err = pass(m, is_known ? OUTPUT_TYPES[i] : ANY, &item);
		if (err)
			break;
		if (i == OUTPUT_FINISH && item.type == MSGPACK_UINT) {
			if (item.value.u > VLLM_REPETITION)
				return -EBADMSG;
			out->finish = (enum vllm_finish)item.value.u;
		}
		if (i == OUTPUT_PREFILL && item.type == MSGPACK_MAP)
			err = take_prefill(before, out);
	}
	return err;
}

/* One EngineCoreOutput. 0; -ENODATA: its end is not at hand: it has an id if its tokens are. */
static int take_output(struct msgpack *m, struct vllm_output *out)
{
	struct msgpack_item item;
	int err;

	*out = (struct vllm_output){ .finish = VLLM_RUNNING };
	err = msgpack__expect(m, MSGPACK_ARRAY, &item);
	if (!err && (item.count < 2 || item.count > REQUEST_FIELDS))
		err = -EBADMSG;
	if (!err)
		err = take_text(m, &out->id);
	if (!err)
		err = take_tokens(m, false, &out->tokens);
	if (!err)
		err = pass_tokens(m, &out->tokens);
	if (err) {
		*out = (struct vllm_output){ .finish = VLLM_RUNNING };
		return err;
	}
	err = take_output_rest(m, item.count, out);
	out->is_whole = !err;
	return err;
}

/* Whether what stands behind the outputs is what EngineCoreOutputs has there. */
static int check_outputs_rest(struct msgpack *m, uint32_t fields)
{
	struct msgpack_item item;
	int err = pass(m, NIL | MAP | ARRAY, &item); /* scheduler_stats */

	if (!err)
		err = pass(m, FLOAT, &item); /* timestamp */
	for (uint32_t i = OUTPUTS_TIMESTAMP + 1; !err && i < fields; i++)
		err = pass(m, ANY, &item);
	return err ? err : m->at == m->whole ? 0 : -EBADMSG;
}

/* Reads the message twice: to see that it is ours, and (@events) to tell what it says. */
static int read_outputs(const struct zmtp_frame *f, const struct vllm_events *events, void *ctx)
{
	struct msgpack m = msgpack__over(f->bytes, f->size, f->whole);
	struct msgpack_item fields, engine, list;
	struct vllm_output o;
	uint32_t i;
	int err = msgpack__expect(&m, MSGPACK_ARRAY, &fields);

	if (!err && (fields.count <= OUTPUTS_TIMESTAMP || fields.count > REQUEST_FIELDS))
		err = -EBADMSG;
	if (!err)
		err = msgpack__expect(&m, MSGPACK_UINT, &engine);
	if (!err)
		err = msgpack__expect(&m, MSGPACK_ARRAY, &list);
	if (err)
		return err;
	for (i = 0; !err && i < list.count; i++) {
		err = take_output(&m, &o);
		if (events && events->output && o.id.bytes && (!err || err == -ENODATA))
			events->output(ctx, f->time_ns, &o);
	}
	if (!err)
		err = check_outputs_rest(&m, fields.count);
	else if (err == -ENODATA)
		i -= !o.id.bytes; /* the last was not told */
	if (events && events->step && (!err || err == -ENODATA))
		events->step(ctx, f->time_ns, engine.value.u, list.count, list.count - i);
	return err;
}

/* --- frames --------------------------------------------------------------------------------------
 */

static int read_aborts(const struct zmtp_frame *f, const struct vllm_events *events, void *ctx)
{
	struct msgpack m = msgpack__over(f->bytes, f->size, f->whole);
	struct msgpack_item list;
	int err = msgpack__expect(&m, MSGPACK_ARRAY, &list);

	for (uint32_t i = 0; !err && i < list.count; i++) {
		struct vllm_text id;

		err = take_text(&m, &id);
		if (!err && events->abort)
			events->abort(ctx, f->time_ns, id);
	}
	return err == -EBADMSG ? err : 1;
}

static int read_request(const struct zmtp_frame *f, const struct vllm_events *events, void *ctx)
{
	struct vllm_request r;
	int err = vllm_message__request(f->bytes, f->size, f->whole, &r);

	if (err)
		return err == -ENODATA ? 0 : err;
	if (events->request)
		events->request(ctx, f->time_ns, &r);
	return 1;
}

bool vllm_message__plausible(const struct zmtp_frame *f)
{
	struct msgpack m = msgpack__over(f->bytes, f->size, f->whole);
	struct msgpack_item fields, item;
	int err;

	if (f->whole == 1)
		return f->more && f->size == 1 && f->bytes[0] <= KIND_LAST;
	err = msgpack__expect(&m, MSGPACK_ARRAY, &fields);
	if (err || fields.count > REQUEST_FIELDS)
		return false;
	err = msgpack__next(&m, &item);
	if (item.type == MSGPACK_STR && item.size && item.size <= VLLM_ID_BYTES)
		return !err && fields.count >= REQUEST_REQUIRED;
	if (err || item.type != MSGPACK_UINT || fields.count <= OUTPUTS_TIMESTAMP)
		return false;
	return !msgpack__expect(&m, MSGPACK_ARRAY, &item);
}

int vllm_message__frame(struct vllm_reader *reader, const struct zmtp_frame *f,
			const struct vllm_events *events, void *ctx)
{
	uint8_t kind = reader->kind;
	int err;

	if (!f->part || f->part != reader->part)
		kind = 0;
	reader->kind = 0;
	reader->part = f->more ? f->part + 1 : 0;
	if (f->part > 1 || (f->part == 1 && !kind))
		return 0; /* tensors, or what belongs to a message that was not seen */
	if (f->part == 1 && kind == KIND_ADD + 1)
		return read_request(f, events, ctx);
	if (f->part == 1)
		return kind == KIND_ABORT + 1 ? read_aborts(f, events, ctx) : 0;
	if (f->whole == 1 && f->size == 1 && f->more && f->bytes[0] <= KIND_LAST) {
		reader->kind = f->bytes[0] + 1;
		return 1;
	}
	err = read_outputs(f, NULL, NULL);
	if (err && err != -ENODATA)
		return err;
	read_outputs(f, events, ctx);
	return 1;
}
