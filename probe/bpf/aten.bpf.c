/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The program for the libtorch tensor family: what a row of the site table says of the tensors of
 * one call. A `const Tensor &` is a pointer to a pointer to a TensorImpl. */
#include "probe/bpf/aten_look.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* What a thread is in the middle of. Only the thread itself writes it. */
struct thread_state {
	__u32 computation;      /* as in emit's computations: how many began, maybe REFUSED */
	__u32 remembered_bytes; /* of an element of what is remembered; 0: nothing is */
	__u64 remembered;       /* address */
	__u64 done;   /* bit row % 64: this FIRST row, or for ROUTE: what was remembered */
	__u32 routes; /* results in this computation */
	__u32 reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, struct thread_state);
} threads SEC(".maps");

/* --- delivery -------------------------------------------------------------------------------- */

#define PAYLOAD(class) ((class) - (__u32)sizeof(struct mp_event_tensor))

/* Rows with a stride, one read each; the record has room for one more than fits. */
struct stride_copy {
	void *to;
	const struct tensor_view *view;
	__u32 first;
	__u32 failed;
};

static long stride_copy__one(__u32 i, struct stride_copy *c)
{
	const struct tensor_view *v = c->view;
	__u32 row = c->first + i, whole = v->outer ? row / v->size[1] : 0;
	__u64 bytes = v->row_bytes;
	__u64 at = i * bytes;
	__u64 from =
		v->from + (__u64)whole * v->outer + (__u64)(row - whole * v->size[1]) * v->stride;

	CLAMP(bytes, MP_STRIDED_ROW_MAX);
	CLAMP(at, PAYLOAD(RECORD_LARGE) - MP_STRIDED_ROW_MAX);
	if (bpf_probe_read_user(c->to + at, bytes, (const void *)from)) {
		c->failed = 1;
		return 1;
	}
	return 0;
}

static __always_inline int view__is_apart(const struct tensor_view *v)
{
	return v->outer || v->stride != v->row_bytes;
}

/* Rows with a stride need a large record, however few they are. */
static __always_inline long rows__copy(void *to, const struct tensor_view *v, __u32 first,
				       __u32 count, const __u32 class)
{
	__u64 bytes = (__u64)count * v->row_bytes;
	__u64 from = v->from + (__u64)first * v->row_bytes;
	struct stride_copy copy = { to, v, first, 0 };

	if (class == RECORD_LARGE && view__is_apart(v)) {
		bpf_loop(count, stride_copy__one, &copy, 0);
		return copy.failed;
	}
	CLAMP(bytes, PAYLOAD(class));
	return bpf_probe_read_user(to, bytes, (const void *)from);
}

/* A capture on its way into the ring. */
struct delivery {
	const struct tensors *t;
	struct mp_counters *counters;
	__u32 chunk_rows, chunks;
	__u32 failed;
	__u32 reserved;
};

static __always_inline void event__describe(struct mp_event_tensor *e, const struct tensors *t)
{
	const struct tensor_view *v = &t->view;

	e->event.kind = MP_EVENT_TENSOR;
	e->event.site = t->row;
	e->event.tgid = t->tgid;
	e->event.tid = t->tid;
	e->event.time_ns = t->time_ns;
	e->event.object = v->impl;
	e->event.total = v->rows;
	e->role = v->role;
	e->dtype = v->dtype;
	e->dims = v->dims;
	e->flags = v->flags;
	e->computation = t->computation;
	e->row_bytes = v->row_bytes;
	e->key_first = t->key_first;
	e->key = t->key;
	e->key_dtype = t->key_dtype;
	e->reserved = 0;
	e->data = v->from;
	e->storage = v->storage;
	e->size[0] = v->size[0];
	e->size[1] = v->size[1];
	e->size[2] = v->size[2];
	e->ordinal = t->ordinal;
	e->scalar[0] = t->scalar[0];
	e->scalar[1] = t->scalar[1];
}

