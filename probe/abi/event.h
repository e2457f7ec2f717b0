/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Raw events: what the kernel programs (probe/bpf) put into the ring and an engine
 * (probe/engine) takes out. Private to one build; the stream (collector/trace) is the contract
 * with everybody else. Little-endian, fixed width, explicit padding, sizes asserted.
 *
 * A large capture is cut into chunks. All chunks of one capture carry the same (tid, time_ns),
 * their index and count; who gives a capture up counts it: a program in its counters (dropped,
 * fault), the reader as a loss. What there is of it is dropped.
 */
#ifndef MP_ABI_EVENT_H
#define MP_ABI_EVENT_H

#include <linux/types.h>

/* X(id, NAME, what it carries). Ids are never reused. */
#define MP_EVENTS(X) \
	X(1, ROUTE, "one router result: rows x k expert ids and final gate weights") \
	X(2, ROWS, "the rows of one forward computation: token, position, sequence, output") \
	X(3, TEXT_LINE, "one formatted-log call: function, format, its first integers") \
	X(4, TASK, "one queued server task: id, kind, the client's id") \
	X(5, TASK_TOKENS, "the prompt of a queued task as token ids") \
	X(6, TENSOR, "one libtorch tensor of a call") \
	X(7, BYTES, \
	  "bytes that a call hands over to be sent, or of a request's head that it received")

enum mp_event_kind {
#define X(id, name, text) MP_EVENT_##name = (id),
	MP_EVENTS(X)
#undef X
};

/* Head of every raw event; payload follows at sizeof(struct mp_event). */
struct mp_event {
	__u16 kind;    /* enum mp_event_kind */
	__u16 site;    /* row of the site table that fired */
	__u32 tgid;    /* process id as seen from the reader's pid namespace */
	__u32 tid;     /* thread id, host view; only an identity within the process */
	__u32 size;    /* bytes of head and payload that are meaningful */
	__u64 time_ns; /* CLOCK_MONOTONIC at the hit */
	__u64 object;  /* first argument of the probed function (an address: identity only) */
	__u16 chunk;   /* 0 .. chunks - 1 */
	__u16 chunks;
	__u32 total; /* rows (ROUTE, ROWS, TENSOR), tokens (TASK_TOKENS), bytes of the whole capture
		      */
	__u32 first; /* first row, token or byte in this chunk */
	__u32 count; /* rows, tokens or bytes in this chunk */
};
_Static_assert(sizeof(struct mp_event) == 48, "mp_event is shared by kernel and reader");

#define MP_NAME_SIZE 32

/* In a route's `computation`: its rows were read but refused (fault, shape), not lost. */
#define MP_COMPUTATION_REFUSED 0x80000000u

/* MP_EVENT_ROUTE: then __s32 ids[count][k], then float weights[count][k] (bits as __u32). */
struct mp_event_route {
	struct mp_event event;
	char name[MP_NAME_SIZE]; /* name of the ids tensor, "ffn_moe_topk-<layer>" */
	__u32 k;                 /* ids a row */
	__u32 experts;           /* row stride of the ids tensor in ids: number of experts */
	__u32 computation;       /* of this thread: number of the ROWS hit it belongs to */
	__u32 reserved;
};
_Static_assert(sizeof(struct mp_event_route) == 96, "mp_event_route is shared");

/*
 * MP_EVENT_ROWS: then, each of count entries: __s32 token[], __s32 position[],
 * __s32 sequence[] (the first of a row's sequences), __u8 output[], __u8 sequences[]
 * (how many sequences the row belongs to, 255 for more), each column padded to 8 bytes.
 */
#define MP_ROWS_NO_TOKENS 1u /* embeddings were given instead: the token column holds nothing */
struct mp_event_rows {
	struct mp_event event;
	__u32 flags;
	__u32 computation; /* ROWS hits of this thread, this one included; also those that were lost
			    */
};
_Static_assert(sizeof(struct mp_event_rows) == 56, "mp_event_rows is shared");

/* MP_EVENT_TEXT_LINE: a call f(_, level, format, width, function, slot, task, ...). */
#define MP_LINE_ARGS 4
struct mp_event_line {
	struct mp_event event;
	char format[128];            /* NUL-terminated, cut */
	char function[MP_NAME_SIZE]; /* NUL-terminated, cut */
	__s32 slot;
	__s32 task;
	__s64 args[MP_LINE_ARGS]; /* the variable arguments after task, as 8-byte stack slots */
};
_Static_assert(sizeof(struct mp_event_line) == 248, "mp_event_line is shared");

