/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/engine/vllm/channels.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "probe/abi/event.h"
#include "probe/base/buffer.h"
#include "probe/engine/vllm/requests.h"
#include "probe/engine/wire/asked.h"
#include "probe/engine/wire/http.h"
#include "probe/engine/wire/vllm_message.h"
#include "probe/engine/wire/zmtp.h"

#define CHANNELS_MAX 512

struct channel {
	uint32_t tgid;
	uint64_t number; /* descriptor */
	uint64_t used;
	struct zmtp_stream messages;
	struct vllm_reader reader;
	struct http_stream responses;
	struct wire_asked asked;
	char labels[ASKED_LABELS_BYTES]; /* that the request of the response at hand says */
};

struct vllm_channels {
	struct vllm_requests *requests;
	struct header_names headers;
	uint64_t calls;
	struct buffer piece;
	/* While a piece is read. */
	const struct engine_sink *sink;
	struct channel *channel;
	int err;
	uint32_t count;
	struct channel item[CHANNELS_MAX];
};

int vllm_channels__new(struct vllm_channels **out, struct vllm_requests *requests)
{
	*out = calloc(1, sizeof(**out));
	if (!*out)
		return -ENOMEM;
	(*out)->requests = requests;
	return 0;
}

void vllm_channels__free(struct vllm_channels *s)
{
	if (!s)
		return;
	for (uint32_t i = 0; i < s->count; i++)
		zmtp__close(&s->item[i].messages);
	buffer__free(&s->piece);
	free(s);
}

void vllm_channels__headers(struct vllm_channels *s, const struct header_names *names)
{
	s->headers = *names;
}

/* --- what is told
 * --------------------------------------------------------------------------------- */

static void keep(struct vllm_channels *s, int err)
{
	s->err = s->err ? s->err : err;
}

static void on_request(void *ctx, uint64_t time_ns, const struct vllm_request *r)
{
	struct vllm_channels *s = ctx;

	keep(s, vllm_requests__asked(s->requests, time_ns, r, s->sink));
}

static void on_abort(void *ctx, uint64_t time_ns, struct vllm_text id)
{
	struct vllm_channels *s = ctx;

	vllm_requests__abort(s->requests, time_ns, id);
}

static void on_output(void *ctx, uint64_t time_ns, const struct vllm_output *o)
{
	struct vllm_channels *s = ctx;

	keep(s, vllm_requests__output(s->requests, time_ns, o, s->sink));
}

static const struct vllm_events vllm_events = { .request = on_request,
						.abort = on_abort,
						.output = on_output };

static void on_frame(void *ctx, const struct zmtp_frame *f)
{
	struct vllm_channels *s = ctx;

	vllm_message__frame(&s->channel->reader, f, &vllm_events, s);
}

static const struct zmtp_events zmtp_events = { .frame = on_frame,
						.plausible = vllm_message__plausible };

static void on_head(void *ctx, const struct http_response *r)
{
	struct vllm_channels *s = ctx;

	wire_asked__answer(&s->channel->asked, &s->headers, s->channel->labels);
}

static void on_response(void *ctx, const struct http_response *r)
{
	struct vllm_channels *s = ctx;

	keep(s, vllm_requests__response(s->requests, r, s->channel->labels, s->sink));
	s->channel->labels[0] = '\0';
}

static const struct http_events http_events = { .head = on_head, .end = on_response };

/* --- channels
 * ------------------------------------------------------------------------------------- */

static void channel__close(struct vllm_channels *s, struct channel *c, uint64_t now_ns)
{
	s->channel = c;
	http_stream__close(&c->responses, now_ns, &http_events, s);
	zmtp__close(&c->messages);
}

