/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The site table: what to capture, as data. One row a probed place, written by the reader
 * (memory-mapped) before the place is linked, found by the kernel program through the link's
 * cookie (the row number). Layouts of foreign structs are offsets that the reader derived and
 * verified; nothing here is a condition. If a place needs one, it needs a program.
 */
#ifndef MP_ABI_SITE_H
#define MP_ABI_SITE_H

#include <linux/types.h>

#define MP_SITES 128      /* rows in the table: blocks of them, one a process; whole pages */
#define MP_PATH_STEPS 4   /* dereferences at most */
#define MP_PREFIX_SIZE 16 /* bytes of a name guard */
#define MP_TOP_K 64       /* experts a token at most */
#define MP_ROWS_MAX 16384 /* rows of one computation at most; more are counted, not read */

/* Kernel programs (probe/bpf), in the order of the skeleton. X(id, name, section function) */
#define MP_PROGRAMS(X) \
	X(0, ROUTE, mp_route) \
	X(1, ROWS, mp_rows) \
	X(2, LINE, mp_line) \
	X(3, TASKS, mp_tasks) \
	X(4, EMPTY, mp_empty) \
	X(5, TENSORS, mp_tensors) \
	X(6, BYTES, mp_bytes) \
	X(7, HEADS, mp_heads)

enum mp_program {
#define X(id, name, function) MP_PROGRAM_##name = (id),
	MP_PROGRAMS(X)
#undef X
		MP_PROGRAM_COUNT
};

/* Number of the first argument that is on the stack, where a function has as many. */
#define MP_STACK_ARGUMENT 8

/* Where an 8-byte value is: start at argument @base (0 .. 5: registers, in calling order), then
 * @steps times load 8 bytes at (value + offset[i]). */
struct mp_path {
	__u8 base;
	__u8 steps; /* 0 .. MP_PATH_STEPS */
	__u16 offset[MP_PATH_STEPS];
	__u16 reserved[3];
};
_Static_assert(sizeof(struct mp_path) == 16, "mp_path is shared");

/* A ggml tensor: offsets of the fields that we read, in bytes. */
struct mp_tensor_layout {
	__u16 type, ne, nb, src, data, name;
	__u16 reserved[2];
	__u32 type_ids;     /* value of `type` for the ids (I32) */
	__u32 type_weights; /* value of `type` for the weights (F32) */
};
_Static_assert(sizeof(struct mp_tensor_layout) == 24, "mp_tensor_layout is shared");

/* MP_PROGRAM_ROUTE: the router's two tensors, seen from one operator call. */
struct mp_route_site {
	struct mp_path guard;        /* address of a __u32 that must be 0 (thread index) */
	struct mp_path ids;          /* address of the ids tensor; 0 there: no match */
	struct mp_path weights;      /* address of the weights tensor */
	char prefix[MP_PREFIX_SIZE]; /* the ids tensor's name must begin so; NUL-padded */
	struct mp_tensor_layout tensor;
};

/* MP_PROGRAM_ROWS: a batch with parallel columns. Offsets in the struct that `batch` leads to. */
struct mp_rows_site {
	struct mp_path batch;
	__u16 count;     /* __u32 number of rows */
	__u16 token;     /* __s32 *, may be NULL */
	__u16 position;  /* __s32 * */
	__u16 sequences; /* __s32 *: how many sequences a row is in */
	__u16 sequence;  /* __s32 **: one pointer a row */
	__u16 output;    /* __s8 * */
	__u16 reserved[2];
};

/* MP_PROGRAM_LINE: only lines whose format begins with @prefix. Arguments by the C ABI:
 * format in 2, function in 4, slot in 5, task and the rest on the stack. */
struct mp_line_site {
	char prefix[MP_PREFIX_SIZE];
};

/* MP_PROGRAM_TASKS: argument @argument points to {begin, end} of the elements. While an offset
 * is 0 the program looks for it in every 8-byte slot and reports what it found. */
