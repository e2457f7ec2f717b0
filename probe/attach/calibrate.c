/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The child is a fork that never leaves this file: it waits for orders on a socket, runs a
 * round, answers with the time a call, and ends with the socket. Time is the threads' CPU time,
 * so that a busy machine does not count as cost; a round is repeated and the fastest counts, as
 * disturbance only ever adds.
 */
#include "probe/attach/calibrate.h"

#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "probe/attach/arch.h"
#include "probe/base/error.h"

#define ROUNDS 5
/* Less is no trap: the probe did not fire. A function call takes 2 ns. */
#define HIT_NS_MIN 50.0
/* Readable behind a sample's beginning, more than its first instruction. */
#define SAMPLE_BYTES 8

static const unsigned calls_of_class[SITE_CLASSES] = {
	[SITE_EMULATED] = 2000, /* about 2 ms a round */
	[SITE_STEPPED] = 300,   /* about 5 ms */
};

/* What the child is told to do. */
struct order {
	uint32_t class, threads;
};

struct round {
	void (*call)(void);
	unsigned calls;
	double call_ns;
	pthread_barrier_t *together;
};

struct child {
	pid_t pid;
	int fd; /* a socket to it */
};

/* The function whose first instruction is what @class says. */
static void (*sample(unsigned class))(void)
{
	const struct arch_ops *arch = arch__own();

	if (!arch)
		return NULL;
	return class == SITE_EMULATED ? arch->sample_emulated : arch->sample_stepped;
}

static void *run_thread(void *arg)
{
	struct round *r = arg;
	struct timespec a, b;

	pthread_barrier_wait(r->together);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a);
	for (unsigned i = 0; i < r->calls; i++)
		r->call();
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b);
	r->call_ns =
		((double)(b.tv_sec - a.tv_sec) * 1e9 + (double)(b.tv_nsec - a.tv_nsec)) / r->calls;
	return NULL;
}

/* Mean time a call over the threads of one round; < 0 if they cannot be made. */
static double run_round(const struct order *o)
{
	struct round rounds[CALIBRATE_THREADS_MAX];
	pthread_t id[CALIBRATE_THREADS_MAX];
	pthread_barrier_t together;
	double sum = 0;
	uint32_t i;

	pthread_barrier_init(&together, NULL, o->threads);
	for (i = 0; i < o->threads; i++) {
		rounds[i] = (struct round){ .call = sample(o->class),
					    .calls = calls_of_class[o->class],
					    .together = &together };
		/* Those that now wait in vain end with the process. */
		if (pthread_create(&id[i], NULL, run_thread, &rounds[i]))
			return -1;
	}
	for (i = 0; i < o->threads; i++) {
		pthread_join(id[i], NULL);
		sum += rounds[i].call_ns;
	}
	pthread_barrier_destroy(&together);
	return sum / o->threads;
}

static void child_main(int fd)
{
	struct order o;
	double ns;

	/* Should the parent be killed, the socket closes or this signal comes. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (recv(fd, &o, sizeof(o), MSG_WAITALL) == (ssize_t)sizeof(o)) {
		ns = run_round(&o);
		if (ns < 0 || send(fd, &ns, sizeof(ns), MSG_NOSIGNAL) != (ssize_t)sizeof(ns))
			break;
	}
	_exit(0);
}

static int child_start(struct child *c)
{
	int pair[2], err = 0;

	*c = (struct child){ .pid = -1, .fd = -1 };
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return -errno;
	c->pid = fork();
	if (!c->pid) {
		close(pair[0]);
		child_main(pair[1]);
	}
	if (c->pid < 0)
		err = -errno;
	close(pair[1]);
	c->fd = pair[0];
	return err;
}

static void child_end(struct child *c)
{
	if (c->fd >= 0)
		close(c->fd);
	if (c->pid > 0) {
		kill(c->pid, SIGKILL);
		while (waitpid(c->pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
}

/* One round by the child. */
static int ask(const struct child *c, const struct order *o, double *ns)
{
	ssize_t n;

	*ns = -1;
	do
		n = send(c->fd, o, sizeof(*o), MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n != (ssize_t)sizeof(*o))
		return -EIO;
	do
		n = recv(c->fd, ns, sizeof(*ns), MSG_WAITALL);
	while (n < 0 && errno == EINTR);
	return n == (ssize_t)sizeof(*ns) ? 0 : -EIO;
}

/* The fastest of some rounds, in ns a call. */
static int measure(const struct child *c, unsigned class, unsigned threads, double *fastest)
{
	const struct order o = { .class = class, .threads = threads };
	double ns;
	int err = 0, i;

	*fastest = -1;
	for (i = 0; i < ROUNDS && !err; i++) {
		err = ask(c, &o, &ns);
		if (!err && (*fastest < 0 || ns < *fastest))
			*fastest = ns;
	}
	return err;
}

struct place {
	uint64_t address;    /* in this process, and so in a fork of it */
	uint64_t offset;     /* in the file; 0: not found */
	uint64_t start, end; /* the mapping, whole pages */
};

/* Our program is the first object listed; its segments say where an address is in the file. */
static int find_offset(struct dl_phdr_info *info, size_t size, void *arg)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	struct place *p = arg;

	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *h = &info->dlpi_phdr[i];
		uint64_t start = info->dlpi_addr + h->p_vaddr;

		if (h->p_type != PT_LOAD || p->address < start || p->address - start >= h->p_filesz)
			continue;
		p->offset = p->address - start + h->p_offset;
		p->start = start & ~(page - 1);
		p->end = (start + h->p_filesz + page - 1) & ~(page - 1);
	}
	return 1; /* no further object */
}

