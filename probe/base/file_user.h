/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Opening files with another user's rights: the calling thread takes on that user's file-system
 * identity, so that the kernel checks those rights and not ours, and puts it off again.
 */
#ifndef MP_BASE_FILE_USER_H
#define MP_BASE_FILE_USER_H

#include <stddef.h>
#include <sys/types.h>

#define FILE_USER_GROUPS 64 /* further ones are left away: fewer rights, never more */

/* Plain data. */
struct file_user {
	uid_t uid;
	gid_t gid;
	size_t groups;
	gid_t group[FILE_USER_GROUPS];
};

/* What to return to; opaque. */
struct file_user_before {
	uid_t uid;
	gid_t gid;
	int groups;
	gid_t group[FILE_USER_GROUPS];
	int capabilities; /* taken from the effective set: 1 */
};

/*
 * Become @u for what this thread opens, verified. For a user other than root the capabilities that
 * overrule file modes are without effect meanwhile. 0; -EACCES: we have no right to be @u; another
 * -errno. After an error nothing has changed.
 */
int file_user__become(const struct file_user *u, struct file_user_before *before);
/* Be who we were. 0 or -errno (we have fewer rights then). */
int file_user__restore(const struct file_user_before *before);

#endif
