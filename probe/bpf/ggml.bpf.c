/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Programs for the ggml tensor family: the router's result, and the rows of a computation. */
#include <stddef.h>

#include "probe/bpf/emit.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/*
 * Thread id -> how many ROWS hits it had. Routes carry the number, so that the reader never joins
 * a route with the rows of an earlier computation because the rows in between were lost.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u32);
} computations SEC(".maps");

static __always_inline __u32 computation__number(__u32 tid)
{
	__u32 *number = bpf_map_lookup_elem(&computations, &tid);

	return number ? *number : 0;
}

/* Only the thread itself writes its number. */
static __always_inline __u32 computation__begin(__u32 tid)
{
	__u32 number = (computation__number(tid) & ~MP_COMPUTATION_REFUSED) + 1;

	bpf_map_update_elem(&computations, &tid, &number, BPF_ANY);
	return number;
}

/* The rows of the thread's current computation make no sense: its routes have to say so. */
static __always_inline void computation__refuse(__u32 tid)
{
	__u32 *number = bpf_map_lookup_elem(&computations, &tid);

	if (number)
		*number |= MP_COMPUTATION_REFUSED;
}

/* --- mp_route: the router's ids and weights, at the operator that uses them ----------------- */

#define ROW_BYTES_MAX (MP_TOP_K * 4u)
#define EXPERTS_MAX 65536u

/* Bytes of ids (and again of weights) in a record of @class bytes. The verifier does not know
 * that offset plus length stays inside: it is given one row of slack. */
#define ROUTE_HALF(class) (((class) - sizeof(struct mp_event_route) - ROW_BYTES_MAX) / 2)
/* A small record holds a single row, copied in one read each: no slack. */
#define ROUTE_HALF_SMALL ((RECORD_SMALL - sizeof(struct mp_event_route)) / 2)

struct route {
	struct hit hit;
	__u64 ids; /* address of row 0; with the name behind it, as in ggml's tensor */
	char name[MP_NAME_SIZE];
	__u64 ids_stride; /* bytes from row to row */
	__u64 weights, weights_stride;
	__u32 k, rows;
	__u32 chunk_rows, chunks;
	__u32 computation;
};

/* The head of a tensor, in ggml's order. */
struct tensor {
	__u32 type;
	__u32 between[3];
	__u64 ne[4];
	__u64 nb[4];
};
_Static_assert(sizeof(struct tensor) == 80, "no padding: filled by one read");

/* A read costs more than what it reads (some 130 ns): one where the fields lie as in ggml. */
static __always_inline long tensor__read(struct tensor *t, const struct mp_tensor_layout *l,
					 __u64 at)
{
	if (l->ne == l->type + offsetof(struct tensor, ne) && l->nb == l->ne + sizeof(t->ne))
		return read_user(t, sizeof(*t), at + l->type);
	return read_user(&t->type, sizeof(t->type), at + l->type) ||
	       read_user(t->ne, sizeof(t->ne), at + l->ne) ||
	       read_user(t->nb, sizeof(t->nb), at + l->nb);
}

/* Name and data of the ids tensor. */
static __always_inline long route__read_name(struct route *r, const struct mp_tensor_layout *l,
					     __u64 at)
{
	if (l->name == l->data + sizeof(r->ids))
		return read_user(&r->ids, sizeof(r->ids) + sizeof(r->name), at + l->data);
	return read_user(r->name, sizeof(r->name), at + l->name) ||
	       read_user(&r->ids, sizeof(r->ids), at + l->data);
}

/* Rows with a stride, one read each. */
struct row_copy {
	void *to;
	__u64 from, stride;
	__u32 bytes; /* of a row */
	__u32 failed;
};

static __always_inline long row_copy__one(__u32 i, struct row_copy *c, const __u32 most)
{
	__u64 bytes = c->bytes;
	__u64 at = i * bytes;

	CLAMP(bytes, ROW_BYTES_MAX);
	CLAMP(at, most);
	if (bpf_probe_read_user(c->to + at, bytes, (const void *)(c->from + i * c->stride))) {
		c->failed = 1;
		return 1;
	}
	return 0;
}

