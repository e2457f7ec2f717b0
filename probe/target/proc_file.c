/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/target/proc_file.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "probe/base/buffer.h"

int proc_file__drain(int fd, size_t limit, struct buffer *out)
{
	size_t start = out->size;

	for (;;) {
		size_t left = limit - (out->size - start);
		size_t chunk = left < 65536 ? left + 1 : 65536; /* one more: is there more? */
		ssize_t n;

		if (buffer__reserve(out, chunk))
			return -ENOMEM;
		do
			n = read(fd, out->data + out->size, chunk);
		while (n < 0 && errno == EINTR);
		if (n < 0)
			return -errno;
		if (n == 0)
			return 0;
		if ((size_t)n > left) {
			out->size += left;
			return -EFBIG;
		}
		out->size += n;
	}
}

int proc_file__read(const struct opener *o, pid_t pid, enum proc_file file, size_t limit,
		    struct buffer *out)
{
	int fd = o->open_proc(o->ctx, pid, file);
	int err;

	if (fd < 0)
		return fd;
	err = proc_file__drain(fd, limit, out);
	close(fd);
	return err;
}

int proc_file__identity(const struct opener *o, pid_t pid, enum proc_file file, uint64_t *device,
			uint64_t *inode)
{
	int fd = o->open_proc(o->ctx, pid, file);
	struct stat st;
	int err = 0;

	*device = *inode = 0;
	if (fd < 0)
		return fd;
	if (fstat(fd, &st)) {
		err = -errno;
	} else {
		*device = st.st_dev;
		*inode = st.st_ino;
	}
	close(fd);
	return err;
}

int proc_file__each_number(int fd, int (*each)(void *ctx, int number), void *ctx)
{
	DIR *directory = fdopendir(fd);
	struct dirent *entry;
	int result = 0;

	if (!directory) {
		result = -errno;
		close(fd);
		return result;
	}
	while (!result && (errno = 0, entry = readdir(directory))) {
		char *end;
		long n;

		if (entry->d_name[0] < '0' || entry->d_name[0] > '9')
			continue;
		n = strtol(entry->d_name, &end, 10);
		if (*end == '\0' && n <= INT_MAX)
			result = each(ctx, (int)n);
		errno = 0;
	}
	if (!result && errno)
		result = -errno;
	closedir(directory);
	return result;
}
