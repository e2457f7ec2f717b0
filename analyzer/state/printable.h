/* SPDX-License-Identifier: BSD-2-Clause */
/* Names out of a stream, made harmless: a model's name must not drive a terminal. */
#ifndef MP_STATE_PRINTABLE_H
#define MP_STATE_PRINTABLE_H

#include <stddef.h>

/*
 * Copy @size untrusted bytes into @out (@room bytes, NUL-terminated, cut between characters).
 * Control characters, format characters that reorder text, and bytes that are not UTF-8 become
 * '?'. @bytes may be NULL if @size is 0.
 */
void printable__copy(char *out, size_t room, const void *bytes, size_t size);

/* Bytes of the harmless character at @bytes (of @left, at least 1); 0 if there is none. */
size_t printable__length(const void *bytes, size_t left);

#endif
