/* SPDX-License-Identifier: BSD-2-Clause */
/* The text of /proc/PID/maps as mappings. A pure function over untrusted bytes: file names are
 * the target's to choose, and the text may be cut anywhere. */
#ifndef MP_TARGET_MAPS_H
#define MP_TARGET_MAPS_H

#include <stddef.h>

#include "probe/target/target.h"

/* Owns everything; @items are ascending and disjoint. Zero-initialise before use. */
struct maps {
	struct mapping *items; /* file-backed lines only */
	size_t count;
	size_t malformed; /* lines that were skipped because they make no sense */
	char *paths;      /* what the paths point into */
};

/*
 * Parse @size bytes of @text. A line that is no maps line (bad or overflowing numbers, an empty
 * range, one that goes backwards, a path with a NUL byte or longer than PATH_MAX) is skipped and
 * counted. A last line without a newline is taken. 0 or -ENOMEM; free in either case.
 */
int maps__parse(struct maps *out, const char *text, size_t size);
/* Free and zero. Accepts a zeroed one. */
void maps__free(struct maps *m);

#endif