static __always_inline void delivery__drop(struct delivery *d)
{
	__sync_fetch_and_add(&d->counters->dropped, 1);
	__sync_fetch_and_add(&d->counters->dropped_rows, d->t->view.rows);
	d->failed = 1;
}

/* One chunk in a record of @class bytes. 1 ends the capture. */
static __always_inline long delivery__emit(struct delivery *d, __u32 index, __u32 first,
					   __u32 count, const __u32 class)
{
	const struct tensor_view *v = &d->t->view;
	__u32 size = sizeof(struct mp_event_tensor) + count * v->row_bytes;
	struct mp_event_tensor *e = bpf_ringbuf_reserve(&ring, class, 0);

	if (!e) {
		delivery__drop(d);
		return 1;
	}
	event__describe(e, d->t);
	e->event.size = size;
	e->event.chunk = index;
	e->event.chunks = d->chunks;
	e->event.first = first;
	e->event.count = count;
	if (rows__copy(e + 1, v, first, count, class)) {
		bpf_ringbuf_discard(e, BPF_RB_NO_WAKEUP);
		__sync_fetch_and_add(&d->counters->fault, 1);
		d->failed = 1;
		return 1;
	}
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
	__sync_fetch_and_add(&d->counters->events, 1);
	__sync_fetch_and_add(&d->counters->bytes, size);
	return 0;
}

static long delivery__chunk(__u32 index, struct delivery *d)
{
	const struct tensor_view *v = &d->t->view;
	__u32 first = index * d->chunk_rows;
	__u32 count = v->rows - first;
	__u64 bytes;

	if (count > d->chunk_rows)
		count = d->chunk_rows;
	bytes = (__u64)count * v->row_bytes;
	if (!view__is_apart(v) || !bytes) {
		if (bytes <= PAYLOAD(RECORD_SMALL))
			return delivery__emit(d, index, first, count, RECORD_SMALL);
		if (bytes <= PAYLOAD(RECORD_MEDIUM))
			return delivery__emit(d, index, first, count, RECORD_MEDIUM);
	}
	return delivery__emit(d, index, first, count, RECORD_LARGE);
}

/* Ring space that the capture takes: of records of a large class the unused part, too. */
static __always_inline __u64 delivery__space(const struct delivery *d, __u64 bytes)
{
	if (d->chunks > 1 || view__is_apart(&d->t->view) || bytes > PAYLOAD(RECORD_MEDIUM))
		return (__u64)d->chunks * (RECORD_LARGE + RECORD_HEAD);
	return (bytes > PAYLOAD(RECORD_SMALL) ? RECORD_MEDIUM : RECORD_SMALL) + RECORD_HEAD;
}

/* Deliver the view; @leave_room: a quarter of the ring is not ours. 0, or 1: the capture was given
 * up, and counted. */
__noinline int tensors__deliver(struct tensors *t, int leave_room)
{
	struct delivery d = { t };
	const struct tensor_view *v;
	__u64 bytes;
	__u32 row;

	if (!t)
		return 1;
	row = t->row;
	v = &t->view;
	bytes = (__u64)v->rows * v->row_bytes;
	d.counters = bpf_map_lookup_elem(&counters, &row);
	if (!d.counters)
		return 1;
	d.chunk_rows =
		(PAYLOAD(RECORD_LARGE) - MP_STRIDED_ROW_MAX) / (v->row_bytes | !v->row_bytes);
	if (!d.chunk_rows) {
		__sync_fetch_and_add(&d.counters->shape, 1);
		return 1;
	}
	d.chunks = (v->rows + d.chunk_rows - 1 + !v->rows) / d.chunk_rows;
	if (leave_room && !ring__has_room(delivery__space(&d, bytes))) {
		delivery__drop(&d);
		return 1;
	}
	bpf_loop(d.chunks, delivery__chunk, &d, 0);
	return d.failed;
}

/* --- the hit --------------------------------------------------------------------------------- */