static long row_copy__medium(__u32 i, struct row_copy *c)
{
	return row_copy__one(i, c, ROUTE_HALF(RECORD_MEDIUM));
}

static long row_copy__large(__u32 i, struct row_copy *c)
{
	return row_copy__one(i, c, ROUTE_HALF(RECORD_LARGE));
}

/* @count rows of @row_bytes to @to, which has room for @half bytes. 0, or nonzero on a fault. */
static __always_inline long rows__copy(void *to, __u64 from, __u64 stride, __u32 count,
				       __u32 row_bytes, const __u32 class)
{
	struct row_copy copy;
	__u64 bytes = (__u64)count * row_bytes;

	if (count == 1 || stride == row_bytes) {
		if (class == RECORD_SMALL)
			CLAMP(bytes, ROUTE_HALF_SMALL);
		else if (class == RECORD_MEDIUM)
			CLAMP(bytes, ROUTE_HALF(RECORD_MEDIUM));
		else
			CLAMP(bytes, ROUTE_HALF(RECORD_LARGE));
		return bpf_probe_read_user(to, bytes, (const void *)from);
	}
	if (class == RECORD_SMALL)
		return -1;
	copy.to = to;
	copy.from = from;
	copy.stride = stride;
	copy.bytes = row_bytes;
	copy.failed = 0;
	if (class == RECORD_MEDIUM)
		bpf_loop(count, row_copy__medium, &copy, 0);
	else
		bpf_loop(count, row_copy__large, &copy, 0);
	return copy.failed;
}

/* Deliver @count rows from @first in a record of @class bytes. 1 ends the capture. */
static __always_inline long route__emit(struct route *r, __u32 index, __u32 first, __u32 count,
					const __u32 class)
{
	__u32 row_bytes = r->k * 4;
	__u64 half = (__u64)count * row_bytes;
	__u32 size = sizeof(struct mp_event_route) + 2 * half;
	struct chunk c = { MP_EVENT_ROUTE, index, r->chunks, size, r->rows, first, count };
	struct mp_event_route *e = bpf_ringbuf_reserve(&ring, class, 0);
	void *ids;

	if (!e) {
		hit__drop(&r->hit, r->rows);
		return 1;
	}
	event__fill(&e->event, &r->hit, &c);
	__builtin_memcpy(e->name, r->name, sizeof(e->name));
	e->k = r->k;
	e->experts = r->ids_stride / 4;
	e->computation = r->computation;
	e->reserved = 0;
	ids = e + 1;
	if (class == RECORD_SMALL)
		CLAMP(half, ROUTE_HALF_SMALL);
	else if (class == RECORD_MEDIUM)
		CLAMP(half, ROUTE_HALF(RECORD_MEDIUM));
	else
		CLAMP(half, ROUTE_HALF(RECORD_LARGE));
	if (rows__copy(ids, r->ids + first * r->ids_stride, r->ids_stride, count, row_bytes,
		       class) ||
	    rows__copy(ids + half, r->weights + first * r->weights_stride, r->weights_stride, count,
		       row_bytes, class)) {
		event__fault(e, &r->hit);
		return 1;
	}
	event__submit(e, &r->hit, size);
	return 0;
}

static __always_inline __u32 route__class(__u32 rows, __u32 k)
{
	__u32 bytes = rows * k * 4;

	if (rows == 1 && bytes <= ROUTE_HALF_SMALL)
		return RECORD_SMALL;
	return bytes <= ROUTE_HALF(RECORD_MEDIUM) ? RECORD_MEDIUM : RECORD_LARGE;
}

static long route__chunk(__u32 index, struct route *r)
{
	__u32 first = index * r->chunk_rows;
	__u32 count = r->rows - first;

	if (count > r->chunk_rows)
		count = r->chunk_rows;
	if (route__class(count, r->k) == RECORD_LARGE)
		return route__emit(r, index, first, count, RECORD_LARGE);
	return route__emit(r, index, first, count, RECORD_MEDIUM);
}

