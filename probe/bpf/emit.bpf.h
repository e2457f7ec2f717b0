/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What all kernel programs share: maps, the way from a hit to its row of the site table, and
 * the emitter. Rules that hold everywhere:
 *
 * - A program may be preempted and the same CPU may run it for another thread meanwhile. So
 *   nothing is built in per-CPU memory: a capture is copied straight into its reserved ring
 *   record, and counters are atomic.
 * - What is read from the target is hostile: every length is clamped where the verifier sees
 *   it, every read may fail, and a failed read discards the record and counts one `fault`.
 * - The reader polls, so nothing wakes it (a wake-up costs the target 30 us).
 */
#ifndef MP_BPF_EMIT_H
#define MP_BPF_EMIT_H

#include <linux/bpf.h>
#include <linux/ptrace.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "probe/abi/event.h"
#include "probe/abi/site.h"

/* Every object of the skeleton declares these; weak, so that linking makes them one. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 << 20); /* the loader sets its own: mp_config.ring_bytes */
} ring __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MP_SITES);
	__type(key, __u32);
	__type(value, struct mp_site);
} sites __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MP_SITES);
	__type(key, __u32);
	__type(value, struct mp_counters);
} counters __weak SEC(".maps");

/* Always empty: see site__none(). */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} no_programs __weak SEC(".maps");

const volatile struct mp_config config __weak = {};

/* Ring records come in three sizes, because the verifier wants them constant. */
#define RECORD_SMALL 256u
#define RECORD_MEDIUM 2048u
#define RECORD_LARGE 16384u
#define RECORD_HEAD 8u /* what the ring itself adds to a record */

/* @value (__u64) is at most @most, in words that the verifier understands and the compiler
 * cannot reason away. */
#define CLAMP(value, most) asm volatile("if %0 <= %1 goto +1\n\t%0 = %1" : "+r"(value) : "i"(most))

/* Four bytes of text, in memory order from the lowest byte on. */
#define TEXT4(a, b, c, d) ((__u32)(a) | (__u32)(b) << 8 | (__u32)(c) << 16 | (__u32)(d) << 24)

/* struct iovec and the part of struct msghdr that leads to it (POSIX, 64 bits). */
struct piece {
	__u64 base, length;
};
#define MSGHDR_VECTOR 16
#define MSGHDR_COUNT 24

/* One hit of one row. */
struct hit {
	const struct mp_site *site;
	struct mp_counters *counters;
	__u64 time_ns;
	__u64 object;
	__u32 row;
	__u32 tgid;
	__u32 tid;
	__u32 reserved;
};

#define COUNT(hit, name, n) __sync_fetch_and_add(&(hit)->counters->name, (n))

/*
 * The link's cookie names no row; does not happen. The tail call into an empty array falls
 * through. It stands here because a program with 64 bytes of stack or more is given a per-CPU
 * stack from kernel 6.13 on, shared with whoever preempts it, unless it holds a tail call.
 */
static __always_inline void site__none(struct pt_regs *ctx)
{
	bpf_tail_call(ctx, &no_programs, 0);
}

/* Ids of the caller: the thread's as the host sees it, the process's as the reader does; that is
 * 0 if it is in no namespace of the reader. */
static __always_inline void caller__identify(__u32 *tgid, __u32 *tid)
{
	__u64 both = bpf_get_current_pid_tgid();
	struct bpf_pidns_info info = {};

	*tid = (__u32)both;
	*tgid = both >> 32;
	if (!config.pid_namespace_dev)
		return;
	*tgid = 0;
	if (!bpf_get_ns_current_pid_tgid(config.pid_namespace_dev, config.pid_namespace_inode,
					 &info, sizeof(info)))
		*tgid = info.tgid;
}

/* Find the row of this hit and count it. 0, or -1: not ours, do nothing. */
static __always_inline int hit__begin(struct hit *h, struct pt_regs *ctx)
{
	__u32 row = bpf_get_attach_cookie(ctx);

	h->site = bpf_map_lookup_elem(&sites, &row);
	h->counters = bpf_map_lookup_elem(&counters, &row);
	if (!h->site || !h->counters) {
		site__none(ctx);
		return -1;
	}
	if (!h->site->enabled)
		return -1;
	h->row = row;
	caller__identify(&h->tgid, &h->tid);
	if (h->tgid != h->site->tgid) {
		COUNT(h, foreign, 1);
		return -1;
	}
	COUNT(h, hits, 1);
	return 0;
}

/* The hit is what the row looks for: give its capture an identity. */
static __always_inline void hit__match(struct hit *h, struct pt_regs *ctx)
{
	COUNT(h, matched, 1);
	h->time_ns = bpf_ktime_get_ns();
	h->object = PT_REGS_PARM1(ctx);
}

