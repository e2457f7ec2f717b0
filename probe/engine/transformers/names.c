/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/engine/transformers/names.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "probe/engine/transformers/candidates.h"
#include "probe/engine/wire/asked.h"
#include "probe/engine/wire/http.h"

#define CHANNELS_MAX 256   /* connections at a time */
#define RESPONSES_MAX 1024 /* without a sequence so far */
#define SECOND_NS 1000000000ull
#define PATIENCE_NS (5 * SECOND_NS) /* a response that fits nothing is forgotten after */
/* A cancelled stream just stops, and so does its sequence: at about the same time, */
#define TOGETHER_NS (SECOND_NS / 5)
/* with so many rows more than events, which are on their way or without a text of their own, */
#define AHEAD_MAX 3
/* and for so long that it is no pause. */
#define SILENCE_NS (3 * SECOND_NS)
#define AGAIN_NS (SECOND_NS / 10) /* and is looked for so often */

struct channel {
	uint64_t number; /* descriptor or object */
	uint32_t tgid;
	uint64_t used;
	struct http_stream http;
	struct wire_asked asked;
	char labels[ASKED_LABELS_BYTES]; /* that the request of the response at hand says */
};

/* A response that is to be matched. */
struct response {
	uint32_t tgid;
	uint64_t channel;   /* to find it again while it is open */
	bool ended;         /* its server said so, and counted its tokens */
	bool stopped;       /* its connection is another's now, or gone: it was cancelled */
	uint32_t request;   /* that was named by it early; 0: none */
	uint64_t second_ns; /* of its second event: a first one may come before anything is computed
			     */
	uint64_t tried_steps; /* ended: steps, and 1, when nothing fitted it; 0: not tried */
	uint64_t tried_ns;    /* not ended: when it was last looked for among those that stopped */
	struct http_response http;
	char *labels; /* from its request's headers; NULL: none */
};

/* The sequence of a process that computes alone. */
struct lone {
	uint32_t tgid; /* 0: it was not looked for */
	uint32_t live; /* how many compute */
	struct candidate last;
};

struct transformers_names {
	struct transformers_sequences *sequences;
	struct candidates *candidates;
	struct header_names headers;
	struct lone lone; /* until something is said */
	uint64_t calls;
	struct channel *at; /* whose callback runs */
	size_t channels;
	struct channel channel[CHANNELS_MAX];
	size_t responses; /* oldest first */
	struct response response[RESPONSES_MAX];
	uint8_t *piece; /* scratch: a piece of several chunks */
	size_t piece_capacity;
};

int transformers_names__new(struct transformers_names **out,
			    struct transformers_sequences *sequences)
{
	*out = calloc(1, sizeof(**out));
	if (!*out)
		return -ENOMEM;
	(*out)->sequences = sequences;
	if (!candidates__new(&(*out)->candidates, sequences))
		return 0;
	free(*out);
	*out = NULL;
	return -ENOMEM;
}

void transformers_names__free(struct transformers_names *n)
{
	if (!n)
		return;
	for (size_t i = 0; i < n->responses; i++)
		free(n->response[i].labels);
	candidates__free(n->candidates);
	free(n->piece);
	free(n);
}

void transformers_names__headers(struct transformers_names *n, const struct header_names *names)
{
	n->headers = *names;
}

/* --- responses ---------------------------------------------------------------------------------
 */

static void forget(struct transformers_names *n, size_t at)
{
	free(n->response[at].labels);
	n->responses--;
	memmove(&n->response[at], &n->response[at + 1], (n->responses - at) * sizeof(*n->response));
}

/* The open response of the channel at hand, made if need be. */
static struct response *open_response(struct transformers_names *n)
{
	struct response *r;

