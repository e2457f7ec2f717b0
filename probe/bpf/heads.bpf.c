/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The program for heads of HTTP requests, loaded only where headers were asked for. What a process
 * receives is there when its system call returns, and return probes are out of the question: so it
 * stands at the tracepoint of that exit, which every system call of the machine passes. The
 * processes that it looks at are those that the broker put into `listeners`; for all others a look
 * into that map is all. Of a request its head is copied, up to the empty line and no byte behind
 * it.
 */
#include "probe/bpf/channel.bpf.h"
#include "probe/bpf/emit.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define MEDIUM_BYTES (RECORD_MEDIUM - (__u32)sizeof(struct mp_event_bytes))
#define LARGE_BYTES (RECORD_LARGE - (__u32)sizeof(struct mp_event_bytes))
#define WORD 8u
#define HEAD_MAX 8192u              /* bytes of a head, whatever a row of the table says */
#define UNFINISHED_NS 5000000000ull /* a head that does not go on for so long will not */

/* Row of the site table, by process. Written by the broker: unlike the table, which the reader
 * writes, it says whose bytes may be read. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MP_SITES);
	__type(key, __u32);
	__type(value, __u32);
} listeners SEC(".maps");

/* A connection, by descriptor: an accepted one, or one on which a request was seen. */
struct stream_key {
	__u32 tgid, descriptor;
};
struct stream {
	__u64 received; /* bytes */
	__u64 until_ns;
	__u32 left; /* bytes of the head that may still be delivered; 0: none is open */
	__u8 line;  /* enum line */
	__u8 opened, missing;
	__u8 reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct stream_key);
	__type(value, struct stream);
} streams SEC(".maps");

/* As `no_programs`, for programs of this kind. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} no_heads SEC(".maps");

/* Where in a line the bytes end that were looked at. */
enum line { LINE_INSIDE, LINE_BEGIN, LINE_RETURN, LINE_EMPTY };

/* One call that returned. */
struct arrival {
	struct hit hit;
	struct stream *stream;
	struct piece piece; /* its first, cut to what may be of a head */
	__u64 received;     /* bytes of all pieces */
	__u64 descriptor;
	__u64 position; /* of the first of them */
	__u32 head;     /* bytes of the head in the piece */
	__u32 line;
	__u32 flags;
	__u32 failed;
};

/* --- system calls ----------------------------------------------------------------------------- */

#if defined(bpf_target_x86)
enum { READ = 0, READV = 19, ACCEPT = 43, RECVFROM = 45, RECVMSG = 47, ACCEPT4 = 288 };
#define PEEK 2 /* MSG_PEEK: the bytes come again */

/* The kernel's struct pt_regs, whose fields linux/ptrace.h names; adjacent there. */
struct call {
	__u64 third, second, first, number;
};
#define CALL_OFFSET __builtin_offsetof(struct pt_regs, rdx)
#define FOURTH_OFFSET __builtin_offsetof(struct pt_regs, r10)
_Static_assert(__builtin_offsetof(struct pt_regs, orig_rax) == CALL_OFFSET + 24, "read at once");

static __always_inline int call__peeks(const struct call *c, const void *registers)
{
	__u64 flags = 0;

	if (c->number == RECVMSG)
		flags = c->third;
	else if (c->number == RECVFROM)
		bpf_probe_read_kernel(&flags, sizeof(flags), registers + FOURTH_OFFSET);
	return flags & PEEK;
}

/* A connection begins: what was known of its number was of another one. */
static __always_inline void open_stream(struct arrival *a)
{
	struct channel_key sent = { a->received, a->hit.tgid, 0 };
	struct stream_key key = { a->hit.tgid, a->received };
	struct stream fresh = { .opened = 1 };

	bpf_map_delete_elem(&channels, &sent);
	bpf_map_update_elem(&streams, &key, &fresh, BPF_ANY);
}

