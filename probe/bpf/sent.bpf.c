/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The program for what a process sends: at the entry of send(), write(), sendmsg() and the like,
 * where all of it is there and no return probe is needed. */
#include "probe/bpf/channel.bpf.h"
#include "probe/bpf/emit.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define PIECES_MAX 16u /* of one call */
#define CHUNK_BYTES (RECORD_LARGE - (__u32)sizeof(struct mp_event_bytes))
#define MEDIUM_BYTES (RECORD_MEDIUM - (__u32)sizeof(struct mp_event_bytes))
#define SMALL_BYTES (RECORD_SMALL - (__u32)sizeof(struct mp_event_bytes))
_Static_assert(2 * MP_BYTES_END <= MEDIUM_BYTES, "head and tail fit into one record");

#define CREDIT_NEW 8u
#define CREDIT_KNOWN 64u /* behind a status line, or in a stream of events */

struct sent {
	struct hit hit;
	__u64 channel;
	struct channel *known; /* NULL: the map has no room */
	__u64 vector;          /* address of the pieces */
	struct piece piece;
	__u32 form, whole;
	__u32 chunks, total;
	__u32 failed;
	__u32 flags; /* of the piece */
	__u32 all;   /* pieces are wanted, whatever they are */
	__u32 reserved;
};

static __always_inline void sent__lose(struct sent *s)
{
	if (s->known)
		s->known->missing = 1;
}

static __always_inline void event__describe(struct mp_event_bytes *e, const struct sent *s,
					    __u32 flags)
{
	e->event.object = s->piece.base; /* what is offered again after a short write lies there */
	e->length = s->piece.length;
	e->channel = s->channel;
	e->flags = flags;
	e->form = s->form;
}

static __always_inline long sent__emit(struct sent *s, __u32 index, __u32 first, __u32 count,
				       const __u32 class, const __u32 most)
{
	__u64 bytes = count;
	struct chunk c = { MP_EVENT_BYTES, index, s->chunks, 0, s->total, first, count };
	struct mp_event_bytes *e;

	CLAMP(bytes, most);
	c.size = sizeof(*e) + bytes;
	e = bpf_ringbuf_reserve(&ring, class, 0);
	if (!e) {
		hit__drop(&s->hit, 0);
		sent__lose(s);
		s->failed = 1;
		return 1;
	}
	event__fill(&e->event, &s->hit, &c);
	event__describe(e, s, s->flags);
	if (bpf_probe_read_user(e + 1, bytes, (const void *)(s->piece.base + first))) {
		event__fault(e, &s->hit);
		sent__lose(s);
		s->failed = 1;
		return 1;
	}
	event__submit(e, &s->hit, c.size);
	return 0;
}

static long sent__chunk(__u32 index, struct sent *s)
{
	__u32 first = index * CHUNK_BYTES;
	__u32 count = s->total - first;

	if (count <= SMALL_BYTES)
		return sent__emit(s, index, first, count, RECORD_SMALL, SMALL_BYTES);
	if (count <= MEDIUM_BYTES)
		return sent__emit(s, index, first, count, RECORD_MEDIUM, MEDIUM_BYTES);
	if (count > CHUNK_BYTES)
		count = CHUNK_BYTES;
	return sent__emit(s, index, first, count, RECORD_LARGE, CHUNK_BYTES);
}

/* Head and end of a piece that is longer than is read whole. */
static __always_inline void sent__ends(struct sent *s)
{
	struct chunk c = { MP_EVENT_BYTES,
			   0,
			   1,
			   sizeof(struct mp_event_bytes) + 2 * MP_BYTES_END,
			   2 * MP_BYTES_END,
			   0,
			   2 * MP_BYTES_END };
	struct mp_event_bytes *e = bpf_ringbuf_reserve(&ring, RECORD_MEDIUM, 0);

	if (!e) {
		hit__drop(&s->hit, 0);
		sent__lose(s);
		return;
	}
	event__fill(&e->event, &s->hit, &c);
	event__describe(e, s, s->flags | MP_BYTES_GAP);
	if (bpf_probe_read_user(e + 1, MP_BYTES_END, (const void *)s->piece.base) ||
	    bpf_probe_read_user((void *)(e + 1) + MP_BYTES_END, MP_BYTES_END,
				(const void *)(s->piece.base + s->piece.length - MP_BYTES_END))) {
		event__fault(e, &s->hit);
		sent__lose(s);
	} else {
		event__submit(e, &s->hit, c.size);
	}
}

/* The first bytes of a piece, in memory order from the lowest byte on. */
#define START_BYTES 8

static __always_inline int start__is_status_line(__u64 start)
{
	const __u64 wanted = TEXT4('H', 'T', 'T', 'P') | (__u64)TEXT4('/', '1', '.', 0) << 32;

	return (start & ~(0xffull << 56)) == wanted;
}

