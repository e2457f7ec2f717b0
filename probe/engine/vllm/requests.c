/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/engine/vllm/requests.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define REMEMBERED 4096       /* requests, ended ones included: names come late */
#define TOKENS_MAX (1u << 20) /* kept of one request */
#define UNTOLD 2              /* tokens that are computed before we hear of them: scheduled ahead */
#define ID_SUFFIX 9 /* "-" and 8 characters, by which a request is told from others of its id */

struct vllm_requests {
	uint32_t said;         /* numbers given */
	uint32_t first, count; /* a ring */
	uint32_t open_from;    /* no open one is older */
	struct vllm_asked item[REMEMBERED];
};

int vllm_requests__new(struct vllm_requests **out)
{
	*out = calloc(1, sizeof(**out));
	return *out ? 0 : -ENOMEM;
}

void vllm_requests__free(struct vllm_requests *q)
{
	if (!q)
		return;
	for (uint32_t i = 0; i < REMEMBERED; i++)
		free(q->item[i].token);
	free(q);
}

static struct vllm_asked *at(struct vllm_requests *q, uint32_t i)
{
	return &q->item[(q->first + i) % REMEMBERED];
}

struct vllm_asked *vllm_requests__next(struct vllm_requests *q, uint32_t *from)
{
	while (q->open_from < q->count && !at(q, q->open_from)->open)
		q->open_from++;
	if (*from < q->open_from)
		*from = q->open_from;
	while (*from < q->count) {
		struct vllm_asked *a = at(q, (*from)++);

		if (a->open)
			return a;
	}
	return NULL;
}

/* --- ids ----------------------------------------------------------------------------------------
 */

static uint64_t hash_of(struct vllm_text id)
{
	uint64_t hash = 0xcbf29ce484222325ull; /* FNV-1a */

	for (uint32_t i = 0; i < id.size; i++)
		hash = (hash ^ (uint8_t)id.bytes[i]) * 0x100000001b3ull;
	return hash ? hash : 1;
}

/* Newest first: an id may be used again. */
static struct vllm_asked *by_id(struct vllm_requests *q, struct vllm_text id)
{
	uint64_t hash = hash_of(id);

	for (uint32_t i = q->count; i-- > q->open_from;)
		if (at(q, i)->hash == hash && at(q, i)->open)
			return at(q, i);
	return NULL;
}

static bool begins(struct vllm_text t, const char *with)
{
	return t.size >= strlen(with) && !memcmp(t.bytes, with, strlen(with));
}

/* Without "@n_" before it, which tells several choices of one prompt apart. */
static struct vllm_text without_choice(struct vllm_text id)
{
	uint32_t digits = 0;

	while (digits < id.size && isdigit((unsigned char)id.bytes[digits]))
		digits++;
	if (digits && digits < id.size && id.bytes[digits] == '_')
		return (struct vllm_text){ id.bytes + digits + 1, id.size - digits - 1 };
	return id;
}

/* "cmpl-ID-0" is the first prompt of the completion "cmpl-ID". */
static struct vllm_text without_prompt(struct vllm_text id)
{
	uint32_t size = id.size;

	while (size && isdigit((unsigned char)id.bytes[size - 1]))
		size--;
	if (begins(id, "cmpl-") && size < id.size && size > strlen("cmpl-") &&
	    id.bytes[size - 1] == '-')
		id.size = size - 1;
	return id;
}

/* The id that the client sees. */
static void copy_client_id(struct vllm_asked *a, const struct vllm_request *r)
{
	struct vllm_text id = r->external;
	uint32_t size;

	if (!r->is_whole || !id.bytes) {
		id = r->id;
		id.size -=
			id.size > ID_SUFFIX && id.bytes[id.size - ID_SUFFIX] == '-' ? ID_SUFFIX : 0;
	}
	id = without_prompt(without_choice(id));
	size = id.size < sizeof(a->client_id) ? id.size : sizeof(a->client_id) - 1;
	for (uint32_t i = 0; i < size; i++)
		a->client_id[i] = isprint((unsigned char)id.bytes[i]) ? id.bytes[i] : '?';
	a->client_id[size] = '\0';
}

/* --- tokens -------------------------------------------------------------------------------------
 */

static int reserve(struct vllm_asked *a, uint32_t count)
{
	uint32_t capacity = a->capacity ? a->capacity : 64;
	int32_t *more;

	if (count <= a->capacity)
		return 0;
	while (capacity < count)
		capacity *= 2;
	more = realloc(a->token, capacity * sizeof(*more));
	if (!more)
		return -ENOMEM;
	a->token = more;
	a->capacity = capacity;
	return 0;
}

