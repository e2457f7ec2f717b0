/* SPDX-License-Identifier: BSD-2-Clause */
/* Makes system calls that do nothing. Reads lines "BLOCKS CALLS" from standard input, makes so many
 * blocks of so many calls, and prints after each line the mean time of a call of the fastest block,
 * in nanoseconds: what else the machine does only adds. Ends with its input. */
#include <stdio.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static double now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static double block_ns(unsigned calls)
{
	double begin = now_ns();

	for (unsigned i = 0; i < calls; i++)
		syscall(SYS_getppid);
	return now_ns() - begin;
}

int main(void)
{
	unsigned blocks, calls;

	while (scanf("%u %u", &blocks, &calls) == 2 && blocks && calls) {
		double fastest = block_ns(calls);

		for (unsigned i = 1; i < blocks; i++) {
			double took = block_ns(calls);

			fastest = took < fastest ? took : fastest;
		}
		printf("%.3f\n", fastest / calls);
		fflush(stdout);
	}
	return 0;
}