static __always_inline void route__deliver(struct route *r)
{
	__u32 last, bytes;

	r->chunk_rows = ROUTE_HALF(RECORD_LARGE) / (r->k * 4);
	r->chunks = (r->rows + r->chunk_rows - 1) / r->chunk_rows;
	last = r->rows - (r->chunks - 1) * r->chunk_rows;
	bytes = (r->chunks - 1) * (RECORD_LARGE + RECORD_HEAD) + route__class(last, r->k) +
		RECORD_HEAD;
	if (!ring__has_room(bytes)) {
		hit__drop(&r->hit, r->rows);
		return;
	}
	if (route__class(r->rows, r->k) == RECORD_SMALL)
		route__emit(r, 0, 0, 1, RECORD_SMALL);
	else
		bpf_loop(r->chunks, route__chunk, r, 0);
}

/*
 * Take ids and weights from their tensors. 0; 1: a shape, type or limit does not hold; -1: fault.
 * Every number is the target's: bounded before it is multiplied.
 */
static __always_inline int route__shape(struct route *r, const struct mp_tensor_layout *l,
					__u64 ids_at, __u64 weights_at)
{
	struct tensor t;

	if (tensor__read(&t, l, ids_at))
		return -1;
	if (t.type != l->type_ids || t.ne[0] - 1 >= MP_TOP_K || t.ne[1] - 1 >= MP_ROWS_MAX ||
	    t.ne[2] != 1 || t.ne[3] != 1)
		return 1;
	if (t.nb[0] != 4 || t.nb[1] % 4 || t.nb[1] < t.ne[0] * 4 || t.nb[1] > EXPERTS_MAX * 4)
		return 1;
	r->k = t.ne[0];
	r->rows = t.ne[1];
	r->ids_stride = t.nb[1];
	if (tensor__read(&t, l, weights_at) ||
	    read_user(&r->weights, sizeof(r->weights), weights_at + l->data))
		return -1;
	if (t.type != l->type_weights || t.ne[0] != 1 || t.ne[1] != r->k || t.ne[2] != r->rows ||
	    t.ne[3] != 1)
		return 1;
	if (t.nb[1] != 4 || t.nb[2] % 4 || t.nb[2] < r->k * 4 || t.nb[2] > EXPERTS_MAX * 4)
		return 1;
	r->weights_stride = t.nb[2];
	return 0;
}

SEC("uprobe")
int mp_route(struct pt_regs *ctx)
{
	const struct mp_route_site *site;
	struct route r;
	__u64 guard, ids, weights;
	__u32 turned_away = 0;
	int bad;

	if (hit__begin(&r.hit, ctx))
		return 0;
	site = &r.hit.site->route;
	/* First of all reads: every thread of every operator call comes here. */
	if (path__follow(&site->guard, ctx, &guard) ||
	    read_user(&turned_away, sizeof(turned_away), guard))
		goto unreadable;
	if (turned_away) {
		COUNT(&r.hit, unguarded, 1);
		return 0;
	}
	if (path__follow(&site->ids, ctx, &ids))
		goto unreadable;
	if (!ids)
		return 0;
	if (route__read_name(&r, &site->tensor, ids))
		goto unreadable;
	if (!text__begins(r.name, site->prefix))
		return 0;
	hit__match(&r.hit, ctx);
	r.name[MP_NAME_SIZE - 1] = '\0';
	r.computation = computation__number(r.hit.tid);
	if (path__follow(&site->weights, ctx, &weights))
		goto fault;
	bad = route__shape(&r, &site->tensor, ids, weights);
	if (bad < 0)
		goto fault;
	if (bad) {
		COUNT(&r.hit, shape, 1);
		return 0;
	}
	route__deliver(&r);
	return 0;
unreadable: /* any multiplication: no router's result was given up */
	COUNT(&r.hit, unreadable, 1);
	return 0;
fault:
	COUNT(&r.hit, fault, 1);
	return 0;
}

/* --- mp_rows: token, position, sequence and output flag of each row ------------------------- */