/* Append what is at hand of @tokens. */
static int append(struct vllm_asked *a, struct vllm_tokens tokens)
{
	uint32_t piece[256];
	size_t got;
	int err;

	while (a->tokens < TOKENS_MAX && (got = vllm_tokens__next(&tokens, piece, 256))) {
		err = reserve(a, a->tokens + (uint32_t)got);
		if (err)
			return err;
		for (size_t i = 0; i < got; i++)
			a->token[a->tokens++] = (int32_t)piece[i];
	}
	return 0;
}

bool vllm_asked__contradicts(const struct vllm_asked *a, uint32_t position, const int64_t *token,
			     uint32_t count)
{
	for (uint32_t i = 0; token && i < count && position + i < a->tokens; i++)
		if (token[i] != a->token[position + i])
			return true;
	return false;
}

uint32_t vllm_requests__number(struct vllm_requests *q)
{
	return ++q->said;
}

/* --- begin and end ------------------------------------------------------------------------------
 */

int vllm_asked__begin(struct vllm_requests *q, struct vllm_asked *a, uint32_t context,
		      uint64_t time_ns, const struct engine_sink *sink)
{
	bool whole = a->prompt != ENGINE_UNKNOWN && a->tokens >= a->prompt;
	struct engine_request out = {
		.context = context,
		.slot = ENGINE_UNKNOWN,
		.task = ENGINE_UNKNOWN,
		.cached = a->cached,
		.prompt = a->prompt,
		.tokens = whole ? a->token : NULL,
		.client_id = a->client_id,
		.before_attach = a->before_attach,
		.inferred = a->inferred,
		.begin_ns = a->before_attach ? UINT64_MAX : a->asked_ns,
		.time_ns = time_ns,
		.sampling = a->has_sampling ? &a->sampling : NULL,
	};

	a->number = ++q->said;
	out.request = out.sequence = a->number;
	return sink->request_begin(sink->ctx, &out);
}

int vllm_asked__end(struct vllm_requests *q, struct vllm_asked *a, uint64_t now_ns, uint32_t ending,
		    uint32_t finish, const struct engine_sink *sink)
{
	bool told = a->hash && a->prompt != ENGINE_UNKNOWN;
	struct engine_request_end end = {
		.ending = ending,
		.tokens = ENGINE_UNKNOWN,
		.prompt_rows = ENGINE_UNKNOWN,
		.generated = told ? a->generated : ENGINE_UNKNOWN,
		.prompt = told ? a->prompt : ENGINE_UNKNOWN,
		.time_ns = now_ns,
		.finish = finish,
		.inferred = a->inferred,
	};
	int err = 0;

	if (!a->open)
		return 0;
	if (!a->number)
		err = vllm_asked__begin(q, a, ENGINE_UNKNOWN, now_ns, sink);
	a->open = false;
	free(a->token);
	a->token = NULL;
	a->tokens = a->capacity = 0;
	end.request = a->number;
	/* The last generated token is never computed. */
	if (told && ending == ENGINE_ENDING_RELEASED && a->generated)
		end.tokens = a->prompt + a->generated - 1;
	return err ? err : sink->request_end(sink->ctx, &end);
}

/* A new entry; the oldest makes room. */
static int create(struct vllm_requests *q, struct vllm_asked **out, uint64_t time_ns,
		  const struct engine_sink *sink)
{
	int err = 0;

	if (q->count == REMEMBERED) {
		err = vllm_asked__end(q, at(q, 0), time_ns, ENGINE_ENDING_UNKNOWN, 0, sink);
		q->first = (q->first + 1) % REMEMBERED;
		q->count--;
		q->open_from -= q->open_from ? 1 : 0;
	}
	*out = at(q, q->count++);
	free((*out)->token);
	**out = (struct vllm_asked){
		.prompt = ENGINE_UNKNOWN,
		.cached = ENGINE_UNKNOWN,
		.cached_told = ENGINE_UNKNOWN,
		.asked_ns = time_ns,
		.last_ns = time_ns,
		.open = true,
	};
	return err;
}

struct vllm_asked *vllm_requests__nameless(struct vllm_requests *q, uint64_t time_ns, int *err,
					   const struct engine_sink *sink)
{
	struct vllm_asked *a;

	*err = create(q, &a, time_ns, sink);
	return *err ? NULL : a;
}