/* Where the samples are in our executable, each verified to be what its class says. */
static int find_places(struct calibrate_target *t, uint64_t *offsets)
{
	const struct arch_ops *arch = arch__own();
	uint32_t kernel = arch__running_kernel();
	struct arch_instruction in;

	for (unsigned i = 0; i < SITE_CLASSES; i++) {
		struct place p = { .address = (uint64_t)(uintptr_t)sample(i) };
		bool emulated;

		if (!arch || arch->decode(&in, (const uint8_t *)(uintptr_t)p.address, SAMPLE_BYTES,
					  p.address))
			return -ENOTSUP;
		emulated = in.emulated_since && kernel >= in.emulated_since;
		dl_iterate_phdr(find_offset, &p);
		if (emulated != (i == SITE_EMULATED) || !p.offset)
			return -ENOTSUP;
		offsets[i] = p.offset;
		t->start = p.start;
		t->end = p.end;
	}
	t->offsets = offsets;
	t->count = SITE_CLASSES;
	return 0;
}

static int measure_all(const struct child *c, unsigned threads, double *call_ns)
{
	int err = 0;

	for (unsigned i = 0; i < SITE_CLASSES && !err; i++)
		err = measure(c, i, threads, &call_ns[i]);
	return err;
}

static int run_with_child(struct calibration *out, const struct child *c,
			  const struct calibrate_ops *ops, struct error *e)
{
	struct calibrate_target target = { .pid = c->pid };
	double without[SITE_CLASSES], with[SITE_CLASSES];
	uint64_t offsets[SITE_CLASSES];
	int err, i;

	err = find_places(&target, offsets);
	if (!err)
		err = measure_all(c, out->threads, without);
	if (!err)
		err = ops->link(ops->ctx, &target, e);
	if (err)
		return err;
	err = measure_all(c, out->threads, with);
	ops->unlink(ops->ctx);
	if (err)
		return err;
	for (i = 0; i < SITE_CLASSES; i++) {
		if (with[i] - without[i] < HIT_NS_MIN)
			return error__set(e, EXIT_FAILED, ENODATA, NULL,
					  "calibrate: failed to measure a hit: the probe on our "
					  "own process does not fire");
	}
	for (i = 0; i < SITE_CLASSES; i++)
		out->hit_ns[i] = with[i] - without[i];
	return 0;
}

int calibrate__run(struct calibration *out, unsigned threads, const struct calibrate_ops *ops,
		   struct error *e)
{
	struct child c;
	int err, i;

	memset(out, 0, sizeof(*out));
	for (i = 0; i < SITE_CLASSES; i++)
		out->hit_ns[i] = -1;
	out->threads = threads < 1 ? 1 : threads;
	if (out->threads > CALIBRATE_THREADS_MAX)
		out->threads = CALIBRATE_THREADS_MAX;
	err = child_start(&c);
	if (!err)
		err = run_with_child(out, &c, ops, e);
	child_end(&c);
	if (err)
		return error__set(e, EXIT_FAILED, -err, NULL,
				  "calibrate: failed to measure a hit: %s", strerror(-err));
	return 0;
}