/* Rows of a record, multiples of 8 so that only a capture's last chunk has padding. */
#define ROWS_SMALL 8u
#define ROWS_MEDIUM 136u
#define ROWS_LARGE 1160u
#define ROWS_BLOCK 4u /* rows whose sequences are read together */

struct rows {
	struct hit hit;
	__u64 token, position, sequences, sequence, output; /* addresses of the columns */
	__u32 rows, chunks;
	__u32 computation;
};

/* The columns of one chunk that need a look at each row. */
struct sequence_copy {
	void *sequence;    /* __s32[count] in the record, and up to a block more */
	void *sequences;   /* __u8[count] in the record, and up to a block more */
	__u64 counts_from; /* __s32[count] in the target */
	__u64 lists_from;  /* __s32 *[count] in the target */
	__u32 count;
	__u32 failed;
};

/* ids[j] = lists[j][0], -1 where counts[j] < 1. One read where the lists lie one after another,
 * which newer builds do. */
static __always_inline long sequences__read(__s32 *ids, const __s32 *counts, const __u64 *lists,
					    __u32 count)
{
	__u64 apart = count ^ ROWS_BLOCK;

	/* Without branches: each doubles what the verifier walks through at attach. */
#pragma unroll
	for (int j = 0; j < ROWS_BLOCK; j++) {
		apart |= lists[j] ^ (lists[0] + 4 * j);
		apart |= ((__u32)counts[j] | ((__u32)counts[j] - 1)) >> 31; /* below 1 */
		barrier_var(apart);
	}
	if (!apart)
		return read_user(ids, ROWS_BLOCK * 4, lists[0]);
#pragma unroll
	for (int j = 0; j < ROWS_BLOCK; j++) {
		if (counts[j] > 0 && read_user(&ids[j], 4, lists[j]))
			return -1;
	}
	return 0;
}

static __always_inline long sequence_copy__block(__u32 i, struct sequence_copy *c, const __u32 most)
{
	__s32 ids[ROWS_BLOCK] = { -1, -1, -1, -1 };
	__s32 counts[ROWS_BLOCK] = {};
	__u64 lists[ROWS_BLOCK] = {};
	__u64 first = (__u64)i * ROWS_BLOCK;
	__u64 count = c->count - first;
	__u64 bytes;

	CLAMP(count, ROWS_BLOCK);
	CLAMP(first, most - ROWS_BLOCK);
	bytes = count * 4;
	CLAMP(bytes, ROWS_BLOCK * 4);
	if (bpf_probe_read_user(counts, bytes, (const void *)(c->counts_from + first * 4)))
		goto fault;
	bytes = count * 8;
	CLAMP(bytes, ROWS_BLOCK * 8);
	if (bpf_probe_read_user(lists, bytes, (const void *)(c->lists_from + first * 8)))
		goto fault;
	if (sequences__read(ids, counts, lists, count))
		goto fault;
		/* Whole blocks and no branches, as above. */
#pragma unroll
	for (int j = 0; j < ROWS_BLOCK; j++) {
		__s32 n = counts[j] & ~(counts[j] >> 31);

		n |= (255 - n) >> 31; /* all ones above 255 */
		barrier_var(n);
		*(__s32 *)(c->sequence + first * 4 + 4 * j) = ids[j];
		*(__u8 *)(c->sequences + first + j) = n;
	}
	return 0;
fault:
	c->failed = 1;
	return 1;
}

static long sequence_copy__small(__u32 i, struct sequence_copy *c)
{
	return sequence_copy__block(i, c, ROWS_SMALL);
}

static long sequence_copy__medium(__u32 i, struct sequence_copy *c)
{
	return sequence_copy__block(i, c, ROWS_MEDIUM);
}

static long sequence_copy__large(__u32 i, struct sequence_copy *c)
{
	return sequence_copy__block(i, c, ROWS_LARGE);
}

/* @bytes of a column, at most @most. 0, or nonzero on a fault. */
static __always_inline long column__read(void *to, __u64 from, __u64 bytes, const __u32 most)
{
	CLAMP(bytes, most);
	return bpf_probe_read_user(to, bytes, (const void *)from);
}

