/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The bytes and values of a GGUF header, in order. A header may be many megabytes of vocabulary
 * of which hardly anything is wanted, so a file is read through a small window.
 */
#ifndef MP_TARGET_GGUF_STREAM_H
#define MP_TARGET_GGUF_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GGUF_WINDOW 65536
/* What a header may take. The largest known are some 20 MB of vocabulary; a sparse file of a
 * terabyte must not keep us busy. */
#define GGUF_HEADER_MAX (256u << 20)

/* X(id, NAME, bytes a value; 0: of its own length) */
#define GGUF_VALUES(X) \
	X(0, U8, 1) \
	X(1, I8, 1) \
	X(2, U16, 2) \
	X(3, I16, 2) \
	X(4, U32, 4) \
	X(5, I32, 4) \
	X(6, F32, 4) \
	X(7, BOOL, 1) \
	X(8, STRING, 0) \
	X(9, ARRAY, 0) \
	X(10, U64, 8) \
	X(11, I64, 8) \
	X(12, F64, 8)

enum gguf_value {
#define X(id, name, bytes) GGUF_##name = id,
	GGUF_VALUES(X)
#undef X
};

/* After the first failure @why says what is wrong (static text), and reads give zeros. */
struct gguf_stream {
	int fd;                /* -1: @memory */
	const uint8_t *memory; /* borrowed */
	uint64_t size, at;
	uint64_t window_at;
	size_t window_size;
	const char *why;
	int errnum; /* of a failed read, else 0 */
	uint8_t window[GGUF_WINDOW];
};

/* Text of the file, valid until the next read; not NUL-terminated. */
struct gguf_text {
	const char *bytes;
	size_t size;
};

void gguf_stream__fail(struct gguf_stream *s, const char *why);
/* The next @n <= GGUF_WINDOW bytes, valid until the next read; NULL: failed. */
const uint8_t *gguf_stream__take(struct gguf_stream *s, size_t n);
void gguf_stream__skip(struct gguf_stream *s, uint64_t n);
uint32_t gguf_stream__u32(struct gguf_stream *s);
uint64_t gguf_stream__u64(struct gguf_stream *s);
/* A string of at most @max <= GGUF_WINDOW bytes; a longer one fails. */
struct gguf_text gguf_stream__text(struct gguf_stream *s, size_t max);
/* Pass over one value of @type. */
void gguf_stream__skip_value(struct gguf_stream *s, uint32_t type);
/* An integer or boolean of @type as a number; GGUF_UNKNOWN (gguf.h) if it is another type (passed
 * over), negative, or does not fit. */
uint32_t gguf_stream__number(struct gguf_stream *s, uint32_t type);
/* An array's element count, the elements passed over. */
uint64_t gguf_stream__array(struct gguf_stream *s);
bool text__is(struct gguf_text t, const char *name);

#endif
