/* SPDX-License-Identifier: BSD-2-Clause */
/* What vLLM's processes send, as events: requests, how they sample, responses; what was lost. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "probe/abi/event.h"
#include "probe/engine/sink.h"
#include "probe/engine/vllm/channels.h"
#include "probe/engine/vllm/requests.h"

#define SERVER 100u
#define MESSAGES 7u /* descriptors */
#define CLIENT 9u

/* --- MessagePack by hand -------------------------------------------------------------------------
 */

struct bytes {
	uint8_t byte[1024];
	size_t size;
};

static void put(struct bytes *b, const void *bytes, size_t size)
{
	assert_true(b->size + size <= sizeof(b->byte));
	memcpy(b->byte + b->size, bytes, size);
	b->size += size;
}

static void put_byte(struct bytes *b, uint8_t byte)
{
	put(b, &byte, 1);
}

static void put_text(struct bytes *b, const char *text)
{
	size_t size = strlen(text);

	put_byte(b, 0xd9);
	put_byte(b, (uint8_t)size);
	put(b, text, size);
}

static void put_float(struct bytes *b, double value)
{
	uint64_t bits;

	memcpy(&bits, &value, 8);
	put_byte(b, 0xcb);
	for (int i = 56; i >= 0; i -= 8)
		put_byte(b, (uint8_t)(bits >> i));
}

/* EngineCoreRequest @id of a prompt of three tokens, with @sampling, a value. */
static struct bytes request(const char *id, const struct bytes *sampling)
{
	struct bytes b = { .size = 0 };

	put_byte(&b, 0x99);
	put_text(&b, id);
	put(&b, "\x93\x01\x02\x03\xc0", 5);
	put(&b, sampling->byte, sampling->size);
	put_byte(&b, 0xc0);
	put_float(&b, 1);
	put(&b, "\xc0\xc0\xc0", 3);
	return b;
}

/* EngineCoreOutputs: request @id ended, with a token. */
static struct bytes output(const char *id)
{
	struct bytes b = { .size = 0 };

	put(&b, "\x94\x00\x91\x96", 4);
	put_text(&b, id);
	put(&b, "\x91\x04\xc0\xc0\xc0\x01\xc0", 7);
	put_float(&b, 1);
	return b;
}

static void put_frame(struct bytes *b, uint8_t flags, const void *bytes, size_t size)
{
	put_byte(b, flags);
	put_byte(b, (uint8_t)size);
	put(b, bytes, size);
}

/* A message of the API server that adds a request. */
static struct bytes add(const char *id, const struct bytes *sampling)
{
	struct bytes b = { .size = 0 }, r = request(id, sampling);

	put_frame(&b, 1, "", 1);
	put_frame(&b, 0, r.byte, r.size);
	return b;
}

/* --- the stage -----------------------------------------------------------------------------------
 */

struct play {
	struct vllm_requests *requests;
	struct vllm_channels *channels;
	struct engine_sink sink;
	uint64_t now_ns;
	size_t begins, infos;
	char client_id[8][64], request_id[64];
	bool has_sampling;
	struct engine_sampling sampling;
};

static int on_begin(void *ctx, const struct engine_request *r)
{
	struct play *p = ctx;

	assert_true(p->begins < 8);
	strcpy(p->client_id[p->begins++], r->client_id);
	p->has_sampling = r->sampling != NULL;
	if (r->sampling)
		p->sampling = *r->sampling;
	return 0;
}

static int on_end(void *ctx, const struct engine_request_end *r)
{
	return 0;
}

static int on_info(void *ctx, const struct engine_request_info *i)
{
	struct play *p = ctx;

	p->infos++;
	strcpy(p->request_id, i->request_id);
	return 0;
}

static void play__begin(struct play *p)
{
	memset(p, 0, sizeof(*p));
	assert_int_equal(vllm_requests__new(&p->requests), 0);
	assert_int_equal(vllm_channels__new(&p->channels, p->requests), 0);
	p->sink = (struct engine_sink){
		.request_begin = on_begin, .request_end = on_end, .request_info = on_info, .ctx = p
	};
}

