/* SPDX-License-Identifier: BSD-2-Clause */
/* The texts of /proc: maps, stat, status, net/tcp. Every answer must hold what its header says. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "probe/target/maps.h"
#include "probe/target/stat.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define require(condition) \
	do { \
		if (!(condition)) \
			abort(); \
	} while (0)

static void check_maps(const char *text, size_t size)
{
	struct maps m;

	require(maps__parse(&m, text, size) == 0);
	for (size_t i = 0; i < m.count; i++) {
		const struct mapping *item = &m.items[i];

		require(item->start < item->end && item->inode);
		require(!i || m.items[i - 1].end <= item->start);
		require(item->path[0] == '/' && strlen(item->path) <= PATH_MAX);
	}
	require(m.count + m.malformed <= size + 1);
	maps__free(&m);
}

static bool check_socket(void *ctx, const struct listening_socket *s)
{
	require(s->inode);
	return --*(int *)ctx > 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data;
	struct pid_status status;
	struct pid_stat stat;
	int wanted = 100;

	check_maps(text, size);
	if (!pid_stat__parse(&stat, text, size))
		require(stat.pid >= 0 && stat.parent >= 0 &&
			strnlen(stat.command, sizeof(stat.command)) < sizeof(stat.command));
	pid_status__parse(&status, text, size);
	require(status.thread_group >= 0 && status.namespace_pid >= 0);
	tcp_table__each(text, size, check_socket, &wanted);
	return 0;
}
