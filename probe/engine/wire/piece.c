/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/engine/wire/piece.h"

#include <string.h>

struct wire_piece wire_piece__whole(const void *bytes, size_t size, uint64_t time_ns)
{
	return (struct wire_piece){
		.time_ns = time_ns, .total = size, .head = bytes, .head_size = size
	};
}

int wire_piece__valid(const struct wire_piece *p)
{
	return p->head_size <= p->total && p->tail_size <= p->total - p->head_size &&
	       (p->head || !p->head_size) && (p->tail || !p->tail_size);
}

static uint64_t hash_more(uint64_t hash, const uint8_t *bytes, size_t size)
{
	for (size_t i = 0; i < size; i++)
		hash = (hash ^ bytes[i]) * 0x100000001b3ull;
	return hash;
}

/* The last bytes of @p that were captured without a gap. */
static size_t last_bytes(const struct wire_piece *p, uint8_t out[WIRE_REPEAT_BYTES])
{
	int has_tail = p->head_size < p->total;
	const uint8_t *bytes = has_tail ? p->tail : p->head;
	size_t size = has_tail ? p->tail_size : p->head_size;
	size_t n = size < WIRE_REPEAT_BYTES ? size : WIRE_REPEAT_BYTES;

	if (n)
		memcpy(out, bytes + size - n, n);
	return n;
}

enum wire_offer wire_repeat__next(struct wire_repeat *r, const struct wire_piece *p)
{
	struct wire_repeat now = { .address = p->address, .total = p->total };
	enum wire_offer offer = WIRE_NEW;
	size_t common;

	now.last_size = last_bytes(p, now.last);
	now.hash = hash_more(0xcbf29ce484222325ull, p->head, p->head_size);
	now.hash = hash_more(now.hash, p->tail, p->tail_size);
	common = now.last_size < r->last_size ? now.last_size : r->last_size;
	if (!p->address || !r->address || !p->total)
		offer = WIRE_NEW;
	else if (p->address == r->address && p->total == r->total && now.hash == r->hash)
		offer = WIRE_SAME;
	else if (p->address > r->address && p->total < r->total && common &&
		 p->address - r->address == r->total - p->total &&
		 !memcmp(now.last + now.last_size - common, r->last + r->last_size - common,
			 common))
		offer = WIRE_REST;
	*r = now;
	return offer;
}
