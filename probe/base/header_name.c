/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/base/header_name.h"

#include <errno.h>
#include <string.h>

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

static bool is_token(const char *text, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		char c = lower(text[i]);

		if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') &&
		    (!c || !strchr("!#$%&'*+-.^_`|~", c)))
			return false;
	}
	return size > 0;
}

int header_names__add(struct header_names *h, const char *text)
{
	size_t size = strnlen(text, HEADER_NAME_BYTES);
	char name[HEADER_NAME_BYTES] = "";

	if (size == HEADER_NAME_BYTES || !is_token(text, size))
		return -EINVAL;
	for (size_t i = 0; i < size; i++)
		name[i] = lower(text[i]);
	for (uint32_t i = 0; i < h->count; i++)
		if (!strcmp(h->name[i], name))
			return 0;
	if (h->count == HEADER_NAMES_MAX)
		return -ENOSPC;
	memcpy(h->name[h->count++], name, sizeof(name));
	return 0;
}

bool header_names__is_sane(const struct header_names *h)
{
	struct header_names again = { 0 };

	if (h->count > HEADER_NAMES_MAX)
		return false;
	for (uint32_t i = 0; i < h->count; i++)
		if (strnlen(h->name[i], HEADER_NAME_BYTES) == HEADER_NAME_BYTES ||
		    header_names__add(&again, h->name[i]) || strcmp(again.name[i], h->name[i]))
			return false;
	return again.count == h->count;
}