/* MP_EVENT_TASK: one task of a batch queued by one call. */
#define MP_CLIENT_ID_SIZE 64
struct mp_event_task {
	struct mp_event event;
	__u32 index;       /* task within the call */
	__u32 tasks;       /* tasks in the call; 0: element size not learned yet */
	__u32 span;        /* bytes of the whole vector */
	__s32 task;        /* first int of the element: the server's task id */
	__u32 text_offset; /* where in the element the client's id was found; 0: nowhere */
	__u32 texts;       /* how many candidates for it there were (learning accepts only 1) */
	char client_id[MP_CLIENT_ID_SIZE];
};
_Static_assert(sizeof(struct mp_event_task) == 136, "mp_event_task is shared");

/* MP_EVENT_TASK_TOKENS: then __s32 tokens[count]. Same (tid, time_ns, index) as its TASK; while
 * learning, one capture for each vector of plausible tokens, told apart by @offset. */
struct mp_event_tokens {
	struct mp_event event;
	__u32 index;
	__s32 task;
	__u32 offset; /* of the vector's {begin, end} in the element */
	__u32 reserved;
};
_Static_assert(sizeof(struct mp_event_tokens) == 64, "mp_event_tokens is shared");

/* X(id, NAME, what the tensor is). The reader writes them into the site table. */
#define MP_TENSOR_ROLES(X) \
	X(1, SCORES, "scores of all experts, rows x experts") \
	X(2, IDS, "chosen experts, rows x k") \
	X(3, WEIGHTS, "their weights, rows x k") \
	X(4, TOKENS, "token ids of a computation's rows") \
	X(5, POSITIONS, "positions of a computation's rows, times a constant") \
	X(6, SLOTS, "where each row's keys and values go in a cache") \
	X(7, STARTS, "first row of each sequence") \
	X(8, BLOCKS, "first cache block of each sequence") \
	X(9, KEY, "only where it lies: the identity of a layer or a model")

enum mp_tensor_role {
#define X(id, name, text) MP_ROLE_##name = (id),
	MP_TENSOR_ROLES(X)
#undef X
};

#define MP_TENSOR_RAW 1u /* the layout is not known yet: the bytes are the TensorImpl's own */
#define MP_TENSOR_RAW_BYTES 192u
#define MP_TENSOR_DEVICE 2u /* not in this machine's memory: no rows */

/* MP_EVENT_TENSOR: then count rows of row_bytes each. Tensors of one call share (tid, time_ns,
 * site) and come in the order of the row's rules; `event.object` is the TensorImpl's address. */
struct mp_event_tensor {
	struct mp_event event;
	__u8 role;  /* enum mp_tensor_role */
	__u8 dtype; /* c10::ScalarType */
	__u8 dims;
	__u8 flags;        /* MP_TENSOR_* */
	__u32 computation; /* of this thread, as in ROUTE; MP_COMPUTATION_REFUSED may be set */
	__u32 row_bytes;
	__u32 key_first; /* first size of the tensor with role KEY, and where its data lies; 0: none
			  */
	__u64 key;
	__u64 data;      /* address of the first element */
	__u64 storage;   /* SLOTS: bytes of the allocation that it lies in; else 0 */
	__u32 size[3];   /* of the dimensions; 0 where there is none */
	__u32 ordinal;   /* ROUTE: results matched in this computation before it, lost ones too */
	__s64 scalar[2]; /* as the row asked; 0: not asked */
	__u32 key_dtype; /* c10::ScalarType of the tensor with role KEY */
	__u32 reserved;
};
_Static_assert(sizeof(struct mp_event_tensor) == 128, "mp_event_tensor is shared");

/* MP_EVENT_BYTES: then count bytes. With a gap: MP_BYTES_END bytes of its head, then as many of its
 * end. One call may hand over several pieces: they come in order, with one time. `event.object` is
 * where the piece lies. */
#define MP_BYTES_END 896u
#define MP_BYTES_GAP 1u
#define MP_BYTES_LOST 2u /* pieces of this channel are missing before it */
/* Received: the part of a request's head that one call brought, and nothing behind the head.
 * `length` are the bytes of the call, `event.object` is how many came on this connection before,
 * since it was accepted or first looked at. */
#define MP_BYTES_RECEIVED 4u
#define MP_BYTES_OPENED 8u  /* nothing of this connection was delivered since it was accepted */
#define MP_BYTES_BEGINS 16u /* it begins as a request does; else more of the head before it */
#define MP_BYTES_ENDS 32u   /* the head's end is in it */
struct mp_event_bytes {
	struct mp_event event; /* total: bytes delivered */
	__u64 length;          /* bytes of the piece */
	__u64 channel;         /* the descriptor, or the address of a TLS connection */
	__u32 flags;           /* MP_BYTES_* */
	__u32 form;            /* enum mp_bytes_form */
};
_Static_assert(sizeof(struct mp_event_bytes) == 72, "mp_event_bytes is shared");

#endif
