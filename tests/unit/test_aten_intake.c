/* SPDX-License-Identifier: BSD-2-Clause */
/* Captures while it is not certain where tensors keep their sizes: what waits, what is confirmed,
 * what is contradicted, and that none of it is silent. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "probe/base/buffer.h"
#include "probe/base/error.h"
#include "probe/engine/aten/intake.h"
#include "probe/engine/aten/layout.h"
#include "tests/unit/aten_play.h"

#define ENOUGH 3 /* tensors that agree */

struct play {
	struct aten_intake *intake;
	struct heard *heard;
	struct engine_sink sink;
	uint64_t now;
	size_t taken;
	uint32_t kind[64]; /* of what was taken, in order: its number */
};

static int take(void *ctx, const struct capture *c, const struct engine_sink *sink)
{
	struct play *p = ctx;

	p->kind[p->taken++ % 64] = c->chunk[0]->site;
	return 0;
}

static struct play *play__new(unsigned presumed)
{
	struct play *p = calloc(1, sizeof(*p));

	p->heard = calloc(1, sizeof(*p->heard));
	p->sink = heard__sink(p->heard);
	assert_int_equal(aten_intake__new(&p->intake, take, p), 0);
	aten_intake__presume(p->intake, presumed);
	return p;
}

static void play__free(struct play *p)
{
	aten_intake__free(p->intake);
	heard__free(p->heard);
	free(p);
}

static int give(struct play *p, struct mp_event *ev)
{
	struct capture c = { 1, (const struct mp_event *const *)&ev };
	int err = aten_intake__add(p->intake, &c, &p->sink);

	free(ev);
	return err;
}

/* The bytes of a matrix's TensorImpl with its sizes at @head, and 0 everywhere else. */
static int raw(struct play *p, unsigned head, uint8_t role)
{
	struct made m = { .role = role,
			  .flags = MP_TENSOR_RAW,
			  .rows = 1,
			  .width = MP_TENSOR_RAW_BYTES,
			  .time_ns = ++p->now };
	int64_t fields[13] = { 2, 3, 50, 0, 0, 0, 50, 1, 0, 0, 0, 0, 150 };
	uint8_t bytes[MP_TENSOR_RAW_BYTES] = { 0 };

	memcpy(bytes + head, fields, sizeof(fields));
	bytes[head + sizeof(fields)] = ATEN_FLOAT;
	m.data = bytes;
	return give(p, made__event(&m, 0));
}

/* What was read of the hit whose bytes came last, or of a new one. */
static uint32_t computation; /* of tensors */

static int tensor(struct play *p, uint16_t number, uint8_t role, bool with_raw)
{
	struct made m = { .role = role, .dtype = ATEN_FLOAT, .rows = 3, .width = 8 };
	struct mp_event *ev;

	m.computation = computation;
	m.time_ns = with_raw ? p->now : ++p->now;
	ev = made__event(&m, 0);
	ev->site = number;
	return give(p, ev);
}

static int message(struct play *p, uint16_t number)
{
	struct mp_event *ev = calloc(1, sizeof(struct mp_event_bytes));

	*ev = (struct mp_event){ .kind = MP_EVENT_BYTES,
				 .site = number,
				 .size = sizeof(struct mp_event_bytes),
				 .chunks = 1 };
	return give(p, ev);
}

static void assert_taken(struct play *p, size_t count, const uint32_t *number)
{
	assert_int_equal(p->taken, count);
	for (size_t i = 0; i < count; i++)
		assert_int_equal(p->kind[i], number[i]);
}

