/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * setfsuid() away from root takes the capabilities that overrule file modes out of the effective
 * set, and back to root gives them again. Without being root (a program with file capabilities)
 * we can be nobody but ourselves, and take them out by hand. System calls are made directly: the
 * C library's setgroups() would change all threads.
 */
#include "probe/base/file_user.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/fsuid.h>
#include <sys/syscall.h>
#include <unistd.h>

static const cap_value_t overruling[] = { CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER };

#define OVERRULING (int)(sizeof(overruling) / sizeof(*overruling))

/* The ids that files are opened with: an impossible id changes nothing and tells the one there. */
static uid_t uid_now(void)
{
	return (uid_t)setfsuid((uid_t)-1);
}

static gid_t gid_now(void)
{
	return (gid_t)setfsgid((gid_t)-1);
}

static int set_groups(size_t count, const gid_t *group)
{
	return syscall(SYS_setgroups, count, group) ? -errno : 0;
}

/* Put those of @overruling that are permitted into the effective set, or take them out of it. */
static int set_overruling(bool on)
{
	cap_t mine = cap_get_proc();
	cap_flag_value_t permitted;
	int err = mine ? 0 : -errno;

	for (int i = 0; i < OVERRULING && !err; i++) {
		if (cap_get_flag(mine, overruling[i], CAP_PERMITTED, &permitted) ||
		    (permitted == CAP_SET && cap_set_flag(mine, CAP_EFFECTIVE, 1, &overruling[i],
							  on ? CAP_SET : CAP_CLEAR)))
			err = -errno;
	}
	if (!err && cap_set_proc(mine))
		err = -errno;
	cap_free(mine);
	return err;
}

/* None of the capabilities that overrule file modes is in effect: asked, not remembered. */
static bool is_bound(void)
{
	cap_flag_value_t has;
	cap_t mine = cap_get_proc();
	bool bound = mine != NULL;

	for (int i = 0; i < OVERRULING && bound; i++)
		bound = !cap_get_flag(mine, overruling[i], CAP_EFFECTIVE, &has) && has == CAP_CLEAR;
	cap_free(mine);
	return bound;
}

int file_user__become(const struct file_user *u, struct file_user_before *before)
{
	int err = 0;

	memset(before, 0, sizeof(*before));
	if (u->groups > FILE_USER_GROUPS)
		return -EINVAL;
	before->uid = uid_now();
	before->gid = gid_now();
	before->groups = getgroups(FILE_USER_GROUPS, before->group);
	if (before->groups < 0)
		return -errno;
	if (u->uid == before->uid && !before->uid)
		return 0; /* root's files are root's to open */
	if (u->uid != before->uid || u->gid != before->gid) {
		err = before->uid ? -EACCES : set_groups(u->groups, u->group);
		if (err)
			return err;
		setfsgid(u->gid);
		setfsuid(u->uid);
	}
	before->capabilities = 1;
	err = set_overruling(false);
	if (!err && (uid_now() != u->uid || gid_now() != u->gid || !is_bound()))
		err = -EACCES;
	if (err)
		file_user__restore(before);
	return err;
}

int file_user__restore(const struct file_user_before *b)
{
	int err = 0;

	if (!b->capabilities)
		return 0;
	setfsuid(b->uid);
	setfsgid(b->gid);
	if (!b->uid)
		err = set_groups((size_t)b->groups, b->group);
	if (!err)
		err = set_overruling(true);
	if (!err && (uid_now() != b->uid || gid_now() != b->gid))
		err = -EPERM;
	return err;
}