	for (size_t i = 0; i < n->responses; i++) {
		r = &n->response[i];
		if (!r->ended && !r->stopped && r->channel == n->at->number &&
		    r->tgid == n->at->tgid)
			return r;
	}
	if (n->responses == RESPONSES_MAX)
		forget(n, 0);
	r = &n->response[n->responses++];
	*r = (struct response){ .tgid = n->at->tgid, .channel = n->at->number };
	if (*n->at->labels)
		r->labels = strdup(n->at->labels); /* NULL: they stay unknown */
	return r;
}

/* Tokens were generated for it: a stream of events, or an answer that counts them. */
static bool is_answer(const struct http_response *h)
{
	return h->body == HTTP_BODY_EVENTS || h->answer.known & ANSWER_COMPLETION;
}

static void on_head(void *ctx, const struct http_response *h)
{
	struct transformers_names *n = ctx;

	wire_asked__answer(&n->at->asked, &n->headers, n->at->labels);
}

static void on_body(void *ctx, const struct http_response *h)
{
	struct transformers_names *n = ctx;

	if (h->body == HTTP_BODY_EVENTS)
		open_response(n)->http = *h;
}

/* What is known of the open stream grows with its events. */
static void note_progress(struct transformers_names *n)
{
	const struct http_stream *h = &n->at->http;
	struct response *r;

	if (!h->is_active || h->response.body != HTTP_BODY_EVENTS)
		return;
	r = open_response(n);
	r->http = h->response;
	if (r->http.events > 1 && !r->second_ns)
		r->second_ns = r->http.last_ns;
}

static void on_end(void *ctx, const struct http_response *h)
{
	struct transformers_names *n = ctx;
	struct response *r;

	if (is_answer(h)) {
		r = open_response(n);
		r->http = *h;
		r->ended = h->answer.known & ANSWER_COMPLETION;
		r->stopped = !r->ended;
		r->tried_ns = 0;
	}
	n->at->labels[0] = '\0';
}

static const struct http_events events = { .head = on_head, .body = on_body, .end = on_end };

/* --- pieces ------------------------------------------------------------------------------------
 */

static struct channel *channel_of(struct transformers_names *n, uint32_t tgid, uint64_t number)
{
	struct channel *c = NULL;

	for (size_t i = 0; i < n->channels; i++) {
		c = &n->channel[i];
		if (c->number == number && c->tgid == tgid)
			return c;
	}
	if (n->channels < CHANNELS_MAX) {
		c = &n->channel[n->channels++];
	} else {
		c = &n->channel[0];
		for (size_t i = 1; i < CHANNELS_MAX; i++)
			if (n->channel[i].used < c->used)
				c = &n->channel[i];
	}
	memset(c, 0, sizeof(*c));
	c->number = number;
	c->tgid = tgid;
	return c;
}

/* The bytes of @c in one place: in the capture where there is one chunk, else copied. */
static int gather(struct transformers_names *n, const struct capture *c, const uint8_t **out)
{
	const struct mp_event *first = c->chunk[0];
	uint8_t *more;

	*out = (const uint8_t *)first + sizeof(struct mp_event_bytes);
	for (size_t i = 0; i < c->chunks; i++)
		if (c->chunk[i]->size < sizeof(struct mp_event_bytes) + c->chunk[i]->count)
			return -EBADMSG;
	if (c->chunks == 1)
		return 0;
	if (first->total > n->piece_capacity) {
		more = realloc(n->piece, first->total);
		if (!more)
			return -ENOMEM;
		n->piece = more;
		n->piece_capacity = first->total;
	}
	for (size_t i = 0; i < c->chunks; i++)
		memcpy(n->piece + c->chunk[i]->first,
		       (const uint8_t *)c->chunk[i] + sizeof(struct mp_event_bytes),
		       c->chunk[i]->count);
	*out = n->piece;
	return 0;
}

static struct channel *use_channel(struct transformers_names *n, const struct mp_event_bytes *head)
{
	n->at = channel_of(n, head->event.tgid, head->channel);
	n->at->used = ++n->calls;
	return n->at;
}