/* Of a request: this process is somebody's client there. */
static __always_inline int start__is_request(__u64 start)
{
	__u32 word = (__u32)start;

	return word == TEXT4('G', 'E', 'T', ' ') || word == TEXT4('P', 'O', 'S', 'T') ||
	       word == TEXT4('P', 'U', 'T', ' ') || word == TEXT4('H', 'E', 'A', 'D') ||
	       word == TEXT4('P', 'A', 'T', 'C') || word == TEXT4('D', 'E', 'L', 'E') ||
	       word == TEXT4('C', 'O', 'N', 'N') || word == TEXT4('P', 'R', 'I', ' ');
}

/* A chunk's size, or a line of an event: more of a response. */
static __always_inline int start__is_chunk(__u64 start)
{
	__u32 word = (__u32)start;

	if (word == TEXT4('d', 'a', 't', 'a') || word == TEXT4('e', 'v', 'e', 'n'))
		return 1;
#pragma unroll
	for (int i = 0; i + 1 < START_BYTES; i++) {
		__u32 c = start >> 8 * i & 0xff;

		if (c - '0' > 9 && (c | 0x20) - 'a' > 5)
			return i && c == '\r' && (start >> 8 * (i + 1) & 0xff) == '\n';
	}
	return 0;
}

static __always_inline int sent__deliver(struct sent *s, struct channel *known)
{
	if (known->missing)
		s->flags = MP_BYTES_LOST;
	known->missing = 0;
	return 1;
}

/* Whether the piece may be of a response; where its start cannot be read it may. */
static __always_inline int sent__is_wanted(struct sent *s)
{
	struct channel *known = s->known;
	__u64 start = 0, bytes = s->piece.length;

	s->flags = 0;
	if (!known)
		return 1;
	if (s->all)
		return sent__deliver(s, known);
	CLAMP(bytes, START_BYTES);
	if (bpf_probe_read_user(&start, bytes, (const void *)s->piece.base))
		return 1;
	if (start__is_status_line(start)) {
		known->credit = CREDIT_KNOWN;
	} else if (!known->credit || start__is_request(start)) {
		known->credit = 0;
		known->missing = 1;
		COUNT(&s->hit, unguarded, 1);
		return 0;
	} else {
		known->credit = start__is_chunk(start) ? CREDIT_KNOWN : known->credit - 1;
	}
	return sent__deliver(s, known);
}

/* What is known of the channel, made if need be. */
static __always_inline void sent__know(struct sent *s)
{
	struct channel_key key = { s->channel, s->hit.tgid, s->form == MP_BYTES_OBJECT };
	struct channel fresh = { .credit = CREDIT_NEW };

	s->known = bpf_map_lookup_elem(&channels, &key);
	if (s->known)
		return;
	bpf_map_update_elem(&channels, &key, &fresh, BPF_NOEXIST);
	s->known = bpf_map_lookup_elem(&channels, &key);
}

static __always_inline void sent__piece(struct sent *s)
{
	if (!s->piece.length || !sent__is_wanted(s))
		return;
	if (s->piece.length > s->whole && s->piece.length > 2 * MP_BYTES_END) {
		sent__ends(s);
		return;
	}
	s->total = s->piece.length;
	s->chunks = (s->total + CHUNK_BYTES - 1) / CHUNK_BYTES;
	bpf_loop(s->chunks, sent__chunk, s, 0);
}

static long sent__vector(__u32 i, struct sent *s)
{
	if (read_user(&s->piece, sizeof(s->piece), s->vector + i * sizeof(s->piece))) {
		COUNT(&s->hit, fault, 1);
		sent__lose(s);
		return 1;
	}
	sent__piece(s);
	return s->failed ? 1 : 0;
}

/* Where the pieces are, and how many; 0 and counted on a fault. */
static __always_inline __u64 sent__pieces(struct sent *s, struct pt_regs *ctx)
{
	__u64 message = argument(ctx, 1), count;

	s->vector = message;
	if (s->form != MP_BYTES_MESSAGE)
		return argument(ctx, 2) & 0xffffffff;
	if (read_user(&s->vector, 8, message + MSGHDR_VECTOR) ||
	    read_user(&count, 8, message + MSGHDR_COUNT)) {
		COUNT(&s->hit, fault, 1);
		return 0;
	}
	return count;
}

SEC("uprobe")
int mp_bytes(struct pt_regs *ctx)
{
	struct sent s = {};
	__u64 count;
	int clipped;

	if (hit__begin(&s.hit, ctx))
		return 0;
	s.form = s.hit.site->sent.form;
	s.whole = s.hit.site->sent.whole;
	s.all = s.hit.site->sent.all;
	s.channel = argument(ctx, 0);
	if (s.form != MP_BYTES_OBJECT)
		s.channel &= 0xffffffff; /* an int: the upper half may hold anything */
	hit__match(&s.hit, ctx);
	sent__know(&s);
	if (s.form == MP_BYTES_BUFFER || s.form == MP_BYTES_OBJECT) {
		s.piece.base = argument(ctx, 1);
		s.piece.length = argument(ctx, 2);
		sent__piece(&s);
		return 0;
	}
	count = sent__pieces(&s, ctx);
	clipped = count > PIECES_MAX;
	if (clipped) {
		COUNT(&s.hit, shape, 1);
		count = PIECES_MAX;
	}
	bpf_loop(count, sent__vector, &s, 0);
	if (clipped)
		sent__lose(&s);
	return 0;
}