/* Nothing is handed on before the bytes confirmed it, and then all of it, in order. */
static void confirmed(void **state)
{
	for (unsigned head = ATEN_HEAD_NEW; head <= ATEN_HEAD_OLD; head += 8) {
		struct play *p = play__new(head);

		assert_int_equal(message(p, 1), 0);
		assert_taken(p, 1, (const uint32_t[]){ 1 });
		for (int i = 1; i < ENOUGH; i++) {
			assert_int_equal(raw(p, head, MP_ROLE_TOKENS), 0);
			assert_int_equal(tensor(p, (uint16_t)(2 * i), MP_ROLE_TOKENS, true), 0);
			assert_int_equal(message(p, (uint16_t)(2 * i + 1)), 0);
			assert_int_equal(p->taken, 1);
			assert_int_equal(aten_intake__head(p->intake), 0);
		}
		assert_int_equal(raw(p, head, MP_ROLE_SCORES), 0);
		assert_taken(p, 5, (const uint32_t[]){ 1, 2, 3, 4, 5 });
		assert_int_equal(aten_intake__head(p->intake), head);
		assert_int_equal(tensor(p, 6, MP_ROLE_SCORES, true), 0);
		/* On its way when the rows learnt. */
		assert_int_equal(raw(p, head, MP_ROLE_SCORES), 0);
		assert_int_equal(tensor(p, 7, MP_ROLE_SCORES, true), 0);
		assert_int_equal(aten_intake__finish(p->intake, &p->sink), 0);
		assert_taken(p, 7, (const uint32_t[]){ 1, 2, 3, 4, 5, 6, 7 });
		assert_int_equal(heard__complaints(p->heard), 0);
		assert_false(aten_intake__missed(p->intake));
		play__free(p);
	}
}

/* Another layout: what was read is dropped, each result is counted once, until the rows have learnt
 * for certain. */
static void contradicted(void **state)
{
	struct play *p = play__new(ATEN_HEAD_NEW);

	computation = 1;
	assert_int_equal(raw(p, ATEN_HEAD_OLD, MP_ROLE_TOKENS), 0);
	assert_int_equal(tensor(p, 1, MP_ROLE_TOKENS, true), 0);
	assert_int_equal(message(p, 2), 0);
	assert_int_equal(raw(p, ATEN_HEAD_OLD, MP_ROLE_SCORES), 0);
	assert_int_equal(tensor(p, 3, MP_ROLE_SCORES, true), 0);
	assert_int_equal(heard__complaints(p->heard), 0);
	assert_int_equal(raw(p, ATEN_HEAD_OLD, MP_ROLE_SCORES), 0);
	assert_int_equal(aten_intake__head(p->intake), ATEN_HEAD_OLD);
	assert_taken(p, 1, (const uint32_t[]){ 2 });
	assert_int_equal(p->heard->lost[ENGINE_LOSS_LAYOUT], 2);
	assert_true(aten_intake__missed(p->intake));
	assert_int_equal(tensor(p, 4, MP_ROLE_SCORES, true), 0); /* was counted by its bytes */
	assert_int_equal(p->heard->lost[ENGINE_LOSS_LAYOUT], 2);
	assert_int_equal(raw(p, ATEN_HEAD_OLD, MP_ROLE_SCORES), 0);
	assert_int_equal(tensor(p, 5, MP_ROLE_SCORES, true), 0);
	assert_int_equal(p->heard->lost[ENGINE_LOSS_LAYOUT], 3);
	assert_int_equal(tensor(p, 6, MP_ROLE_SCORES, false), 0); /* by either offset */
	assert_int_equal(p->heard->lost[ENGINE_LOSS_LAYOUT], 4);
	aten_intake__tick(p->intake, p->now + 2);
	aten_intake__tick(p->intake, p->now + 100); /* one is enough */
	assert_int_equal(tensor(p, 7, MP_ROLE_TOKENS, false), 0);
	assert_taken(p, 1, (const uint32_t[]){ 2 });
	/* The rest of a computation of which something was dropped. */
	assert_int_equal(tensor(p, 10, MP_ROLE_SCORES, false), 0);
	assert_int_equal(p->heard->lost[ENGINE_LOSS_LAYOUT], 5);
	computation = 2;
	assert_int_equal(tensor(p, 8, MP_ROLE_SCORES, false), 0);
	assert_int_equal(message(p, 9), 0);
	assert_taken(p, 3, (const uint32_t[]){ 2, 8, 9 });
	assert_int_equal(aten_intake__finish(p->intake, &p->sink), 0);
	assert_int_equal(heard__complaints(p->heard), 5);
	computation = 0;
	play__free(p);
}

