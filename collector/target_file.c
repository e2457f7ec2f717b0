/* SPDX-License-Identifier: BSD-2-Clause */
#include "collector/target_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "probe/base/file_user.h"
#include "probe/target/opener.h"

#define STATUS_MAX 4096
#define MODEL_MAGIC "GGUF"
#define MODEL_MAGIC_SIZE 4

/* The line of /proc/PID/status that begins with @name, behind it; NULL. The kernel escapes what a
 * process says of itself, so a line is a line. */
static const char *find_line(const char *text, const char *name)
{
	const char *at = strstr(text, name);

	return at ? at + strlen(name) : NULL;
}

int target_file__user(pid_t pid, struct file_user *out)
{
	char path[64], text[STATUS_MAX];
	const char *at;
	char *end;
	ssize_t n;
	int fd;

	memset(out, 0, sizeof(*out));
	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return -ESRCH;
	text[n] = '\0';
	/* real, effective, saved, file system */
	at = find_line(text, "\nUid:\t");
	if (!at || sscanf(at, "%*u %*u %*u %u", &out->uid) != 1)
		return -EPROTO;
	at = find_line(text, "\nGid:\t");
	if (!at || sscanf(at, "%*u %*u %*u %u", &out->gid) != 1)
		return -EPROTO;
	at = find_line(text, "\nGroups:\t");
	while (at && *at >= '0' && *at <= '9' && out->groups < FILE_USER_GROUPS) {
		out->group[out->groups++] = (gid_t)strtoul(at, &end, 10);
		/* A number that ends with the text may be a part of one. */
		if (!*end)
			out->groups--;
		at = *end == ' ' ? end + 1 : NULL;
	}
	return 0;
}

static int check_magic(int fd)
{
	char magic[MODEL_MAGIC_SIZE];
	ssize_t n = pread(fd, magic, sizeof(magic), 0);

	if (n < 0)
		return -errno;
	return n == MODEL_MAGIC_SIZE && !memcmp(magic, MODEL_MAGIC, MODEL_MAGIC_SIZE) ? 0 : -EACCES;
}

int target_file__open_model(pid_t pid, const char *path)
{
	struct file_user_before before;
	struct file_user user;
	int fd, err;

	err = target_file__user(pid, &user);
	if (!err)
		err = file_user__become(&user, &before);
	if (err)
		return err;
	fd = opener_direct.open_path(opener_direct.ctx, pid, path);
	err = file_user__restore(&before);
	if (fd < 0)
		return fd;
	if (!err)
		err = check_magic(fd);
	if (!err)
		return fd;
	close(fd);
	return err;
}