/* The channel, made if need be: the least recently used one makes room. */
static struct channel *find(struct vllm_channels *s, uint32_t tgid, uint64_t number,
			    uint64_t now_ns)
{
	struct channel *oldest = &s->item[0];

	for (uint32_t i = 0; i < s->count; i++) {
		struct channel *c = &s->item[i];

		if (c->tgid == tgid && c->number == number)
			return c;
		oldest = c->used < oldest->used ? c : oldest;
	}
	if (s->count < CHANNELS_MAX)
		oldest = &s->item[s->count++];
	else
		channel__close(s, oldest, now_ns);
	memset(oldest, 0, sizeof(*oldest));
	oldest->tgid = tgid;
	oldest->number = number;
	return oldest;
}

/* The bytes of all chunks in one block. */
static int gather(struct vllm_channels *s, const struct capture *c)
{
	size_t head = sizeof(struct mp_event_bytes);
	int err = 0;

	s->piece.size = 0;
	for (size_t i = 0; i < c->chunks && !err; i++) {
		const struct mp_event *ev = c->chunk[i];

		if (ev->size < head || ev->size - head < ev->count)
			return -EBADMSG;
		err = buffer__append(&s->piece, (const uint8_t *)ev + head, ev->count);
	}
	return err;
}

static int describe(const struct vllm_channels *s, const struct mp_event_bytes *head,
		    struct wire_piece *out)
{
	size_t size = s->piece.size, end = head->flags & MP_BYTES_GAP ? MP_BYTES_END : 0;

	if (size < 2 * end || size > head->length || (!end && size != head->length))
		return -EBADMSG;
	*out = (struct wire_piece){
		.time_ns = head->event.time_ns,
		.total = head->length,
		.address = head->event.object,
		.head = s->piece.data,
		.head_size = size - end,
		.tail = end ? (const uint8_t *)s->piece.data + size - end : NULL,
		.tail_size = end,
	};
	return 0;
}

static struct channel *use(struct vllm_channels *s, const struct mp_event_bytes *head,
			   const struct engine_sink *sink)
{
	s->sink = sink;
	s->err = 0;
	s->channel = find(s, head->event.tgid, head->channel, head->event.time_ns);
	s->channel->used = ++s->calls;
	return s->channel;
}

static int take_head(struct vllm_channels *s, const struct mp_event_bytes *head,
		     const struct engine_sink *sink)
{
	struct asked_part part;
	struct channel *c;

	if (!asked_part__read(&part, head, s->piece.data))
		return -EBADMSG;
	c = use(s, head, sink);
	wire_asked__part(&c->asked, &s->headers, &part, c->responses.is_active);
	return s->err;
}

int vllm_channels__piece(struct vllm_channels *s, const struct capture *c,
			 const struct engine_sink *sink)
{
	struct mp_event_bytes head;
	struct wire_piece piece;
	struct channel *channel;
	int err = gather(s, c);

	if (err)
		return err;
	memcpy(&head, c->chunk[0], sizeof(head));
	if (head.flags & MP_BYTES_RECEIVED)
		return take_head(s, &head, sink);
	err = describe(s, &head, &piece);
	if (err)
		return err;
	channel = use(s, &head, sink);
	if (head.flags & MP_BYTES_LOST) {
		zmtp__lost(&channel->messages);
		http_stream__lost(&channel->responses);
		wire_asked__lost(&channel->asked);
	}
	if (http_stream__verdict(&channel->responses) != HTTP_YES)
		keep(s, zmtp__piece(&channel->messages, &piece, &zmtp_events, s));
	if (zmtp__verdict(&channel->messages) != ZMTP_YES)
		http_stream__piece(&channel->responses, &piece, &http_events, s);
	return s->err;
}

int vllm_channels__leave(struct vllm_channels *s, uint32_t tgid, uint64_t now_ns,
			 const struct engine_sink *sink)
{
	s->sink = sink;
	s->err = 0;
	for (uint32_t i = 0; i < s->count;) {
		if (s->item[i].tgid != tgid) {
			i++;
			continue;
		}
		channel__close(s, &s->item[i], now_ns);
		s->item[i] = s->item[--s->count];
	}
	return s->err;
}