/* Deliver @rows rows from @first in a record of @class bytes for @most rows. 1 ends it. */
static __always_inline long rows__emit(struct rows *r, __u32 index, __u32 first, __u32 rows,
				       const __u32 class, const __u32 most)
{
	__u64 count = rows, ints, flags;
	__u32 blocks = (rows + ROWS_BLOCK - 1) / ROWS_BLOCK;
	struct sequence_copy copy;
	struct mp_event_rows *e;
	struct chunk c = { MP_EVENT_ROWS, index, r->chunks, 0, r->rows, first, rows };
	void *to;

	CLAMP(count, most);
	ints = (count * 4 + 7) & ~7ull;
	flags = (count + 7) & ~7ull;
	c.size = sizeof(*e) + 3 * ints + 2 * flags;
	e = bpf_ringbuf_reserve(&ring, class, 0);
	if (!e) {
		hit__drop(&r->hit, r->rows);
		return 1;
	}
	event__fill(&e->event, &r->hit, &c);
	e->flags = r->token ? 0 : MP_ROWS_NO_TOKENS;
	e->computation = r->computation;
	to = e + 1;
	if (r->token && column__read(to, r->token + 4 * first, count * 4, most * 4))
		goto fault;
	to += ints;
	if (column__read(to, r->position + 4 * first, count * 4, most * 4))
		goto fault;
	to += ints;
	copy.sequence = to;
	to += ints;
	copy.sequences = to + flags;
	copy.counts_from = r->sequences + 4 * first;
	copy.lists_from = r->sequence + 8 * first;
	copy.count = count;
	copy.failed = 0;
	if (class == RECORD_SMALL)
		bpf_loop(blocks, sequence_copy__small, &copy, 0);
	else if (class == RECORD_MEDIUM)
		bpf_loop(blocks, sequence_copy__medium, &copy, 0);
	else
		bpf_loop(blocks, sequence_copy__large, &copy, 0);
	/* Last: the block behind the last sequence reaches into these. */
	if (copy.failed || column__read(to, r->output + first, count, most))
		goto fault;
	event__submit(e, &r->hit, c.size);
	return 0;
fault:
	event__fault(e, &r->hit);
	computation__refuse(r->hit.tid);
	return 1;
}

static long rows__chunk(__u32 index, struct rows *r)
{
	__u32 first = index * ROWS_LARGE;
	__u32 count = r->rows - first;

	if (count <= ROWS_SMALL)
		return rows__emit(r, index, first, count, RECORD_SMALL, ROWS_SMALL);
	if (count <= ROWS_MEDIUM)
		return rows__emit(r, index, first, count, RECORD_MEDIUM, ROWS_MEDIUM);
	if (count > ROWS_LARGE)
		count = ROWS_LARGE;
	return rows__emit(r, index, first, count, RECORD_LARGE, ROWS_LARGE);
}

SEC("uprobe")
int mp_rows(struct pt_regs *ctx)
{
	const struct mp_rows_site *site;
	struct rows r;
	__u64 batch;

	if (hit__begin(&r.hit, ctx))
		return 0;
	site = &r.hit.site->rows;
	hit__match(&r.hit, ctx);
	r.computation = computation__begin(r.hit.tid);
	if (path__follow(&site->batch, ctx, &batch) ||
	    read_user(&r.rows, sizeof(r.rows), batch + site->count) ||
	    read_user(&r.token, 8, batch + site->token) ||
	    read_user(&r.position, 8, batch + site->position) ||
	    read_user(&r.sequences, 8, batch + site->sequences) ||
	    read_user(&r.sequence, 8, batch + site->sequence) ||
	    read_user(&r.output, 8, batch + site->output)) {
		COUNT(&r.hit, fault, 1);
		computation__refuse(r.hit.tid);
		return 0;
	}
	if (r.rows - 1 >= MP_ROWS_MAX) {
		COUNT(&r.hit, shape, 1);
		computation__refuse(r.hit.tid);
		return 0;
	}
	r.chunks = (r.rows + ROWS_LARGE - 1) / ROWS_LARGE;
	bpf_loop(r.chunks, rows__chunk, &r, 0);
	return 0;
}
