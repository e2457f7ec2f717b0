/* SPDX-License-Identifier: BSD-2-Clause */
#include "analyzer/privilege.h"

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

#include "probe/base/error.h"
#include "probe/base/file_user.h"

static void take_user(struct identity *id, const struct passwd *p)
{
	id->uid = p->pw_uid;
	id->gid = p->pw_gid;
	snprintf(id->name, sizeof(id->name), "%s", p->pw_name);
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

static int find_named(struct identity *id, const char *user, struct error *e)
{
	const struct passwd *p = getpwnam(user);

	if (!p)
		return error__set(e, EXIT_USAGE, ENOENT, "give --user the name of an existing user",
				  "privilege: failed to become '%s': no such user", user);
	if (!p->pw_uid)
		return error__set(e, EXIT_USAGE, EINVAL, "give --user an ordinary user",
				  "privilege: failed to become '%s': that is root", user);
	take_user(id, p);
	return 0;
}

int identity__find(struct identity *out, const char *user, struct error *e)
{
	unsigned long uid, gid;
	const struct passwd *p;

	memset(out, 0, sizeof(*out));
	out->is_root = geteuid() == 0;
	out->uid = geteuid();
	out->gid = getegid();
	if (!out->is_root) {
		p = getpwuid(out->uid);
		if (p)
			take_user(out, p);
		if (user && strcmp(user, out->name) != 0)
			return error__set(e, EXIT_PERMISSION, EPERM,
					  "run it as root, or without --user",
					  "privilege: failed to become '%s': only root can", user);
		return 0;
	}
	if (id_from("SUDO_UID", &uid) && id_from("SUDO_GID", &gid) && uid) {
		out->by_sudo = true;
		out->sudo_uid = (uid_t)uid;
		out->sudo_gid = (gid_t)gid;
	}
	if (user)
		return find_named(out, user, e);
	out->uid = out->by_sudo ? out->sudo_uid : 65534;
	out->gid = out->by_sudo ? out->sudo_gid : 65534;
	p = out->by_sudo ? getpwuid(out->uid) : getpwnam("nobody");
	if (p)
		take_user(out, p);
	return 0;
}

/* Whose rights decide about a file: those of sudo's user, with that user's groups. */
static struct file_user typist(const struct identity *id)
{
	struct file_user u = { .uid = id->sudo_uid, .gid = id->sudo_gid };
	const struct passwd *p = getpwuid(id->sudo_uid);
	int groups = FILE_USER_GROUPS;

	/* -1: there are more; as many as there is room for were stored. */
	if (p && getgrouplist(p->pw_name, id->sudo_gid, u.group, &groups) < 0)
		groups = FILE_USER_GROUPS;
	u.groups = p ? (size_t)groups : 0;
	return u;
}

/* open(2) for reading with the rights of whoever typed the command line. The fd or -errno. */
static int open_as_typist(const struct identity *id, const char *path)
{
	const bool other = id->is_root && id->by_sudo;
	struct file_user_before before;
	struct file_user user;
	int fd, err = 0;

	if (other) {
		user = typist(id);
		err = file_user__become(&user, &before);
	}
	if (err)
		return err;
	fd = open(path, O_RDONLY | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		err = -errno;
	if (other && file_user__restore(&before)) {
		if (fd >= 0)
			close(fd);
		return -EPERM;
	}
	return fd >= 0 ? fd : err;
}

static int duplicate(int from, int *fd)
{
	*fd = fcntl(from, F_DUPFD_CLOEXEC, 3);
	return *fd < 0 ? -errno : 0;
}

int identity__open_file(const struct identity *id, int *fd, const char *path, struct error *e)
{
	struct stat st;
	int err;

	*fd = -1;
	if (!strcmp(path, "-")) {
		err = duplicate(STDIN_FILENO, fd);
	} else {
		err = open_as_typist(id, path);
		if (err >= 0)
			*fd = err;
	}
	if (*fd >= 0 && !fstat(*fd, &st) && S_ISDIR(st.st_mode)) {
		close(*fd);
		*fd = -1;
		err = -EISDIR;
	}
	return *fd >= 0 ? 0
			: error__set(e, EXIT_FAILED, -err, NULL, "file: failed to open '%s': %s",
				     path, strerror(-err));
}

/* No capability is left in any set, and root cannot come back. */
static bool is_irrevocable(const struct identity *id)
{
	uid_t real, effective, saved;
	cap_t held = cap_get_proc(), none = cap_init();
	bool empty = held && none && !cap_compare(held, none);

	cap_free(held);
	cap_free(none);
	if (!empty || getresuid(&real, &effective, &saved))
		return false;
	if (real != id->uid || effective != id->uid || saved != id->uid)
		return false;
	return setuid(0) != 0 && seteuid(0) != 0 && prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1;
}

static int become(const struct identity *id)
{
	cap_t none;
	int err = 0;

	if (id->is_root && (setgroups(0, NULL) || setresgid(id->gid, id->gid, id->gid) ||
			    setresuid(id->uid, id->uid, id->uid)))
		return -errno;
	none = cap_init();
	if (!none || cap_set_proc(none) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		err = -errno;
	cap_free(none);
	return err;
}

int identity__become(const struct identity *id, struct error *e)
{
	int err = become(id);

	if (!err && !is_irrevocable(id))
		err = -EPERM;
	if (!err)
		return 0;
	return error__set(e, EXIT_PERMISSION, -err, "run moeprobe as an ordinary user, or by sudo",
			  "privilege: failed to become user %u: %s", (unsigned)id->uid,
			  strerror(-err));
}