static int take_head(struct transformers_names *n, const struct mp_event_bytes *head,
		     const uint8_t *bytes)
{
	struct asked_part part;
	struct channel *c;

	if (!asked_part__read(&part, head, bytes))
		return -EBADMSG;
	c = use_channel(n, head);
	wire_asked__part(&c->asked, &n->headers, &part, c->http.is_active);
	return 0;
}

static int take_sent(struct transformers_names *n, const struct mp_event_bytes *head,
		     const struct wire_piece *piece)
{
	struct channel *c = use_channel(n, head);

	if (head->flags & MP_BYTES_LOST) {
		http_stream__lost(&c->http);
		wire_asked__lost(&c->asked);
	}
	http_stream__piece(&c->http, piece, &events, n);
	note_progress(n);
	return 0;
}

int transformers_names__bytes(struct transformers_names *n, const struct capture *c)
{
	struct mp_event_bytes head;
	struct wire_piece piece;
	const uint8_t *bytes;
	int err;

	if (c->chunk[0]->size < sizeof(head))
		return -EBADMSG;
	memcpy(&head, c->chunk[0], sizeof(head));
	err = gather(n, c, &bytes);
	if (err)
		return err;
	if (head.flags & MP_BYTES_RECEIVED)
		return take_head(n, &head, bytes);
	piece = (struct wire_piece){
		.time_ns = head.event.time_ns,
		.total = head.length,
		.address = head.event.object,
		.head = bytes,
		.head_size = head.event.total,
	};
	if (head.flags & MP_BYTES_GAP) {
		if (head.event.total != 2 * MP_BYTES_END)
			return -EBADMSG;
		piece.head_size = piece.tail_size = MP_BYTES_END;
		piece.tail = bytes + MP_BYTES_END;
	}
	return wire_piece__valid(&piece) ? take_sent(n, &head, &piece) : -EBADMSG;
}

/* --- matching ----------------------------------------------------------------------------------
 */

static uint32_t finish_of(const char *reason)
{
	static const struct {
		const char *reason;
		uint32_t finish;
	} reasons[] = {
		{ "stop", ENGINE_FINISH_STOP },         { "length", ENGINE_FINISH_LENGTH },
		{ "tool_calls", ENGINE_FINISH_TOOL },   { "end_turn", ENGINE_FINISH_STOP },
		{ "max_tokens", ENGINE_FINISH_LENGTH }, { "completed", ENGINE_FINISH_STOP },
	};

	for (size_t i = 0; i < sizeof(reasons) / sizeof(*reasons); i++)
		if (!strcmp(reasons[i].reason, reason))
			return reasons[i].finish;
	return 0;
}

static uint32_t count_of(const struct http_response *h, uint16_t fact, uint64_t value)
{
	return h->answer.known & fact && value < ENGINE_UNKNOWN ? (uint32_t)value : ENGINE_UNKNOWN;
}

static int say_name(struct transformers_names *n, const struct response *r, uint32_t request,
		    bool inferred, uint32_t origin, uint64_t now_ns, const struct engine_sink *sink)
{
	const struct http_response *h = &r->http;
	struct engine_request_info info = {
		.request = request,
		.origin = origin,
		.inferred = inferred,
		.client_id = h->answer.id,
		.request_id = h->request_id,
		.trace_id = h->trace_id,
		/* Not by an early guess: a label that is said of another request stays there. */
		.labels = origin == ENGINE_ORIGIN_ORDER ? NULL : r->labels,
		.time_ns = now_ns,
	};

	transformers_sequences__named(n->sequences, request);
	candidates__name(n->candidates, request, inferred ? NAMING_GUESSED : NAMING_CERTAIN);
	n->lone.tgid = 0;
	return sink->request_info(sink->ctx, &info);
}

