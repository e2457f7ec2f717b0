/* SPDX-License-Identifier: BSD-2-Clause */
/* Plain text that fits a terminal of 80 columns: broken at spaces, never inside a word. */
#ifndef MP_VIEW_LINES_H
#define MP_VIEW_LINES_H

#include <stddef.h>
#include <stdio.h>

#define LINES_WIDTH 80

/* Columns that @text takes; what the locale cannot read takes one a byte. */
size_t lines__width(const char *text);
/* Columns of its widest word. */
size_t lines__word_width(const char *text);
/* Bytes of @text that fit @width columns and end where a word does; at least its first word. */
size_t lines__fit(const char *text, size_t width);
/* What follows these bytes, without the spaces at which it was broken. */
const char *lines__rest(const char *text, size_t bytes);

/* printf with a newline; lines after the first begin with @indent spaces. */
void lines__print(FILE *out, unsigned indent, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

#endif