/* --- messages -----------------------------------------------------------------------------------
 */

int vllm_requests__asked(struct vllm_requests *q, uint64_t time_ns, const struct vllm_request *r,
			 const struct engine_sink *sink)
{
	struct vllm_asked *a;
	int err = create(q, &a, time_ns, sink);

	if (err)
		return err;
	a->hash = hash_of(r->id);
	copy_client_id(a, r);
	a->has_sampling = r->has_sampling;
	a->sampling = r->sampling;
	if (r->prompt.is_nil)
		return 0;
	a->prompt = a->prefill = r->prompt.count;
	return append(a, r->prompt);
}

void vllm_requests__abort(struct vllm_requests *q, uint64_t time_ns, struct vllm_text id)
{
	struct vllm_asked *a = by_id(q, id);

	if (a)
		a->aborted_ns = time_ns;
}

static uint32_t finish_of(enum vllm_finish finish)
{
	switch (finish) {
	case VLLM_STOP:
	case VLLM_REPETITION:
		return ENGINE_FINISH_STOP;
	case VLLM_LENGTH:
		return ENGINE_FINISH_LENGTH;
	case VLLM_ABORT:
		return ENGINE_FINISH_CANCELLED;
	case VLLM_ERROR:
		return ENGINE_FINISH_ERROR;
	default:
		return 0;
	}
}

int vllm_requests__output(struct vllm_requests *q, uint64_t time_ns, const struct vllm_output *o,
			  const struct engine_sink *sink)
{
	struct vllm_asked *a = by_id(q, o->id);
	int err = 0;

	if (!a)
		return 0;
	if (a->prompt != ENGINE_UNKNOWN && a->tokens == a->prompt + a->generated)
		err = append(a, o->tokens);
	a->generated += o->tokens.count;
	if (o->has_prefill)
		a->cached_told = o->cached_tokens;
	a->last_ns = time_ns;
	if (!err && o->is_whole && o->finish != VLLM_RUNNING)
		err = vllm_asked__end(q, a, time_ns, ENGINE_ENDING_RELEASED, finish_of(o->finish),
				      sink);
	return err;
}

int vllm_requests__response(struct vllm_requests *q, const struct http_response *r,
			    const char *labels, const struct engine_sink *sink)
{
	struct engine_request_info info = {
		.origin = ENGINE_ORIGIN_HTTP_RESPONSE,
		.request_id = r->request_id,
		.trace_id = r->trace_id,
		.labels = labels,
		.time_ns = r->last_ns,
	};
	uint32_t alike = 0;
	int err = 0;

	if (!(r->answer.known & ANSWER_ID) || !sink->request_info ||
	    (!*r->request_id && !*r->trace_id && !*labels))
		return 0;
	/* Choices of one request share an id; so do requests whose clients chose the same. */
	for (uint32_t i = 0; i < q->count; i++)
		alike += at(q, i)->number && !at(q, i)->answered &&
			 !strcmp(at(q, i)->client_id, r->answer.id);
	for (uint32_t i = 0; i < q->count && !err; i++) {
		struct vllm_asked *a = at(q, i);

		if (!a->number || a->answered || strcmp(a->client_id, r->answer.id))
			continue;
		a->answered = true;
		info.request = a->number;
		info.inferred = a->inferred || alike > 1;
		err = sink->request_info(sink->ctx, &info);
	}
	return err;
}

int vllm_requests__expire(struct vllm_requests *q, uint64_t aborted_before_ns,
			  uint64_t idle_before_ns, uint64_t now_ns, uint32_t ending,
			  const struct engine_sink *sink)
{
	uint32_t from = 0;
	int err = 0;

	for (struct vllm_asked *a; (a = vllm_requests__next(q, &from));) {
		uint64_t since = a->aborted_ns > a->last_ns ? a->aborted_ns : a->last_ns;
		bool aborted = a->aborted_ns && since < aborted_before_ns;
		int err_one = 0;

		if (aborted)
			err_one = vllm_asked__end(q, a, now_ns, ENGINE_ENDING_RELEASED,
						  ENGINE_FINISH_CANCELLED, sink);
		else if (idle_before_ns == UINT64_MAX || (!a->hash && since < idle_before_ns))
			err_one = vllm_asked__end(q, a, now_ns, ending, 0, sink);
		err = err ? err : err_one;
	}
	return err;
}
