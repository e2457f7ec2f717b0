/* SPDX-License-Identifier: BSD-2-Clause */
/* Which processes there are and on which TCP ports one listens: how a target is chosen. */
#include "probe/target/target.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "probe/base/buffer.h"
#include "probe/target/opener.h"
#include "probe/target/proc_file.h"
#include "probe/target/stat.h"

/* Listening sockets come first in the kernel's tables, so that a cut loses only others. */
#define TCP_TABLE_MAX (16u << 20)

static int append_pid(void *ctx, int number)
{
	pid_t pid = (pid_t)number;

	return buffer__append(ctx, &pid, sizeof(pid));
}

static int by_pid(const void *a, const void *b)
{
	pid_t x = *(const pid_t *)a, y = *(const pid_t *)b;

	return x < y ? -1 : x > y;
}

int target__list_pids(pid_t **pids, size_t *count, const struct opener *o)
{
	struct buffer found = { 0 };
	int fd, err;

	*pids = NULL;
	*count = 0;
	fd = o->open_list(o->ctx);
	if (fd < 0)
		return fd;
	err = proc_file__each_number(fd, append_pid, &found);
	if (err) {
		buffer__free(&found);
		return err;
	}
	*count = found.size / sizeof(**pids);
	*pids = (pid_t *)found.data;
	if (*count)
		qsort(*pids, *count, sizeof(**pids), by_pid);
	return 0;
}

struct port_search {
	const struct opener *opener;
	pid_t pid;
	struct buffer inodes; /* uint64_t, of the sockets that the process holds, ascending */
	uint16_t *ports;
	size_t count, max;
};

static int append_socket(void *ctx, int number)
{
	struct port_search *s = ctx;
	static const char prefix[] = "socket:[";
	char text[256], *end;
	uint64_t inode;
	int err;

	err = s->opener->read_fd_link(s->opener->ctx, s->pid, number, text, sizeof(text));
	/* Descriptors come and go, and a path may be longer than any socket's name. */
	if (err == -EACCES || err == -EPERM || err == -ESRCH)
		return err;
	if (err || strncmp(text, prefix, sizeof(prefix) - 1))
		return 0;
	errno = 0;
	inode = strtoull(text + sizeof(prefix) - 1, &end, 10);
	if (errno || strcmp(end, "]"))
		return 0;
	return buffer__append(&s->inodes, &inode, sizeof(inode));
}

static int by_inode(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static bool take_port(void *ctx, const struct listening_socket *found)
{
	struct port_search *s = ctx;

	if (!bsearch(&found->inode, s->inodes.data, s->inodes.size / sizeof(uint64_t),
		     sizeof(uint64_t), by_inode))
		return true;
	for (size_t i = 0; i < s->count; i++)
		if (s->ports[i] == found->port)
			return true;
	s->ports[s->count++] = found->port;
	return s->count < s->max;
}

static int search_table(struct port_search *s, enum proc_file table)
{
	struct buffer text = { 0 };
	int err;

	err = proc_file__read(s->opener, s->pid, table, TCP_TABLE_MAX, &text);
	if (!err || err == -EFBIG) {
		tcp_table__each((const char *)text.data, text.size, take_port, s);
		err = 0;
	}
	buffer__free(&text);
	return err == -ENOENT ? 0 : err; /* a kernel without IPv6 has no tcp6 */
}

static int by_port(const void *a, const void *b)
{
	return *(const uint16_t *)a - *(const uint16_t *)b;
}

int target__listening_ports(pid_t pid, const struct opener *o, uint16_t *ports, size_t max)
{
	struct port_search s = { .opener = o, .pid = pid, .ports = ports, .max = max };
	int fd, err;

	if (!max)
		return 0;
	fd = o->open_proc(o->ctx, pid, PROC_FDS);
	if (fd < 0)
		return fd;
	err = proc_file__each_number(fd, append_socket, &s);
	if (err || !s.inodes.size)
		goto out;
	qsort(s.inodes.data, s.inodes.size / sizeof(uint64_t), sizeof(uint64_t), by_inode);
	err = search_table(&s, PROC_NET_TCP);
	if (!err && s.count < max)
		err = search_table(&s, PROC_NET_TCP6);
	qsort(ports, s.count, sizeof(*ports), by_port);
out:
	buffer__free(&s.inodes);
	return err ? err : (int)s.count;
}
