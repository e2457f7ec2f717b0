/* SPDX-License-Identifier: BSD-2-Clause */
#include "analyzer/view/lines.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#define CHARACTER_MAX 16 /* bytes; more than any takes */

/* Bytes of the character at @text, which is not at its end; its columns in *@columns. */
static size_t take_character(const char *text, size_t *columns)
{
	size_t left = strnlen(text, CHARACTER_MAX), n;
	mbstate_t state = { 0 };
	wchar_t c = 0;
	int own;

	n = mbrtowc(&c, text, left, &state);
	if (!n || n > left) {
		*columns = 1;
		return 1;
	}
	own = wcwidth(c);
	*columns = own < 0 ? 1 : (size_t)own;
	return n;
}

size_t lines__width(const char *text)
{
	size_t width = 0, own;

	while (*text) {
		text += take_character(text, &own);
		width += own;
	}
	return width;
}

size_t lines__word_width(const char *text)
{
	size_t widest = 0, width = 0, own;

	while (*text) {
		const bool is_space = *text == ' ';

		text += take_character(text, &own);
		width = is_space ? 0 : width + own;
		widest = width > widest ? width : widest;
	}
	return widest;
}

size_t lines__fit(const char *text, size_t width)
{
	const char *p = text + strspn(text, " "), *word_end = p;
	size_t used = (size_t)(p - text), own;

	while (*p) {
		const char *next = p + take_character(p, &own);

		used += own;
		if (*next && *next != ' ') {
			p = next;
			continue;
		}
		/* A word ends here; the spaces behind it count only before another one. */
		if (used > width && word_end > text + strspn(text, " "))
			return (size_t)(word_end - text);
		word_end = next;
		used += strspn(next, " ");
		p = next + strspn(next, " ");
	}
	return (size_t)(word_end - text);
}

const char *lines__rest(const char *text, size_t bytes)
{
	return text + bytes + strspn(text + bytes, " ");
}

void lines__print(FILE *out, unsigned indent, const char *fmt, ...)
{
	const char *rest;
	char *text;
	size_t n;
	va_list ap;
	int size;

	va_start(ap, fmt);
	size = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (size < 0)
		return;
	n = lines__fit(text, LINES_WIDTH);
	fprintf(out, "%.*s\n", (int)n, text);
	for (rest = lines__rest(text, n); *rest; rest = lines__rest(rest, n)) {
		n = lines__fit(rest, LINES_WIDTH - indent);
		fprintf(out, "%*s%.*s\n", (int)indent, "", (int)n, rest);
	}
	free(text);
}
