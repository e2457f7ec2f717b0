/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A target that calls small functions an exact number of times. Reads lines
 * "FUNCTION CALLS THREADS [cold]" (each thread makes CALLS calls) from standard input, prints the
 * wall time of a call in nanoseconds after each (the mean; "cold": the median of calls between
 * which other memory was read); ends with its input. First it prints its pid.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define THREADS_MAX 64
#define COLD_CALLS_MAX 10000
#define COLD_BYTES (1 << 20)

/* Exported, with exact first instructions: what the kernel emulates and what it steps. */
#define FUNCTION(name, code) \
	__asm__(".pushsection .text\n.p2align 4\n.globl " #name "\n.type " #name \
		", @function\n" #name ":\n" code "\n.size " #name ", . - " #name \
		"\n.popsection\n"); \
	void name(long a, long b);

#ifdef __x86_64__
FUNCTION(hot_push, "push %rbp\n pop %rbp\n ret")
FUNCTION(hot_step, "lea 8(%rsp), %r10\n mov %rdi, %rax\n ret")
/* The prologue of a function that aligns its stack: the first push of a register is late. */
FUNCTION(hot_late, "lea 8(%rsp), %r10\n mov %rsi, %r8\n push %rbp\n mov %rsp, %rbp\n"
		   "pop %rbp\n ret")
#else
__attribute__((noinline)) void hot_push(long a, long b)
{
	__asm__ volatile("" ::: "memory");
}
__attribute__((noinline)) void hot_step(long a, long b)
{
	__asm__ volatile("" ::: "memory");
}
__attribute__((noinline)) void hot_late(long a, long b)
{
	__asm__ volatile("" ::: "memory");
}
#endif

static const struct {
	const char *name;
	void (*call)(long a, long b);
} functions[] = { { "hot_push", hot_push }, { "hot_step", hot_step }, { "hot_late", hot_late } };

struct work {
	void (*call)(long a, long b);
	long calls;
	double ns; /* of a call */
};

static char other_memory[COLD_BYTES];

static double ns_since(const struct timespec *a)
{
	struct timespec b;

	clock_gettime(CLOCK_MONOTONIC, &b);
	return (double)(b.tv_sec - a->tv_sec) * 1e9 + (double)(b.tv_nsec - a->tv_nsec);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static void *run_cold(void *arg)
{
	static __thread double ns[COLD_CALLS_MAX];
	struct work *w = arg;
	struct timespec a;

	for (long i = 0; i < w->calls; i++) {
		for (size_t at = 0; at < COLD_BYTES; at += 64)
			((volatile char *)other_memory)[at]++;
		clock_gettime(CLOCK_MONOTONIC, &a);
		w->call(i, -i);
		ns[i] = ns_since(&a);
	}
	qsort(ns, (size_t)w->calls, sizeof(ns[0]), by_value);
	w->ns = ns[w->calls / 2];
	return NULL;
}

static void *run(void *arg)
{
	struct work *w = arg;
	struct timespec a;

	clock_gettime(CLOCK_MONOTONIC, &a);
	for (long i = 0; i < w->calls; i++)
		w->call(i, -i);
	w->ns = ns_since(&a) / (double)w->calls;
	return NULL;
}

static int run_line(const char *name, long calls, int threads, int cold)
{
	struct work work[THREADS_MAX];
	pthread_t id[THREADS_MAX];
	double sum = 0;
	size_t f;
	int i;

	for (f = 0; f < sizeof(functions) / sizeof(functions[0]); f++) {
		if (!strcmp(functions[f].name, name))
			break;
	}
	if (f == sizeof(functions) / sizeof(functions[0]) || calls < 1 || threads < 1 ||
	    threads > THREADS_MAX || (cold && calls > COLD_CALLS_MAX))
		return -1;
	for (i = 0; i < threads; i++) {
		work[i] = (struct work){ .call = functions[f].call, .calls = calls };
		if (pthread_create(&id[i], NULL, cold ? run_cold : run, &work[i]))
			return -1;
	}
	for (i = 0; i < threads; i++) {
		pthread_join(id[i], NULL);
		sum += work[i].ns;
	}
	printf("%.1f\n", sum / threads);
	fflush(stdout);
	return 0;
}

int main(void)
{
	char line[128], name[64], how[8];
	int threads;
	long calls;

	printf("%d\n", getpid());
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		int got = sscanf(line, "%63s %ld %d %7s", name, &calls, &threads, how);

		if (got < 3 || run_line(name, calls, threads, got == 4 && !strcmp(how, "cold")))
			return 2;
	}
	return 0;
}