static __always_inline __u64 row_bit(__u32 row)
{
	return 1ull << (row & 63);
}

/* The thread's state, made if there is none; NULL: the map gives no more. */
static __always_inline struct thread_state *state__get(__u32 tid)
{
	struct thread_state *state = bpf_map_lookup_elem(&threads, &tid);
	struct thread_state fresh = {};

	if (state)
		return state;
	bpf_map_update_elem(&threads, &tid, &fresh, BPF_NOEXIST);
	return bpf_map_lookup_elem(&threads, &tid);
}

/* The first rule fits: what that means to the thread. */
static __always_inline void state__match(struct thread_state *state, struct tensors *t,
					 __u32 moment)
{
	if (moment == MP_MOMENT_BEGIN) {
		state->computation = (state->computation & ~MP_COMPUTATION_REFUSED) + 1;
		state->done = 0;
		state->routes = 0;
	}
	if (moment == MP_MOMENT_ROUTE)
		t->ordinal = state->routes++;
	if (moment == MP_MOMENT_FIRST)
		state->done |= row_bit(t->row);
	t->computation = state->computation;
}

/* Only what lies there element by element can be recalled; nothing is where there are none. */
static __always_inline void state__remember(struct thread_state *state, const struct tensors *t,
					    const struct hit *h)
{
	const struct tensor_view *v = &t->view;

	state->remembered = v->from;
	state->remembered_bytes = 0;
	if (v->flags & MP_TENSOR_DEVICE)
		return;
	if (view__is_apart(v) || (v->row_bytes != 4 && v->row_bytes != 8))
		COUNT(h, shape, 1);
	else
		state->remembered_bytes = v->row_bytes;
}

/* What was remembered, as many elements as the result has rows. 0: nothing is due. */
static __always_inline int tensors__recall(struct tensors *t, struct thread_state *state)
{
	struct tensor_view *v = &t->view;

	if (!t->rows || !state->remembered_bytes || state->done & row_bit(t->row))
		return 0;
	state->done |= row_bit(t->row);
	v->impl = v->from = state->remembered;
	v->rows = v->size[0] = t->rows;
	v->row_bytes = state->remembered_bytes;
	v->stride = v->row_bytes;
	v->outer = 0;
	v->role = MP_ROLE_TOKENS;
	v->dtype = v->row_bytes == 8 ? DTYPE_LONG : DTYPE_INT;
	v->dims = 1;
	v->flags = 0;
	v->size[1] = v->size[2] = 0;
	t->key = 0; /* of the result's, not of the tokens' */
	t->key_first = 0;
	return 1;
}

/* The layout is not certain yet: what it can be found out from. */
static __always_inline void tensors__raw(struct tensors *t, const struct mp_tensors_site *site)
{
	struct tensor_view *v = &t->view;

#pragma unroll
	for (__u32 i = 0; i < MP_TENSOR_RULES; i++) {
		if (i >= site->rules)
			return;
		v->impl = v->from = tensors__impl(t, site->rule[i].argument);
		v->rows = 1;
		v->row_bytes = v->stride = MP_TENSOR_RAW_BYTES;
		v->role = site->rule[i].role;
		v->flags = MP_TENSOR_RAW;
		if (!v->impl || tensors__deliver(t, 1))
			return;
	}
}

/* The tensor of rule @i, which is not the first or was matched. 0: go on. */
static __always_inline int tensors__take(struct tensors *t, const struct hit *h, int look, __u32 i)
{
	const struct mp_tensors_site *site = &h->site->tensors;

	if (look != LOOK_FITS) {
		if (look == LOOK_SHAPE || look == LOOK_OTHER)
			COUNT(h, shape, 1);
		else
			COUNT(h, fault, 1);
		return -1;
	}
	if (site->rule[i].copy == MP_COPY_NOTHING) {
		t->key = t->view.from;
		t->key_first = t->view.size[0];
		t->key_dtype = t->view.dtype;
		return 0;
	}
	t->rows = t->rows ? t->rows : t->view.rows;
	return tensors__deliver(t, site->moment == MP_MOMENT_ROUTE);
}

