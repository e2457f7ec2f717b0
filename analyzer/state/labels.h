/* SPDX-License-Identifier: BSD-2-Clause */
/* Labels of a request: "key=value" pairs, made printable, separated by a line feed. */
#ifndef MP_STATE_LABELS_H
#define MP_STATE_LABELS_H

#include <stddef.h>

/* Take the lines of @bytes (@size, untrusted) over into @labels (@room bytes): a key that is there
 * replaces its value. Returns the lines that found no room. */
unsigned labels__take(char *labels, size_t room, const char *bytes, size_t size);
/* The value of @key, which ends at a line feed or the end; NULL: none. */
const char *labels__find(const char *labels, const char *key);

#endif
