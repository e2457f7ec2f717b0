/* SPDX-License-Identifier: BSD-2-Clause */
#include "analyzer/view/unread.h"

#include <stdio.h>

#include "analyzer/view/format.h"
#include "collector/trace/reader.h"

static const char *plural(uint64_t n)
{
	return n == 1 ? "" : "s";
}

char *unread__skipped(char out[UNREAD_SIZE], const struct trace_unread *u)
{
	char records[FORMAT_SIZE];

	snprintf(out, UNREAD_SIZE,
		 "skipped: %s record%s of %u type%s that this version does not know",
		 format__count(records, sizeof(records), u->records), plural(u->records), u->types,
		 plural(u->types));
	return out;
}

char *unread__damaged(char out[UNREAD_SIZE], const struct trace_unread *u)
{
	char blocks[FORMAT_SIZE], bytes[FORMAT_SIZE];

	snprintf(out, UNREAD_SIZE,
		 "damaged: %s block%s (%s bytes) could not be read: the totals are incomplete",
		 format__count(blocks, sizeof(blocks), u->damaged_blocks),
		 plural(u->damaged_blocks), format__count(bytes, sizeof(bytes), u->damaged_bytes));
	return out;
}