/* 1: something was received, and is described in @a; 0: nothing to look at. */
static __always_inline int call__receives(struct arrival *a, const void *registers)
{
	struct call c;
	__u64 vector;

	if (bpf_probe_read_kernel(&c, sizeof(c), registers + CALL_OFFSET))
		return 0;
	a->descriptor = c.first & 0xffffffff;
	vector = c.second;
	switch (c.number) {
	case ACCEPT:
	case ACCEPT4:
		open_stream(a);
		return 0;
	case READ:
	case RECVFROM:
		a->piece.base = c.second;
		a->piece.length = a->received;
		return !call__peeks(&c, registers);
	case RECVMSG:
		if (call__peeks(&c, registers) ||
		    read_user(&vector, sizeof(vector), c.second + MSGHDR_VECTOR))
			return 0;
		break;
	case READV:
		break;
	default:
		return 0;
	}
	if (read_user(&a->piece, sizeof(a->piece), vector))
		return 0;
	if (a->piece.length > a->received)
		a->piece.length = a->received;
	return 1;
}
#else
static __always_inline int call__receives(struct arrival *a, const void *registers)
{
	return 0;
}
#endif

/* --- heads ------------------------------------------------------------------------------------ */

static __always_inline int begins_request(__u64 start)
{
	__u32 word = (__u32)start;

	return word == TEXT4('P', 'O', 'S', 'T') || word == TEXT4('G', 'E', 'T', ' ') ||
	       word == TEXT4('P', 'U', 'T', ' ') || word == TEXT4('H', 'E', 'A', 'D') ||
	       word == TEXT4('P', 'A', 'T', 'C') || word == TEXT4('D', 'E', 'L', 'E') ||
	       word == TEXT4('O', 'P', 'T', 'I');
}

static __always_inline __u32 line__next(__u32 line, __u8 c)
{
	if (c == '\n')
		return line == LINE_INSIDE ? LINE_BEGIN : LINE_EMPTY;
	return c == '\r' && line == LINE_BEGIN ? LINE_RETURN : LINE_INSIDE;
}

/* Look for the end of the head in the next word. */
static long look_at_word(__u32 i, struct arrival *a)
{
	__u64 word = 0, at = (__u64)i * WORD, bytes = a->piece.length - at;

	CLAMP(bytes, WORD);
	if (bpf_probe_read_user(&word, bytes, (const void *)(a->piece.base + at))) {
		a->failed = 1;
		return 1;
	}
	for (int j = 0; j < WORD; j++) {
		if (j >= bytes)
			break;
		a->line = line__next(a->line, word >> 8 * j & 0xff);
		a->head++;
		if (a->line == LINE_EMPTY)
			return 1;
	}
	return 0;
}

static __always_inline int emit_head(struct arrival *a, const __u32 class, const __u32 most)
{
	__u64 bytes = a->head;
	struct chunk c = { MP_EVENT_BYTES, 0, 1, 0, a->head, 0, a->head };
	struct mp_event_bytes *e;

	CLAMP(bytes, most);
	c.size = sizeof(*e) + bytes;
	e = bpf_ringbuf_reserve(&ring, class, 0);
	if (!e) {
		hit__drop(&a->hit, 0);
		return -1;
	}
	a->hit.object = a->position;
	event__fill(&e->event, &a->hit, &c);
	e->length = a->received;
	e->channel = a->descriptor;
	e->flags = a->flags;
	e->form = MP_BYTES_BUFFER;
	if (bpf_probe_read_user(e + 1, bytes, (const void *)a->piece.base)) {
		event__fault(e, &a->hit);
		return -1;
	}
	event__submit(e, &a->hit, c.size);
	return 0;
}

/* The stream that the bytes are of, made where they begin a request; NULL: none that matters. */
static __always_inline struct stream *stream__of(struct arrival *a, int begins)
{
	struct stream_key key = { a->hit.tgid, a->descriptor };
	struct stream *s = bpf_map_lookup_elem(&streams, &key), fresh = {};

	if (s || !begins)
		return s;
	bpf_map_update_elem(&streams, &key, &fresh, BPF_NOEXIST);
	return bpf_map_lookup_elem(&streams, &key);
}

