/* SPDX-License-Identifier: BSD-2-Clause */
#include "collector/child.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

void child__leave(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	signal(SIGINT, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (null < 0 || dup2(null, fd) < 0)
			close(fd);
}