static void no_layout(void **state)
{
	struct play *p = play__new(ATEN_HEAD_NEW);
	struct error e = { 0 };

	assert_int_equal(raw(p, ATEN_HEAD_NEW, MP_ROLE_SCORES), 0);
	assert_int_equal(tensor(p, 1, MP_ROLE_SCORES, true), 0);
	assert_int_equal(raw(p, ATEN_HEAD_OLD, MP_ROLE_SCORES), -EPROTO);
	assert_int_equal(aten_intake__refuse("libtorch", &e), -EPROTO);
	assert_non_null(strstr(e.what, "layout check failed"));
	assert_int_equal(aten_intake__finish(p->intake, &p->sink), 0);
	assert_int_equal(p->heard->lost[ENGINE_LOSS_LAYOUT], 2);
	assert_int_equal(p->taken, 0);
	play__free(p);
}

/* The capture ends before anything is certain. */
static void never_confirmed(void **state)
{
	struct play *p = play__new(ATEN_HEAD_NEW);

	assert_int_equal(raw(p, ATEN_HEAD_NEW, MP_ROLE_TOKENS), 0);
	assert_int_equal(tensor(p, 1, MP_ROLE_TOKENS, true), 0);
	assert_int_equal(raw(p, ATEN_HEAD_NEW, MP_ROLE_WEIGHTS), 0);
	assert_int_equal(tensor(p, 2, MP_ROLE_WEIGHTS, true), 0);
	assert_int_equal(message(p, 3), 0);
	assert_int_equal(aten_intake__finish(p->intake, &p->sink), 0);
	assert_taken(p, 1, (const uint32_t[]){ 3 });
	assert_int_equal(p->heard->lost[ENGINE_LOSS_LAYOUT], 1);
	play__free(p);
}

/* What waits is bounded; what finds no room is counted, and messages go by. */
static void bounded(void **state)
{
	struct play *p = play__new(ATEN_HEAD_NEW);
	const int given = 2000, room = 1024;

	assert_int_equal(raw(p, ATEN_HEAD_NEW, MP_ROLE_TOKENS), 0);
	for (int i = 0; i < given; i++)
		assert_int_equal(tensor(p, 1, MP_ROLE_SCORES, false), 0);
	assert_int_equal(message(p, 2), 0);
	assert_taken(p, 1, (const uint32_t[]){ 2 });
	assert_true(aten_intake__missed(p->intake));
	for (int i = 1; i < ENOUGH; i++)
		assert_int_equal(raw(p, ATEN_HEAD_NEW, MP_ROLE_TOKENS), 0);
	assert_int_equal(p->taken, 1 + room);
	assert_int_equal(p->heard->lost[ENGINE_LOSS_LAYOUT], given - room);
	play__free(p);
}

/* As in older logs: rows began without an offset, so what was read was read right. */
static void nothing_presumed(void **state)
{
	struct buffer saved = { 0 };
	struct play *p = play__new(0);
	struct cursor at;

	assert_int_equal(aten_intake__save(p->intake, &saved), 0);
	assert_int_equal(saved.size, 0);
	assert_int_equal(tensor(p, 1, MP_ROLE_SCORES, false), 0);
	for (int i = 0; i < ENOUGH; i++)
		assert_int_equal(raw(p, ATEN_HEAD_OLD, MP_ROLE_SCORES), 0);
	assert_int_equal(aten_intake__head(p->intake), ATEN_HEAD_OLD);
	assert_int_equal(tensor(p, 2, MP_ROLE_SCORES, false), 0);
	assert_int_equal(aten_intake__finish(p->intake, &p->sink), 0);
	assert_taken(p, 2, (const uint32_t[]){ 1, 2 });
	assert_int_equal(heard__complaints(p->heard), 0);
	play__free(p);
	p = play__new(ATEN_HEAD_OLD);
	assert_int_equal(aten_intake__save(p->intake, &saved), 0);
	play__free(p);
	p = play__new(0);
	at = cursor__over(saved.data, saved.size);
	aten_intake__load(p->intake, &at);
	assert_int_equal(tensor(p, 1, MP_ROLE_SCORES, false), 0);
	assert_int_equal(p->taken, 0); /* it waits */
	buffer__free(&saved);
	play__free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(confirmed), cmocka_unit_test(contradicted),
		cmocka_unit_test(no_layout), cmocka_unit_test(never_confirmed),
		cmocka_unit_test(bounded),   cmocka_unit_test(nothing_presumed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