static void play__end(struct play *p)
{
	vllm_channels__free(p->channels);
	vllm_requests__free(p->requests);
}

/* One call that sends @size bytes, which lie where no others did. */
static void send_flagged(struct play *p, uint64_t channel, const void *bytes, size_t size,
			 uint32_t flags)
{
	struct mp_event_bytes *e = calloc(1, sizeof(*e) + size);
	const struct mp_event *chunk = &e->event;
	struct capture c = { 1, &chunk };

	e->event = (struct mp_event){ .kind = MP_EVENT_BYTES,
				      .tgid = SERVER,
				      .size = (uint32_t)(sizeof(*e) + size),
				      .time_ns = ++p->now_ns,
				      .object = p->now_ns << 20,
				      .chunks = 1,
				      .total = (uint32_t)size,
				      .count = (uint32_t)size };
	e->length = size;
	e->channel = channel;
	e->flags = flags;
	memcpy(e + 1, bytes, size);
	assert_int_equal(vllm_channels__piece(p->channels, &c, &p->sink), 0);
	free(e);
}

static void send_bytes(struct play *p, const struct bytes *b)
{
	send_flagged(p, MESSAGES, b->byte, b->size, 0);
}

/* End request @id, whereby it is said. */
static void end(struct play *p, const char *id)
{
	struct bytes o = output(id), b = { .size = 0 };

	put_frame(&b, 0, o.byte, o.size);
	send_bytes(p, &b);
}

/* --- how requests sample ------------------------------------------------------------------------
 */

static bool same(float a, float b)
{
	return (isnan(a) && isnan(b)) || a == b;
}

static void sampling(void **state)
{
	static const struct {
		const char *map;
		size_t size;
		struct engine_sampling wanted;
	} cases[] = {
#define CASE(map, ...) \
	{ \
		map, sizeof(map) - 1, \
		{ \
			__VA_ARGS__ \
		} \
	}
		CASE("\x80", 1, 1, 0, 16), /* all as by default */
		CASE("\x84\xabtemperature\x00\xa5top_k\x05\xa5top_p\xcb\x3f\xe0\0\0\0\0\0\0"
		     "\xaamax_tokens\xcd\x01\x00",
		     0, 0.5f, 5, 256),
		/* what is not read lies between, and is of any type */
		CASE("\x83\xa4stop\x92\xa1x\xa1y\xa5top_k\xff\xa4seed\xc0", 1, 1, 0, 16),
		CASE("\x82\x01\x02\xaamax_tokens\xc0", 1, 1, 0, ENGINE_UNKNOWN),
		/* of two, the last; of what makes no sense nothing is known */
		CASE("\x82\xa5top_p\xca\x3f\x00\0\0\xa5top_p\xca\x3e\x80\0\0", 1, 0.25f, 0, 16),
		CASE("\x81\xabtemperature\xca\x7f\xc0\0\0", NAN, 1, 0, 16),
		CASE("\x81\xabtemperature\xca\xbf\x80\0\0", NAN, 1, 0, 16),
		CASE("\x82\xabtemperature\xa1x\xa5top_p\x90", NAN, NAN, 0, 16),
		CASE("\x82\xa5top_k\xcf\xff\xff\xff\xff\xff\xff\xff\xff\xaamax_tokens\xc3", 1, 1,
		     ENGINE_UNKNOWN, ENGINE_UNKNOWN),
		CASE("\x82\xactemperatures\x05\xa4top_\x05", 1, 1, 0, 16),
	};
	struct play p;

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct bytes map = { .size = 0 }, message;

		play__begin(&p);
		put(&map, cases[i].map, cases[i].size);
		message = add("cmpl-x-0-12345678", &map);
		send_bytes(&p, &message);
		end(&p, "cmpl-x-0-12345678");
		assert_int_equal(p.begins, 1);
		assert_string_equal(p.client_id[0], "cmpl-x");
		assert_true(p.has_sampling);
		if (!same(p.sampling.temperature, cases[i].wanted.temperature) ||
		    !same(p.sampling.top_p, cases[i].wanted.top_p))
			fail_msg("case %zu: %f %f", i, p.sampling.temperature, p.sampling.top_p);
		assert_int_equal(p.sampling.top_k, cases[i].wanted.top_k);
		assert_int_equal(p.sampling.max_tokens, cases[i].wanted.max_tokens);
		play__end(&p);
	}
}