struct mp_tasks_site {
	__u32 argument;
	__u32 element_size;  /* 0: not learned */
	__u32 text_offset;   /* pointer to the client's id; 0: not learned */
	__u32 tokens_offset; /* {begin, end} of __s32; 0: not learned */
	__u32 vocabulary;    /* tokens are in 0 .. vocabulary - 1; 0: unknown, then any >= 0 */
	__u32 tokens_max;    /* tokens read of one prompt at most */
	char prefix[MP_PREFIX_SIZE]; /* the client's id begins so */
};

/*
 * MP_PROGRAM_TENSORS: up to four libtorch tensors of one call. The first decides whether the hit
 * is what the row looks for; that a later one then breaks its rule is a capture given up (shape).
 */

/* When a row's hits count. X(id, NAME, what it means) */
#define MP_MOMENTS(X) \
	X(0, ALWAYS, "each hit") \
	X(1, BEGIN, "a computation of the thread begins") \
	X(2, ROUTE, "a router's result of the thread's computation") \
	X(3, FIRST, "the first hit in a computation") \
	X(4, REMEMBER, \
	  "where the tensor lies is noted; the first ROUTE delivers what is there then")

enum mp_moment {
#define X(id, name, text) MP_MOMENT_##name = (id),
	MP_MOMENTS(X)
#undef X
};

/* What is delivered of a tensor of 1 to 3 dimensions with adjacent elements in the last. */
enum mp_tensor_copy {
	MP_COPY_NOTHING = 0,  /* its address and first size go along with the others (`key`) */
	MP_COPY_ROWS = 1,     /* all, a row for each index but the last */
	MP_COPY_COLUMN = 2,   /* the first element of each such row */
	MP_COPY_ELEMENTS = 3, /* all, in rows of one element where all are adjacent, else as ROWS */
};

/* Bytes of a row that is not adjacent to the next one, at most. */
#define MP_STRIDED_ROW_MAX 256
/* Elements of an ELEMENTS copy at most. */
#define MP_ELEMENTS_MAX (1u << 20)

/* The tensor is handed over by reference: the argument points to a pointer to a TensorImpl. */
struct mp_tensor_rule {
	__u8 argument; /* 0 .. 5; MP_STACK_ARGUMENT + n: n-th on the stack, at an entry only */
	__u8 role;     /* enum mp_tensor_role (event.h), of our choice */
	__u8 copy;     /* enum mp_tensor_copy */
	__u8 reserved;
	__u8 dims_min, dims_max; /* 1 .. 3 */
	__u16 reserved2;
	__u32 dtypes;               /* bit i: ScalarType i */
	__u32 first_min, first_max; /* of the first size */
	__u32 last_min, last_max;   /* of the last size */
};
_Static_assert(sizeof(struct mp_tensor_rule) == 28, "mp_tensor_rule is shared");

#define MP_TENSOR_RULES 4 /* a power of two */
#define MP_NO_ARGUMENT 255
struct mp_tensors_site {
	/* Offsets in TensorImpl: of the pointer to its StorageImpl; of {ndim, sizes[5], strides[5],
	 * storage offset, numel, dtype, device}; in StorageImpl: of the data pointer.
	 * @head 0: not known yet; then the first bytes of each tensor are delivered instead. */
	__u16 storage, head, data;
	__u8 moment; /* enum mp_moment */
	__u8 rules;
	__u8 scalar[2]; /* arguments whose values go along, or MP_NO_ARGUMENT */
	__u8 by_frame;  /* arguments on the stack begin where the frame register (r10) says */
	__u8 truth;     /* argument, a bool, that must be true, else no match; 0: none */
	__u32 scalar_min, scalar_max; /* of the first, where there is one; else no match */
	__u32 reserved2;
	struct mp_tensor_rule rule[MP_TENSOR_RULES];
};

/* MP_PROGRAM_BYTES: what a call hands over to be sent. */
#define MP_BYTES_FORMS(X) \
	X(0, BUFFER, "(descriptor, buffer, length, ...)") \
	X(1, VECTOR, "(descriptor, iovec[], count)") \
	X(2, MESSAGE, "(descriptor, msghdr *, ...)") \
	X(3, OBJECT, "(object, buffer, length, ...): of a TLS library")

