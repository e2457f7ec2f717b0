/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/target/maps.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

static const char DELETED[] = " (deleted)";

/* The rest of one line; moved forward by the helpers below. */
struct line {
	const char *at, *end;
};

/* A number of base 10 or 16 without sign or prefix, ended by @ends (which is consumed; '\0': by
 * the end of the line or a space). False if there is none or it overflows. */
static bool take_number(struct line *l, unsigned base, char ends, uint64_t *out)
{
	const char *start = l->at;
	uint64_t n = 0;

	for (; l->at < l->end; l->at++) {
		unsigned digit;

		if (*l->at >= '0' && *l->at <= '9')
			digit = *l->at - '0';
		else if (base == 16 && *l->at >= 'a' && *l->at <= 'f')
			digit = *l->at - 'a' + 10;
		else
			break;
		if (__builtin_mul_overflow(n, base, &n) || __builtin_add_overflow(n, digit, &n))
			return false;
	}
	*out = n;
	if (l->at == start)
		return false;
	if (ends == '\0')
		return l->at == l->end || *l->at == ' ';
	if (l->at == l->end || *l->at != ends)
		return false;
	l->at++;
	return true;
}

/* "r-xp ": true if it is such a field. */
static bool take_permissions(struct line *l, bool *executable)
{
	static const char allowed[4][3] = { "r-", "w-", "x-", "ps" };

	if (l->end - l->at < 5 || l->at[4] != ' ')
		return false;
	for (int i = 0; i < 4; i++)
		if (l->at[i] != allowed[i][0] && l->at[i] != allowed[i][1])
			return false;
	*executable = l->at[2] == 'x';
	l->at += 5;
	return true;
}

/* Copy the path to @out (room for the whole line), undoing the one escape that the kernel
 * writes here (\012 for a newline). Returns its length, or -1 if it is not acceptable. */
static ssize_t copy_path(struct line *l, char *out)
{
	size_t n = 0;

	while (l->at < l->end) {
		if (*l->at == '\0' || n >= PATH_MAX)
			return -1;
		if (l->end - l->at >= 4 && !memcmp(l->at, "\\012", 4)) {
			out[n++] = '\n';
			l->at += 4;
		} else {
			out[n++] = *l->at++;
		}
	}
	out[n] = '\0';
	return n;
}

static bool parse_numbers(struct line *l, struct mapping *m)
{
	uint64_t major, minor;

	if (!take_number(l, 16, '-', &m->start) || !take_number(l, 16, ' ', &m->end) ||
	    !take_permissions(l, &m->executable) || !take_number(l, 16, ' ', &m->offset) ||
	    !take_number(l, 16, ':', &major) || !take_number(l, 16, ' ', &minor) ||
	    !take_number(l, 10, '\0', &m->inode))
		return false;
	if (m->start >= m->end || major > UINT32_MAX || minor > UINT32_MAX)
		return false;
	m->device = major << 32 | minor;
	return true;
}

/* Parse one line; @path has room for it. Returns the bytes used of @path (with its NUL), 0 if
 * the line is good but not backed by a file, -1 if it makes no sense. */
static ssize_t parse_line(struct line l, struct mapping *m, char *path)
{
	const size_t suffix = sizeof(DELETED) - 1;
	ssize_t n;

	memset(m, 0, sizeof(*m));
	if (!parse_numbers(&l, m))
		return -1;
	while (l.at < l.end && *l.at == ' ')
		l.at++;
	if (l.at == l.end || *l.at != '/' || !m->inode)
		return 0;
	n = copy_path(&l, path);
	if (n < 0)
		return -1;
	/* A file whose own name ends like this is told apart only by opening it. */
	if ((size_t)n > suffix && !memcmp(path + n - suffix, DELETED, suffix)) {
		m->deleted = true;
		n -= suffix;
		path[n] = '\0';
	}
	m->path = path;
	return n + 1;
}

static size_t count_lines(const char *text, size_t size)
{
	size_t lines = 1;

	for (const char *p = text; (p = memchr(p, '\n', text + size - p)); p++)
		lines++;
	return lines;
}

/* Give back the room of lines that were not file-backed: most of them in a large process. */
static void shrink(struct maps *m)
{
	struct mapping *items = realloc(m->items, (m->count ? m->count : 1) * sizeof(*items));

	if (items)
		m->items = items;
}

int maps__parse(struct maps *out, const char *text, size_t size)
{
	const char *at = text, *end = text + size;
	uint64_t last_end = 0;
	size_t used = 0;

	memset(out, 0, sizeof(*out));
	if (!size)
		return 0;
	out->items = calloc(count_lines(text, size), sizeof(*out->items));
	out->paths = malloc(size + 1); /* each path is shorter than its line with the newline */
	if (!out->items || !out->paths) {
		maps__free(out);
		return -ENOMEM;
	}
	while (at < end) {
		const char *newline = memchr(at, '\n', end - at);
		struct line l = { at, newline ? newline : end };
		struct mapping *m = &out->items[out->count];
		ssize_t n = parse_line(l, m, out->paths + used);

		at = newline ? newline + 1 : end;
		if (n < 0 || m->start < last_end) {
			out->malformed++;
			continue;
		}
		last_end = m->end;
		if (!n)
			continue;
		used += n;
		out->count++;
	}
	shrink(out);
	return 0;
}

void maps__free(struct maps *m)
{
	free(m->items);
	free(m->paths);
	memset(m, 0, sizeof(*m));
}