/* A capture with @rows rows or tokens does not fit into the ring. */
static __always_inline void hit__drop(struct hit *h, __u32 rows)
{
	COUNT(h, dropped, 1);
	COUNT(h, dropped_rows, rows);
}

/* Arguments in registers. The barriers keep the compiler from merging the loads into one with
 * a computed offset, which the verifier refuses on the context. */
#if defined(bpf_target_x86)
#define ARGUMENT5(ctx) __PT_REGS_CAST(ctx)->r9
#define FRAME_REGISTER(ctx) __PT_REGS_CAST(ctx)->r10
#define ARGUMENT_REGISTERS 6
#else
#define ARGUMENT5(ctx) 0
#define FRAME_REGISTER(ctx) 0
#endif

static __always_inline __u64 argument(struct pt_regs *ctx, __u32 number)
{
	__u64 value = 0;

#define ONE(n, from) \
	if (number == (n)) { \
		value = (from); \
		barrier_var(value); \
		return value; \
	}
	ONE(0, PT_REGS_PARM1(ctx))
	ONE(1, PT_REGS_PARM2(ctx))
	ONE(2, PT_REGS_PARM3(ctx))
	ONE(3, PT_REGS_PARM4(ctx))
	ONE(4, PT_REGS_PARM5(ctx))
	ONE(5, ARGUMENT5(ctx))
#undef ONE
	return 0;
}

/* Stack argument @number (0: the first that is not in a register), at a function's entry. */
static __always_inline __u64 stack_argument_address(struct pt_regs *ctx, __u32 number)
{
	return PT_REGS_SP(ctx) + 8 + 8 * (__u64)number;
}

/* 0 or an error; fixed @size, so no clamp is needed. */
static __always_inline long read_user(void *to, __u32 size, __u64 from)
{
	return bpf_probe_read_user(to, size, (const void *)from);
}

/* Follow @p; *@out is 0 where a pointer on the way is NULL. 0, or nonzero on a fault. */
static __always_inline long path__follow(const struct mp_path *p, struct pt_regs *ctx, __u64 *out)
{
	__u64 value = argument(ctx, p->base);
	__u32 steps = p->steps;

#pragma unroll
	for (int i = 0; i < MP_PATH_STEPS; i++) {
		if (i >= steps || !value)
			break;
		if (read_user(&value, sizeof(value), value + p->offset[i])) {
			*out = 0;
			return -1;
		}
	}
	*out = value;
	return 0;
}

/* 0xff for each byte of @word that is not 0, else 0. */
static __always_inline __u64 word__mask(__u64 word)
{
	const __u64 low = 0x7f7f7f7f7f7f7f7full;
	__u64 high = (((word & low) + low) | word) & ~low; /* 0x80 for each */

	return (high >> 7) * 0xff;
}

/* @text (at least MP_PREFIX_SIZE bytes, aligned to 8) begins with the NUL-padded @prefix. By words:
 * a branch for each letter would double what the verifier walks through at attach. */
static __always_inline int text__begins(const char *text, const char *prefix)
{
	__u64 differs = 0;

#pragma unroll
	for (int i = 0; i < MP_PREFIX_SIZE / 8; i++) {
		__u64 wanted = ((const __u64 *)prefix)[i];

		differs |= (((const __u64 *)text)[i] ^ wanted) & word__mask(wanted);
	}
	return !differs;
}
_Static_assert(MP_PREFIX_SIZE % 8 == 0, "compared by words");

/* Room for @bytes that leaves a quarter of the ring to events that cannot be missed. */
static __always_inline int ring__has_room(__u64 bytes)
{
	__u64 size = config.ring_bytes;

	if (!size)
		size = bpf_ringbuf_query(&ring, BPF_RB_RING_SIZE);
	return bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA) + bytes <= size - size / 4;
}

/* Where a chunk stands in its capture. */
struct chunk {
	__u16 kind;
	__u16 index, chunks;
	__u32 size; /* meaningful bytes, head included */
	__u32 total, first, count;
};

static __always_inline void event__fill(struct mp_event *e, const struct hit *h,
					const struct chunk *c)
{
	e->kind = c->kind;
	e->site = h->row;
	e->tgid = h->tgid;
	e->tid = h->tid;
	e->size = c->size;
	e->time_ns = h->time_ns;
	e->object = h->object;
	e->chunk = c->index;
	e->chunks = c->chunks;
	e->total = c->total;
	e->first = c->first;
	e->count = c->count;
}

/* Hand a filled record to the reader. */
static __always_inline void event__submit(void *record, struct hit *h, __u32 size)
{
	bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
	COUNT(h, events, 1);
	COUNT(h, bytes, size);
}

/* Take a record back whose contents could not be read. */
static __always_inline void event__fault(void *record, struct hit *h)
{
	bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);
	COUNT(h, fault, 1);
}

#endif
