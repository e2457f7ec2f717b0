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
	X(4, EMPTY, mp_empty)

enum mp_program {
#define X(id, name, function) MP_PROGRAM_##name = (id),
	MP_PROGRAMS(X)
#undef X
		MP_PROGRAM_COUNT
};

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
		__u8 bytes[112];
	};
};
_Static_assert(sizeof(struct mp_site) == 128, "mp_site is shared");
_Static_assert(MP_SITES * sizeof(struct mp_site) % 4096 == 0, "the table is mapped");

/* Counters of one row, one array per CPU; added up by the reader. X(id, name, meaning) */
#define MP_COUNTERS(X) \
	X(0, hits, "times the probed place was reached by the target") \
	X(1, foreign, "hits by another process") \
	X(2, unguarded, "hits that the guard turned away (other threads of the operator)") \
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
