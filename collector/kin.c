/* SPDX-License-Identifier: BSD-2-Clause */
#include "collector/kin.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ANCESTORS_MAX 32

/* The parent of @pid, or 0. The command's name may hold anything, so what counts is behind the last
 * parenthesis. */
static pid_t parent_of(pid_t pid)
{
	char path[64], text[1024], *at;
	ssize_t n;
	int fd, parent;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	at = strrchr(text, ')');
	return at && sscanf(at + 1, " %*c %d", &parent) == 1 ? parent : 0;
}

bool kin__descends(pid_t pid, pid_t root)
{
	for (int i = 0; i < ANCESTORS_MAX && pid > 0; i++) {
		if (pid == root)
			return true;
		pid = parent_of(pid);
	}
	return false;
}

/* All processes that there are; *@out is the caller's to free. Their number, or -errno. */
static ssize_t list_all(struct kin **out)
{
	DIR *directory = opendir("/proc");
	size_t count = 0, room = 0;
	struct kin *all = NULL, *more;
	struct dirent *entry;
	int err = directory ? 0 : -errno;

	while (!err && (entry = readdir(directory))) {
		int pid = atoi(entry->d_name);

		if (pid <= 0)
			continue;
		if (count == room) {
			room = room ? room * 2 : 1024;
			more = reallocarray(all, room, sizeof(*all));
			err = more ? 0 : -ENOMEM;
			all = more ? more : all;
		}
		if (!err)
			all[count++] = (struct kin){ pid, parent_of(pid) };
	}
	if (directory)
		closedir(directory);
	*out = all;
	return err ? err : (ssize_t)count;
}

int kin__list(struct kin *out, size_t max, pid_t root)
{
	struct kin *all;
	ssize_t there = list_all(&all);
	size_t count = 0;

	if (there >= 0 && max)
		out[count++] = (struct kin){ root, parent_of(root) };
	for (size_t i = 0; i < count; i++)
		for (ssize_t j = 0; j < there && count < max; j++)
			if (all[j].parent == out[i].pid && all[j].pid != root)
				out[count++] = all[j];
	free(all);
	return there < 0 ? (int)there : (int)count;
}
