/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/engine/llama/rows.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "probe/abi/site.h"

/* Four columns of 4 bytes and one of 1 in one block. */
static int rows__reserve(struct llama_rows *r, uint32_t count)
{
	uint8_t *block;

	if (count <= r->capacity)
		return 0;
	block = malloc((size_t)count * (4 * sizeof(int32_t) + 1));
	if (!block)
		return -ENOMEM;
	free(r->token);
	r->token = (int32_t *)block;
	r->position = r->token + count;
	r->sequence = r->position + count;
	r->output_row = (uint32_t *)(r->sequence + count);
	r->output = (uint8_t *)(r->output_row + count);
	r->capacity = count;
	return 0;
}

void llama_rows__free(struct llama_rows *r)
{
	free(r->token);
	memset(r, 0, sizeof(*r));
}

static size_t padded(size_t bytes)
{
	return (bytes + 7) & ~(size_t)7;
}

/* One chunk's columns to their place. false: shorter than it says, or a row in no sequence. */
static bool rows__copy(struct llama_rows *r, const struct mp_event *ev)
{
	const size_t n = ev->count, ints = padded(n * sizeof(int32_t));
	const struct mp_event_rows *head = (const struct mp_event_rows *)ev;
	const uint8_t *at = (const uint8_t *)(head + 1);

	if (ev->size < sizeof(struct mp_event_rows) + 3 * ints + 2 * padded(n))
		return false;
	if (head->flags & MP_ROWS_NO_TOKENS)
		memset(r->token + ev->first, 0xff, n * sizeof(int32_t)); /* -1 */
	else
		memcpy(r->token + ev->first, at, n * sizeof(int32_t));
	memcpy(r->position + ev->first, at + ints, n * sizeof(int32_t));
	memcpy(r->sequence + ev->first, at + 2 * ints, n * sizeof(int32_t));
	memcpy(r->output + ev->first, at + 3 * ints, n);
	at += 3 * ints + padded(n);
	for (size_t i = 0; i < n; i++)
		if (!at[i])
			return false;
	return true;
}

static bool row__is_possible(const struct llama_rows *r, uint32_t i, uint32_t vocabulary)
{
	return r->output[i] <= 1 && r->sequence[i] >= 0 && r->sequence[i] < LLAMA_SLOTS_MAX &&
	       r->position[i] >= 0 && r->position[i] < LLAMA_POSITIONS_MAX && r->token[i] >= -1 &&
	       (!vocabulary || r->token[i] < 0 || (uint32_t)r->token[i] < vocabulary);
}

int llama_rows__decode(struct llama_rows *r, const struct capture *c, uint32_t vocabulary)
{
	const struct mp_event *first = c->chunk[0];
	struct mp_event_rows head;
	int err;

	r->tid = first->tid;
	r->object = first->object;
	r->time_ns = first->time_ns;
	r->count = first->total;
	r->computation = 0;
	r->outputs = 0;
	if (first->size < sizeof(head))
		return -EBADMSG;
	memcpy(&head, first, sizeof(head));
	r->computation = head.computation;
	if (!r->count || r->count > MP_ROWS_MAX)
		return -EBADMSG;
	err = rows__reserve(r, r->count);
	if (err)
		return err;
	for (size_t i = 0; i < c->chunks; i++)
		if (!rows__copy(r, c->chunk[i]))
			return -EBADMSG;
	for (uint32_t i = 0; i < r->count; i++) {
		if (!row__is_possible(r, i, vocabulary))
			return -EBADMSG;
		if (r->output[i])
			r->output_row[r->outputs++] = i;
	}
	return 0;
}
