/* SPDX-License-Identifier: BSD-2-Clause */
#include "analyzer/state/labels.h"

#include <string.h>

#include "analyzer/state/printable.h"

#define LINE_MAX 256

/* The line of @labels with the key that @line begins with, up to and with its '='; NULL: none. */
static char *find_line(char *labels, const char *line)
{
	size_t key = strcspn(line, "=");
	char *at = labels;

	while (at && *at) {
		if (!strncmp(at, line, key) && (at[key] == '=' || !at[key] || at[key] == '\n'))
			return at;
		at = strchr(at, '\n');
		at = at ? at + 1 : NULL;
	}
	return NULL;
}

static void remove_line(char *at)
{
	char *next = strchr(at, '\n');

	memmove(at, next ? next + 1 : "", next ? strlen(next + 1) + 1 : 1);
}

/* 1: no room. */
static unsigned take_line(char *labels, size_t room, const char *bytes, size_t size)
{
	char line[LINE_MAX], *old;
	size_t used, more;

	printable__copy(line, sizeof(line), bytes, size);
	if (!*line || *line == '=')
		return 0;
	old = find_line(labels, line);
	used = strlen(labels);
	more = strlen(line);
	if (!old && used + more + 2 > room)
		return 1;
	if (old) {
		remove_line(old);
		used = strlen(labels);
	}
	if (used + more + 2 > room)
		return 1;
	if (used && labels[used - 1] != '\n')
		labels[used++] = '\n';
	memcpy(labels + used, line, more + 1);
	return 0;
}

unsigned labels__take(char *labels, size_t room, const char *bytes, size_t size)
{
	unsigned lost = 0;

	while (size) {
		const char *end = memchr(bytes, '\n', size);
		size_t line = end ? (size_t)(end - bytes) : size;

		lost += take_line(labels, room, bytes, line);
		bytes += line + (end != NULL);
		size -= line + (end != NULL);
	}
	return lost;
}

const char *labels__find(const char *labels, const char *key)
{
	const char *at = find_line((char *)labels, key);

	return at && at[strlen(key)] == '=' ? at + strlen(key) + 1 : NULL;
}
