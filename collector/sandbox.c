/* SPDX-License-Identifier: BSD-2-Clause */
#include "collector/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "probe/base/error.h"

#define NOBODY 65534u

static void take(struct sandbox_user *out, const struct passwd *p)
{
	out->uid = p->pw_uid;
	out->gid = p->pw_gid;
	snprintf(out->name, sizeof(out->name), "%s", p->pw_name);
}

static int choose_named(struct sandbox_user *out, const char *name, struct error *e)
{
	const struct passwd *p = getpwnam(name);

	if (!p)
		return error__set(e, EXIT_USAGE, ENOENT, NULL,
				  "collector: failed to become '%s': no such user", name);
	if (!p->pw_uid)
		return error__set(e, EXIT_USAGE, EINVAL, "name a user without rights",
				  "collector: failed to become '%s': that is root", name);
	if (geteuid() && geteuid() != p->pw_uid)
		return error__set(e, EXIT_PERMISSION, EPERM, "leave --user away, or run as root",
				  "collector: failed to become '%s': not root", name);
	take(out, p);
	return 0;
}

/* The user of the environment variable that sudo sets, if there is one. */
static bool choose_sudo(struct sandbox_user *out)
{
	const char *text = getenv("SUDO_UID");
	const struct passwd *p;
	unsigned long uid;
	char *end;

	if (!text || !*text)
		return false;
	errno = 0;
	uid = strtoul(text, &end, 10);
	if (errno || *end || !uid || uid >= UINT32_MAX)
		return false;
	p = getpwuid((uid_t)uid);
	if (!p)
		return false;
	take(out, p);
	return true;
}

int sandbox__choose(struct sandbox_user *out, const char *name, struct error *e)
{
	const struct passwd *p;
	int err = 0;

	memset(out, 0, sizeof(*out));
	if (name) {
		err = choose_named(out, name, e);
	} else if (geteuid()) {
		out->uid = geteuid();
		out->gid = getegid();
		snprintf(out->name, sizeof(out->name), "user %u", (unsigned)out->uid);
	} else if (!choose_sudo(out)) {
		p = getpwnam("nobody");
		if (p && p->pw_uid) {
			take(out, p);
		} else {
			out->uid = NOBODY;
			out->gid = NOBODY;
			snprintf(out->name, sizeof(out->name), "nobody");
		}
	}
	out->change = geteuid() != out->uid;
	return err;
}

static int drop_user(const struct sandbox_user *u)
{
	if (!u->change)
		return 0;
	if (setgroups(0, NULL) || setresgid(u->gid, u->gid, u->gid) ||
	    setresuid(u->uid, u->uid, u->uid))
		return -errno;
	return 0;
}

static int drop_capabilities(void)
{
	cap_t none = cap_init();
	int err = 0;

	if (!none)
		return -errno;
	if (cap_set_proc(none) || cap_reset_ambient())
		err = -errno;
	cap_free(none);
	return err;
}

/* What was given away is gone: asked of the kernel, not remembered. */
static bool is_powerless(const struct sandbox_user *u)
{
	uid_t real, effective, saved;
	cap_t now, none;
	bool same;

	if (getresuid(&real, &effective, &saved) || real != u->uid || effective != u->uid ||
	    saved != u->uid)
		return false;
	if (u->change && (setuid(0) == 0 || setgid(0) == 0))
		return false;
	now = cap_get_proc();
	none = cap_init();
	same = now && none && cap_compare(now, none) == 0;
	cap_free(now);
	cap_free(none);
	return same && prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1;
}

int sandbox__enter(const struct sandbox_user *u, struct error *e)
{
	int err = drop_user(u);

	if (!err)
		err = drop_capabilities();
	if (!err && (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)))
		err = -errno;
	if (!err && !is_powerless(u))
		err = -EPERM;
	if (err)
		return error__set(e, EXIT_FAILED, -err, NULL,
				  "collector: failed to give up rights and become '%s': %s", u->name,
				  strerror(-err));
	return 0;
}

/* Files are opened as @u by the kernel's own check: a process-wide file-system identity, taken
 * and given back while there is one thread. */
static int open_as(const struct sandbox_user *u, const char *path, int flags, struct error *e)
{
	uid_t uid = geteuid();
	gid_t gid = getegid();
	gid_t groups[256];
	int fd, err, count = getgroups(256, groups);

	if (u->change) {
		if (count < 0 || setgroups(0, NULL))
			return error__set(e, EXIT_FAILED, errno, NULL,
					  "collector: failed to open '%s' as '%s': %s", path,
					  u->name, strerror(errno));
		setfsgid(u->gid);
		setfsuid(u->uid);
	}
	fd = open(path, flags | O_CLOEXEC | O_NOCTTY, 0600);
	err = errno;
	if (u->change) {
		setfsuid(uid);
		setfsgid(gid);
		if (setgroups((size_t)count, groups) && fd >= 0) {
			err = errno;
			close(fd);
			fd = -1;
		}
	}
	if (fd < 0)
		return error__set(e, err == EACCES || err == EPERM ? EXIT_PERMISSION : EXIT_FAILED,
				  err, NULL, "collector: failed to open '%s' as '%s': %s", path,
				  u->name, strerror(err));
	return fd;
}

int sandbox__create(const struct sandbox_user *u, const char *path, struct error *e)
{
	int fd = open_as(u, path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, e);

	/* A file that was there keeps its mode otherwise. */
	if (fd >= 0 && fchmod(fd, 0600) && errno != EPERM) {
		int err = errno;

		close(fd);
		return error__set(e, EXIT_FAILED, err, NULL,
				  "collector: failed to make '%s' private: %s", path, strerror(err));
	}
	return fd;
}

int sandbox__open(const struct sandbox_user *u, const char *path, struct error *e)
{
	return open_as(u, path, O_RDONLY, e);
}
