/* SPDX-License-Identifier: BSD-2-Clause */
/* Heads of requests in hostile parts. Input: per part a byte of flags, one of how many bytes of it
 * are a head's, one of where it stands, then its bytes. What is said is printable lines of chosen
 * headers, once. */
#include <stdlib.h>
#include <string.h>

#include "probe/engine/wire/asked.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define require(condition) \
	do { \
		if (!(condition)) \
			abort(); \
	} while (0)

enum { OPENS = 1, BEGINS = 2, ENDS = 4, LOST = 8, ANSWERING = 16, ANSWERED = 32, ELSEWHERE = 64 };
enum { PART_HEADER = 3 };

static const char *const chosen[] = { "a", "x-request-id", "content-length", "transfer-encoding" };

static void check_line(const struct header_names *names, const char *line, size_t size)
{
	const char *value = memchr(line, '=', size);
	bool known = false;

	require(value && value + 1 < line + size);
	for (uint32_t i = 0; i < names->count; i++)
		known |= strlen(names->name[i]) == (size_t)(value - line) &&
			 !memcmp(names->name[i], line, (size_t)(value - line));
	require(known);
	for (size_t i = 0; i < size; i++)
		require(line[i] >= ' ' && line[i] < 0x7f);
}

static void answer(struct wire_asked *a, const struct header_names *names)
{
	char labels[ASKED_LABELS_BYTES];

	memset(labels, 'x', sizeof(labels));
	wire_asked__answer(a, names, labels);
	require(strnlen(labels, sizeof(labels)) < sizeof(labels));
	for (const char *at = labels; *at;) {
		const char *end = strchr(at, '\n');

		require(end);
		check_line(names, at, (size_t)(end - at));
		at = end + 1;
	}
	wire_asked__answer(a, names, labels);
	require(!*labels);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct header_names names = { 0 };
	struct wire_asked asked = { 0 };
	uint64_t position = 0;

	for (size_t i = 0; i < sizeof(chosen) / sizeof(*chosen); i++)
		require(!header_names__add(&names, chosen[i]));
	while (size >= PART_HEADER) {
		uint8_t flags = data[0], bytes = data[1], where = data[2];
		struct asked_part p = {
			.opens = flags & OPENS,
			.begins = flags & BEGINS,
			.ends = flags & ENDS,
			.lost = flags & LOST,
		};

		data += PART_HEADER;
		size -= PART_HEADER;
		p.head = data;
		p.head_size = bytes < size ? bytes : size;
		p.length = p.head_size + (flags & ELSEWHERE ? 0 : where);
		p.position = flags & OPENS ? 0 : position;
		if (flags & ELSEWHERE)
			p.position = where > 127 ? UINT64_MAX - where : where;
		wire_asked__part(&asked, &names, &p, flags & ANSWERING);
		position = p.position + p.length;
		data += p.head_size;
		size -= p.head_size;
		if (flags & ANSWERED)
			answer(&asked, &names);
		else if (where == 255)
			wire_asked__lost(&asked);
	}
	return 0;
}