static int say_end(struct transformers_names *n, const struct response *r, uint32_t request,
		   bool inferred, const struct engine_sink *sink)
{
	const struct http_response *h = &r->http;
	struct engine_request_end end = {
		.request = request,
		.ending = ENGINE_ENDING_RELEASED,
		.tokens = ENGINE_UNKNOWN,
		.prompt_rows = ENGINE_UNKNOWN,
		.generated = count_of(h, ANSWER_COMPLETION, h->answer.completion_tokens),
		.prompt = count_of(h, ANSWER_PROMPT, h->answer.prompt_tokens),
		.finish = finish_of(h->answer.finish_reason),
		.inferred = inferred,
		.time_ns = h->last_ns,
	};

	n->lone.tgid = 0;
	return transformers_sequences__finished(n->sequences, &end, sink);
}

/* As many rows as the response counts tokens: the last token of a text has no row. */
static bool counts_fit(const struct sequence_facts *s, const struct http_response *h)
{
	uint32_t prompt = count_of(h, ANSWER_PROMPT, h->answer.prompt_tokens);
	uint32_t text = count_of(h, ANSWER_COMPLETION, h->answer.completion_tokens);

	/* Of what began before us only an end was seen. */
	if (s->before_attach)
		return s->generated < text;
	if (prompt != ENGINE_UNKNOWN && s->prompt != ENGINE_UNKNOWN && s->prompt != prompt)
		return false;
	if (text == ENGINE_UNKNOWN)
		return true;
	return s->generated + 1 == text || (!text && !s->generated);
}

static bool times_fit(const struct sequence_facts *s, const struct http_response *h)
{
	return s->begin_ns < h->last_ns && s->last_ns < h->last_ns &&
	       (!h->head_ns || s->last_ns > h->head_ns || h->body != HTTP_BODY_EVENTS);
}

/*
 * The sequence that a finished response is taken to be of: that of its early name, or the first
 * without a name; 0: there is none. Certain is what nothing else fits, and a name that was guessed
 * excludes nothing: whoever has it may be the response's.
 */
static uint32_t find_finished(struct transformers_names *n, const struct response *r,
			      bool *inferred)
{
	struct candidate c;
	uint32_t found = 0, count = 0;
	bool guessed_rows = false;

	for (uint32_t i = 0; candidates__at(n->candidates, i, &c); i++) {
		const struct sequence_facts *s = &c.facts;
		bool own = s->request == r->request;

		if (s->tgid != r->tgid || (c.naming == NAMING_CERTAIN && !own) ||
		    !times_fit(s, &r->http) || !counts_fit(s, &r->http))
			continue;
		count++;
		if (s->before_attach || (!own && (found || c.naming != NAMING_NAMELESS)))
			continue;
		found = s->request;
		guessed_rows = s->inferred;
	}
	*inferred = count > 1 || guessed_rows;
	return found;
}

/* As many tokens as the stream has events, or a few more. A chat's first event is of no token. */
static bool events_fit(const struct sequence_facts *s, const struct response *r)
{
	int64_t tokens = (int64_t)r->http.events;
	int64_t ahead = (int64_t)s->generated + 1;

	ahead -= tokens - !strcmp(r->http.answer.object, "chat.completion.chunk");
	return s->begin_ns < r->second_ns && ahead >= 0 && ahead <= AHEAD_MAX;
}

static void find_lone(struct transformers_names *n, uint32_t tgid)
{
	struct candidate c;

	n->lone = (struct lone){ .tgid = tgid };
	for (uint32_t i = 0; candidates__at(n->candidates, i, &c); i++) {
		if (c.facts.tgid != tgid || c.facts.ended)
			continue;
		n->lone.live++;
		n->lone.last = c;
	}
}

/* The only sequence that computes, if it has no name and may be the stream's; 0: there is none. */
static uint32_t find_streaming(struct transformers_names *n, const struct response *r)
{
	const struct candidate *c = &n->lone.last;

	if (n->lone.tgid != r->tgid)
		find_lone(n, r->tgid);
	return n->lone.live == 1 && c->naming == NAMING_NAMELESS && !c->facts.before_attach &&
			       events_fit(&c->facts, r)
		       ? c->facts.request
		       : 0;
}