/* All tensors of the row. 0, or nonzero: a capture was given up, and counted. */
static __always_inline int tensors__read(struct tensors *t, const struct hit *h,
					 struct thread_state *state)
{
	const struct mp_tensors_site *site = &h->site->tensors;
	int look = tensors__look(t, 0);

	if (look == LOOK_OTHER)
		return 0;
	if (look == LOOK_FAULT) { /* any call: no capture was given up */
		COUNT(h, unreadable, 1);
		return 0;
	}
	COUNT(h, matched, 1);
	state__match(state, t, site->moment);
	if (site->moment == MP_MOMENT_REMEMBER) {
		state__remember(state, t, h);
		return 0;
	}
	if (tensors__take(t, h, look, 0))
		return -1;
#pragma unroll
	for (__u32 i = 1; i < MP_TENSOR_RULES; i++) {
		if (i >= site->rules)
			break;
		if (tensors__take(t, h, tensors__look(t, i), i))
			return -1;
	}
	if (site->moment == MP_MOMENT_ROUTE && tensors__recall(t, state))
		tensors__deliver(t, 0);
	return 0;
}

/* Argument @number, a register; 0 where it is none. */
static __always_inline __u64 tensors__scalar(const struct tensors *t, __u32 number)
{
	__u32 in_register = number;

	if (number >= ARGUMENTS)
		return 0;
	CLAMP(in_register, ARGUMENTS - 1);
	return t->argument[in_register];
}

/* Is this hit for us, by what needs no look at the tensors? */
static __always_inline int tensors__wanted(struct tensors *t, const struct mp_tensors_site *site,
					   const struct thread_state *state)
{
	t->scalar[0] = tensors__scalar(t, site->scalar[0]);
	t->scalar[1] = tensors__scalar(t, site->scalar[1]);
	if (site->scalar[0] < ARGUMENTS &&
	    outside(t->scalar[0], site->scalar_min, site->scalar_max))
		return 0;
	if (!((tensors__scalar(t, site->truth) & 1) | mask_of_zero(site->truth)))
		return 0;
	if (site->moment != MP_MOMENT_FIRST)
		return 1;
	return state->computation && !(state->done & row_bit(t->row));
}

static __always_inline void tensors__begin(struct tensors *t, const struct hit *h,
					   struct pt_regs *ctx)
{
	t->row = h->row;
	t->tgid = h->tgid;
	t->tid = h->tid;
	t->time_ns = bpf_ktime_get_ns();
	t->argument[0] = argument(ctx, 0);
	t->argument[1] = argument(ctx, 1);
	t->argument[2] = argument(ctx, 2);
	t->argument[3] = argument(ctx, 3);
	t->argument[4] = argument(ctx, 4);
	t->argument[5] = argument(ctx, 5);
	t->stack = stack_argument_address(ctx, 0);
}

SEC("uprobe")
int mp_tensors(struct pt_regs *ctx)
{
	const struct mp_tensors_site *site;
	struct thread_state *state;
	struct tensors t = {};
	struct hit h;

	if (hit__begin(&h, ctx))
		return 0;
	site = &h.site->tensors;
	tensors__begin(&t, &h, ctx);
	if (site->by_frame)
		t.stack = FRAME_REGISTER(ctx);
	if (!site->head || site->head & MP_TENSOR_RAW)
		tensors__raw(&t, site);
	if (!site->head) {
		COUNT(&h, matched, 1);
		return 0;
	}
	state = state__get(h.tid);
	if (!state)
		return 0;
	if (!tensors__wanted(&t, site, state)) {
		COUNT(&h, unguarded, 1);
		return 0;
	}
	t.computation = state->computation;
	if (tensors__read(&t, &h, state) && site->moment == MP_MOMENT_BEGIN)
		state->computation |= MP_COMPUTATION_REFUSED;
	return 0;
}