enum mp_bytes_form {
#define X(id, name, text) MP_BYTES_##name = (id),
	MP_BYTES_FORMS(X)
#undef X
};

struct mp_bytes_site {
	__u32 form;  /* enum mp_bytes_form */
	__u32 whole; /* longer pieces are delivered as head and tail (MP_BYTES_END each) */
	__u32 all;   /* deliver every piece; 0: only of channels that carry HTTP responses */
	__u32 reserved;
};

/* MP_PROGRAM_HEADS: heads of HTTP requests, as a process receives them. Not at a place of a file
 * but at the exit of system calls; the row is found by the process's number. */
struct mp_heads_site {
	__u32 most; /* bytes of a head at most */
	__u32 reserved;
};

/* What a row is for: the order in which rows fall silent (results first), and what a lost capture
 * of it means. */
enum mp_purpose { MP_PURPOSE_ROUTER, MP_PURPOSE_ROWS, MP_PURPOSE_IDENTITY, MP_PURPOSES };

struct mp_site {
	__u32 program; /* enum mp_program */
	__u32 tgid;    /* hits of other processes are counted as foreign and dropped */
	__u32 enabled; /* 0: the row is ignored */
	__u32 reserved;
	union {
		struct mp_route_site route;
		struct mp_rows_site rows;
		struct mp_line_site line;
		struct mp_tasks_site tasks;
		struct mp_tensors_site tensors;
		struct mp_bytes_site sent;
		struct mp_heads_site heads;
		__u8 bytes[240];
	};
};
_Static_assert(sizeof(struct mp_site) == 256, "mp_site is shared");
_Static_assert(MP_SITES * sizeof(struct mp_site) % 4096 == 0, "the table is mapped");

static inline enum mp_purpose mp_site__purpose(const struct mp_site *s)
{
	if (s->program == MP_PROGRAM_ROUTE)
		return MP_PURPOSE_ROUTER;
	if (s->program == MP_PROGRAM_ROWS)
		return MP_PURPOSE_ROWS;
	if (s->program != MP_PROGRAM_TENSORS)
		return MP_PURPOSE_IDENTITY;
	return s->tensors.moment == MP_MOMENT_ROUTE ? MP_PURPOSE_ROUTER : MP_PURPOSE_ROWS;
}

/* Counters of one row, one array per CPU; added up by the reader. X(id, name, meaning) */
#define MP_COUNTERS(X) \
	X(0, hits, "times the probed place was reached by the target") \
	X(1, foreign, "hits by another process") \
	X(2, unguarded, \
	  "hits that the guard turned away (other threads of the operator); pieces of what is " \
	  "no HTTP response") \
	X(3, matched, "hits that are what the row looks for") \
	X(4, fault, "captures given up because the target's memory could not be read") \
	X(5, shape, "captures given up because a shape, type or limit did not hold") \
	X(6, events, "events (chunks) delivered to the ring") \
	X(7, dropped, "captures lost because the ring was full") \
	X(8, dropped_rows, "rows (ROUTE, ROWS) or tokens in those captures") \
	X(9, bytes, "bytes delivered to the ring") \
	X(10, unreadable, "hits given up unreadable before it was known what they are")

struct mp_counters {
#define X(id, name, text) __u64 name;
	MP_COUNTERS(X)
#undef X
	__u64 reserved[5];
};
_Static_assert(sizeof(struct mp_counters) == 128, "mp_counters is shared");

/* Constants set before the programs are loaded. */
struct mp_config {
	__u64 pid_namespace_dev; /* 0: the reader is in the initial pid namespace */
	__u64 pid_namespace_inode;
	__u32 ring_bytes; /* size of the ring; routes leave a quarter of it to the rest */
	__u32 reserved;
};
_Static_assert(sizeof(struct mp_config) == 24, "mp_config is shared");

#endif
