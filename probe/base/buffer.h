/* SPDX-License-Identifier: BSD-2-Clause */
/* A growable byte buffer, and a cursor that reads untrusted bytes without leaving them. */
#ifndef MP_BASE_BUFFER_H
#define MP_BASE_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Owns @data (malloc). Zero-initialise before use; a failed append leaves it unchanged. */
struct buffer {
	uint8_t *data;
	size_t size;     /* bytes in use */
	size_t capacity; /* bytes allocated */
};

/* Make room for @more further bytes. 0, or -ENOMEM. */
int buffer__reserve(struct buffer *b, size_t more);
/* Append @n bytes. 0, or -ENOMEM. */
int buffer__append(struct buffer *b, const void *bytes, size_t n);
/* Append @n zero bytes and return where they begin (valid until the next append), or NULL. */
void *buffer__extend(struct buffer *b, size_t n);
/* Drop the first @n bytes (n <= size), moving the rest to the front. */
void buffer__consume(struct buffer *b, size_t n);
/* Free the bytes and zero the struct. Accepts a zeroed one. */
void buffer__free(struct buffer *b);

/* Borrowed bytes with a read position. After any read past the end, @failed stays true and
 * every later read gives zeros: check once at the end. */
struct cursor {
	const uint8_t *data;
	size_t size;
	size_t at;
	bool failed;
};

/* A cursor at the start of @n borrowed bytes. */
struct cursor cursor__over(const void *bytes, size_t n);
/* The next @n bytes, advancing, or NULL (and failed). */
const uint8_t *cursor__take(struct cursor *c, size_t n);
/* Little-endian integers; 0 after a failure. */
uint8_t cursor__u8(struct cursor *c);
uint16_t cursor__u16(struct cursor *c);
uint32_t cursor__u32(struct cursor *c);
uint64_t cursor__u64(struct cursor *c);
/* Bytes left. */
size_t cursor__left(const struct cursor *c);

#endif
