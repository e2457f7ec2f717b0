/* SPDX-License-Identifier: BSD-2-Clause */
/* Who started a process: the command lines of those above it. */
#ifndef MP_TARGET_ANCESTORS_H
#define MP_TARGET_ANCESTORS_H

#include <stddef.h>
#include <sys/types.h>

struct target;

struct ancestor {
	pid_t pid, parent;
	const char *cmdline; /* NUL-separated bytes (untrusted); may be empty */
	size_t size;
};

/* Call @each for the parent of @t, then its parent, and so on, until it returns nonzero or one
 * cannot be read (another user's, the namespace's first). That value, or 0. */
int target__each_ancestor(const struct target *t, int (*each)(void *ctx, const struct ancestor *a),
			  void *ctx);

#endif
