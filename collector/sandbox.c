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
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "collector/confine.h"
#include "probe/base/error.h"
#include "probe/base/file_user.h"

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

/* A whole decimal number from the environment that sudo sets. */
static bool id_from(const char *variable, unsigned long *out)
{
	const char *text = getenv(variable);
	char *end;

	if (!text || *text < '0' || *text > '9')
		return false;
	errno = 0;
	*out = strtoul(text, &end, 10);
	return !errno && !*end && *out < UINT32_MAX;
}

/* Who called sudo, by number: there may be no entry for that user. */
static void find_sudo(struct sandbox_user *out)
{
	unsigned long uid, gid;

	if (geteuid() || !id_from("SUDO_UID", &uid) || !id_from("SUDO_GID", &gid) || !uid)
		return;
	out->by_sudo = true;
	out->sudo_uid = (uid_t)uid;
	out->sudo_gid = (gid_t)gid;
}

static void take_nobody(struct sandbox_user *out)
{
	const struct passwd *p = getpwnam("nobody");

	if (p && p->pw_uid) {
		take(out, p);
		return;
	}
	out->uid = NOBODY;
	out->gid = NOBODY;
	snprintf(out->name, sizeof(out->name), "nobody");
}

int sandbox__choose(struct sandbox_user *out, const char *name, struct error *e)
{
	int err = 0;

	memset(out, 0, sizeof(*out));
	find_sudo(out);
	if (geteuid()) {
		out->uid = geteuid();
		out->gid = getegid();
		snprintf(out->name, sizeof(out->name), "user %u", (unsigned)out->uid);
	} else {
		take_nobody(out);
	}
	if (name)
		err = choose_named(out, name, e);
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
				  "collector: failed to give up rights and become '%s': %s",
				  u->name, strerror(-err));
	return confine__enter(e);
}

/* Take on and put off the file-system identity of who called sudo, so that the kernel checks that
 * user's rights and not root's. */
static int with_sudo_rights(const struct sandbox_user *u, const char *path, int flags)
{
	struct file_user user = { .uid = u->sudo_uid, .gid = u->sudo_gid };
	struct file_user_before before;
	int fd, err;

	err = file_user__become(&user, &before);
	if (err)
		return err;
	fd = open(path, flags, 0600);
	if (fd < 0)
		fd = -errno;
	err = file_user__restore(&before);
	if (!err || fd < 0)
		return fd;
	close(fd);
	return err;
}

static int open_as(const struct sandbox_user *u, const char *path, int flags)
{
	int fd;

	if (u->by_sudo)
		return with_sudo_rights(u, path, flags);
	fd = open(path, flags, 0600);
	return fd < 0 ? -errno : fd;
}

static int failed(const char *path, int err, struct error *e)
{
	return error__set(e, err == -EACCES || err == -EPERM ? EXIT_PERMISSION : EXIT_FAILED, -err,
			  NULL, "collector: failed to open '%s': %s", path, strerror(-err));
}

int sandbox__create(const struct sandbox_user *u, const char *path, struct error *e)
{
	const int flags = O_WRONLY | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW;
	int fd, err = 0;

	fd = open_as(u, path, flags | O_CREAT | O_EXCL);
	if (fd >= 0 && u->by_sudo && fchown(fd, u->sudo_uid, u->sudo_gid))
		err = -errno;
	else if (fd >= 0 && !u->by_sudo && u->change && fchown(fd, u->uid, u->gid))
		err = -errno;
	if (fd == -EEXIST)
		fd = open_as(u, path, flags | O_TRUNC);
	if (fd < 0)
		return failed(path, fd, e);
	/* One that was there keeps its owner, and its mode otherwise. */
	if (!err && fchmod(fd, 0600) && errno != EPERM)
		err = -errno;
	if (!err)
		return fd;
	close(fd);
	return error__set(e, EXIT_FAILED, -err, NULL, "collector: failed to make '%s' private: %s",
			  path, strerror(-err));
}

int sandbox__open(const struct sandbox_user *u, const char *path, struct error *e)
{
	int fd = open_as(u, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

	return fd < 0 ? failed(path, fd, e) : fd;
}
