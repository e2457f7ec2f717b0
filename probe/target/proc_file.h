/* SPDX-License-Identifier: BSD-2-Clause */
/* Whole small files of /proc, and what their descriptors tell, through an opener. */
#ifndef MP_TARGET_PROC_FILE_H
#define MP_TARGET_PROC_FILE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "probe/target/opener.h"

struct buffer;

/* Append at most @limit bytes of @fd (borrowed) from its offset to @out. 0; -EFBIG if there is
 * more (@out then holds the first @limit bytes); another -errno. */
int proc_file__drain(int fd, size_t limit, struct buffer *out);
/* The same for a file of @pid, opened and closed here. */
int proc_file__read(const struct opener *o, pid_t pid, enum proc_file file, size_t limit,
		    struct buffer *out);
/* Device and inode of what a file of @pid refers to (exe, namespaces). 0 or -errno. */
int proc_file__identity(const struct opener *o, pid_t pid, enum proc_file file, uint64_t *device,
			uint64_t *inode);
/* Call @each with every numeric name in directory @fd (taken), in no order, until it returns
 * nonzero. That value, 0, or -errno. */
int proc_file__each_number(int fd, int (*each)(void *ctx, int number), void *ctx);

#endif