/* 1: it is done with, 0: not yet; or the sink's error. */
static int match_finished(struct transformers_names *n, struct response *r, uint64_t now_ns,
			  const struct engine_sink *sink)
{
	uint64_t steps = transformers_sequences__steps(n->sequences) + 1;
	uint32_t request = 0;
	bool inferred;
	int err;

	if (r->tried_steps != steps)
		request = find_finished(n, r, &inferred);
	r->tried_steps = steps;
	if (!request)
		return now_ns > r->http.last_ns + PATIENCE_NS;
	inferred |= (r->http.flags & (HTTP_HAS_GAP | HTTP_HAD_LOSS)) != 0;
	if (r->request && r->request != request)
		candidates__name(n->candidates, r->request, NAMING_NAMELESS);
	err = say_name(n, r, request, inferred, ENGINE_ORIGIN_HTTP_RESPONSE, now_ns, sink);
	if (!err)
		err = say_end(n, r, request, inferred, sink);
	return err ? err : 1;
}

/* The nameless sequence that stopped as the stream did, without another word: it was cancelled. */
static uint32_t find_cancelled(struct transformers_names *n, const struct response *r,
			       uint64_t now_ns)
{
	struct candidate c;
	uint64_t nearest = TOGETHER_NS;
	uint32_t found = 0;

	for (uint32_t i = 0; candidates__at(n->candidates, i, &c); i++) {
		const struct sequence_facts *s = &c.facts;
		uint64_t apart = s->last_ns > r->http.last_ns ? s->last_ns - r->http.last_ns
							      : r->http.last_ns - s->last_ns;

		if (s->tgid != r->tgid || s->before_attach || apart >= nearest ||
		    (!s->ended && s->last_ns + SILENCE_NS > now_ns) ||
		    (r->request ? s->request != r->request
				: c.naming != NAMING_NAMELESS || !events_fit(s, r)))
			continue;
		nearest = apart;
		found = s->request;
	}
	return found;
}

/* As match_finished(), for a stream that goes on, or just stopped. */
static int match_open(struct transformers_names *n, struct response *r, uint64_t now_ns,
		      const struct engine_sink *sink)
{
	uint32_t request;
	int err = 0;

	if (!r->second_ns)
		return now_ns > r->http.last_ns + PATIENCE_NS;
	request = r->request ? r->request : find_streaming(n, r);
	if (request && !r->request) {
		r->request = request;
		err = say_name(n, r, request, true, ENGINE_ORIGIN_ORDER, now_ns, sink);
	}
	if (err || (!r->stopped && now_ns < r->http.last_ns + SILENCE_NS))
		return err;
	request = 0;
	if (now_ns >= r->tried_ns + AGAIN_NS) {
		request = find_cancelled(n, r, now_ns);
		r->tried_ns = now_ns;
	}
	if (request && (!r->request || r->labels))
		err = say_name(n, r, request, true, ENGINE_ORIGIN_HTTP_RESPONSE, now_ns, sink);
	return err ? err : request || now_ns > r->http.last_ns + PATIENCE_NS;
}

int transformers_names__match(struct transformers_names *n, uint64_t now_ns,
			      const struct engine_sink *sink)
{
	int err = 0;

	if (!n->responses)
		return 0;
	candidates__refresh(n->candidates, now_ns);
	n->lone.tgid = 0;
	for (size_t i = 0; i < n->responses && err >= 0; i++) {
		struct response *r = &n->response[i];

		err = r->ended ? match_finished(n, r, now_ns, sink)
			       : match_open(n, r, now_ns, sink);
		if (err == 1)
			forget(n, i--);
	}
	return err < 0 ? err : 0;
}

void transformers_names__leave(struct transformers_names *n, uint32_t tgid)
{
	for (size_t i = 0; i < n->channels; i++)
		if (n->channel[i].tgid == tgid)
			n->channel[i--] = n->channel[--n->channels];
	for (size_t i = 0; i < n->responses; i++)
		if (n->response[i].tgid == tgid)
			forget(n, i--);
}