static void without_sampling(void **state)
{
	struct bytes nil = { "\xc0", 1 }, cut = { "\x82\xa5top_k\x05", 8 }, message;
	struct play p;

	play__begin(&p);
	message = add("a-12345678", &nil);
	send_bytes(&p, &message);
	end(&p, "a-12345678");
	assert_int_equal(p.begins, 1);
	assert_false(p.has_sampling);
	message = add("b-12345678", &cut); /* fields take the map's place: none of ours */
	send_bytes(&p, &message);
	end(&p, "b-12345678");
	assert_int_equal(p.begins, 1);
	play__end(&p);
}

/* --- what was lost -------------------------------------------------------------------------------
 */

/* The second half of one message behind the first of another is no message. */
static void never_over_a_gap(void **state)
{
	struct bytes map = { "\x80", 1 };
	struct bytes a = add("aaaa-12345678", &map), b = add("bbbb-12345678", &map);
	struct play p;

	for (size_t cut = 1; cut < a.size; cut++) {
		play__begin(&p);
		send_bytes(&p, &a);
		send_flagged(&p, MESSAGES, a.byte, cut, 0);
		send_flagged(&p, MESSAGES, b.byte + cut, b.size - cut, MP_BYTES_LOST);
		send_bytes(&p, &b); /* and then it goes on */
		end(&p, "aaaa-12345678");
		end(&p, "bbbb-12345678");
		end(&p, "aaaa-12345678");
		assert_int_equal(p.begins, 2);
		assert_string_equal(p.client_id[0], "aaaa");
		assert_string_equal(p.client_id[1], "bbbb");
		play__end(&p);
	}
}

/* Half a frame is given up for what a flagged piece begins. */
static void goes_on_behind_a_gap(void **state)
{
	struct bytes map = { "\x80", 1 };
	struct bytes a = add("aaaa-12345678", &map), b = add("bbbb-12345678", &map);
	struct play p;

	play__begin(&p);
	send_bytes(&p, &a);
	send_flagged(&p, MESSAGES, a.byte, a.size - 5, 0);
	send_flagged(&p, MESSAGES, b.byte, b.size, MP_BYTES_LOST);
	end(&p, "bbbb-12345678");
	assert_int_equal(p.begins, 1);
	assert_string_equal(p.client_id[0], "bbbb");
	play__end(&p);
}

#define HEAD \
	"HTTP/1.1 200 OK\r\nx-request-id: %s\r\ncontent-type: application/json\r\n" \
	"content-length: 16\r\n\r\n"

static void send_text(struct play *p, const char *text, uint32_t flags)
{
	send_flagged(p, CLIENT, text, strlen(text), flags);
}

static void send_head(struct play *p, const char *request_id)
{
	char text[256];

	snprintf(text, sizeof(text), HEAD, request_id);
	send_text(p, text, 0);
}

/* A name is that of its own response. */
static void responses(void **state)
{
	struct bytes map = { "\x80", 1 }, a = add("cmpl-a-0-12345678", &map);
	struct play p;

	play__begin(&p);
	send_bytes(&p, &a);
	end(&p, "cmpl-a-0-12345678");
	send_head(&p, "lost");
	send_text(&p, "{\"id\": \"cmpl-a\"}", MP_BYTES_LOST);
	assert_int_equal(p.infos, 0);
	send_head(&p, "mine");
	send_text(&p, "{\"id\": \"cmpl-a\"}", 0);
	assert_int_equal(p.infos, 1);
	assert_string_equal(p.request_id, "mine");
	play__end(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sampling),         cmocka_unit_test(without_sampling),
		cmocka_unit_test(never_over_a_gap), cmocka_unit_test(goes_on_behind_a_gap),
		cmocka_unit_test(responses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