/* Which of the bytes are of a head. 0: none. */
static __always_inline int find_head(struct arrival *a, int begins)
{
	struct stream *s = a->stream;

	if (begins) {
		s->left = a->hit.site->heads.most;
		if (s->left > HEAD_MAX) /* the reader wrote that */
			s->left = HEAD_MAX;
		s->line = LINE_INSIDE;
		s->until_ns = a->hit.time_ns + UNFINISHED_NS;
	}
	if (!s->left || a->hit.time_ns > s->until_ns) {
		s->left = 0;
		return 0;
	}
	a->line = s->line;
	if (a->piece.length > s->left)
		a->piece.length = s->left;
	bpf_loop((a->piece.length + WORD - 1) / WORD, look_at_word, a, 0);
	if (a->failed)
		COUNT(&a->hit, fault, 1);
	/* More in further pieces of the call: what comes next does not go on here. */
	if (a->failed || a->line == LINE_EMPTY || a->received > a->head)
		s->left = 0;
	else
		s->left -= a->head;
	s->line = a->line;
	return !a->failed;
}

static __always_inline void deliver(struct arrival *a, int begins)
{
	struct stream *s = a->stream;
	int err;

	a->flags = MP_BYTES_RECEIVED | (begins ? MP_BYTES_BEGINS : 0) |
		   (a->line == LINE_EMPTY ? MP_BYTES_ENDS : 0) | (s->opened ? MP_BYTES_OPENED : 0) |
		   (s->missing ? MP_BYTES_LOST : 0);
	COUNT(&a->hit, matched, 1);
	if (a->head <= MEDIUM_BYTES)
		err = emit_head(a, RECORD_MEDIUM, MEDIUM_BYTES);
	else
		err = emit_head(a, RECORD_LARGE, LARGE_BYTES);
	s->missing = err != 0;
	if (!err)
		s->opened = 0;
}

static __always_inline void arrive(struct arrival *a)
{
	__u64 start = 0, bytes = a->piece.length;
	int begins;

	CLAMP(bytes, WORD);
	if (bpf_probe_read_user(&start, bytes, (const void *)a->piece.base))
		return;
	begins = begins_request(start);
	a->stream = stream__of(a, begins);
	if (!a->stream)
		return;
	a->position = a->stream->received;
	a->stream->received += a->received;
	if (!begins && !a->stream->left)
		return;
	a->hit.time_ns = bpf_ktime_get_ns();
	if (find_head(a, begins))
		deliver(a, begins);
	else if (a->failed)
		a->stream->missing = 1;
}

/* The row of the process at hand. 0, or -1: none of those that are looked at. */
static __always_inline int listener__find(struct hit *h, void *ctx)
{
	__u32 *row;

	caller__identify(&h->tgid, &h->tid);
	row = bpf_map_lookup_elem(&listeners, &h->tgid);
	if (!row)
		return -1;
	h->row = *row;
	h->site = bpf_map_lookup_elem(&sites, &h->row);
	h->counters = bpf_map_lookup_elem(&counters, &h->row);
	if (!h->site || !h->counters) {
		bpf_tail_call(ctx, &no_heads, 0); /* see site__none() */
		return -1;
	}
	return h->site->enabled ? 0 : -1;
}

SEC("raw_tp/sys_exit")
int mp_heads(struct bpf_raw_tracepoint_args *ctx)
{
	const void *registers = (const void *)ctx->args[0];
	struct arrival a = {};

	a.received = ctx->args[1];
	if ((__s64)a.received <= 0 || listener__find(&a.hit, ctx))
		return 0;
	if (!call__receives(&a, registers))
		return 0;
	COUNT(&a.hit, hits, 1);
	arrive(&a);
	return 0;
}
