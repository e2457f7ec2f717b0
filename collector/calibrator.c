/* SPDX-License-Identifier: BSD-2-Clause */
#include "collector/calibrator.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "collector/child.h"
#include "collector/programs.h"
#include "probe/abi/site.h"
#include "probe/attach/calibrate.h"
#include "probe/attach/link.h"

#define END_TRIES 20 /* a millisecond each */

/* Programs and maps of its own: what is captured here must not take room from the target's. Room
 * for a round, of which half are large records and half smaller ones, in the three quarters of it
 * that router results may fill (probe/bpf/emit.bpf.h). */
#define RING_BYTES (1u << 20)
_Static_assert(CALIBRATE_ROUND_PAIRS *(16384u + 2048u + 2 * 8u) <= RING_BYTES / 4 * 3,
	       "captures of a round would be lost");

struct probing {
	const struct calibrator_options *o;
	int file; /* our own program */
	struct programs *programs;
	struct ring_buffer *ring;
	/* They end with this process: waiting for the kernel would hold back the result. */
	struct uprobe_links *links, *router;
};

static int link_places(struct uprobe_links **out, const struct probing *p, enum mp_program program,
		       const struct calibrate_target *t, uint64_t cookie, struct error *e)
{
	uint64_t cookies[LINK_PLACES_MAX];
	struct link_request r = {
		.program_fd = programs__fd(p->programs, program),
		.file_fd = p->file,
		.pid = t->pid,
		.count = t->count,
		.offsets = t->offsets,
		.cookies = cookies,
		.multi = p->o->multi,
	};

	for (size_t i = 0; i < LINK_PLACES_MAX; i++)
		cookies[i] = cookie;
	return uprobe_links__open(out, &r, e);
}

/* Rows of the calibration's own site table. */
enum { ROW_EMPTY, ROW_ROUTER };

static int enable(const struct probing *p, uint32_t key, struct mp_site row,
		  const struct calibrate_target *t)
{
	row.tgid = (uint32_t)t->pid;
	row.enabled = 1;
	return bpf_map_update_elem(programs__map_fd(p->programs, PROGRAM_MAP_SITES), &key, &row,
				   BPF_ANY)
		       ? -errno
		       : 0;
}

static int link_child(void *ctx, const struct calibrate_target *t, struct error *e)
{
	struct probing *p = ctx;
	int err = enable(p, ROW_EMPTY, (struct mp_site){ .program = MP_PROGRAM_EMPTY }, t);

	return err ? err : link_places(&p->links, p, MP_PROGRAM_EMPTY, t, ROW_EMPTY, e);
}

static int link_router(void *ctx, const struct calibrate_target *t, const struct mp_site *site)
{
	struct probing *p = ctx;
	int err = enable(p, ROW_ROUTER, *site, t);

	return err ? err : link_places(&p->router, p, site->program, t, ROW_ROUTER, NULL);
}

static int drop_event(void *ctx, void *data, size_t size)
{
	return 0;
}

/* A capture is a single event here: the largest fits one record. */
static size_t drain(void *ctx)
{
	struct probing *p = ctx;
	int events = ring_buffer__consume(p->ring);

	return events < 0 ? 0 : (size_t)events;
}

static void unlink_child(void *ctx)
{
}

static int load(struct probing *p)
{
	const struct programs_options options = {
		.ring_bytes = RING_BYTES,
		.only = 1u << MP_PROGRAM_EMPTY | 1u << p->o->router,
		.multi = p->o->multi,
	};
	int err = programs__load(&p->programs, &options);

	if (err)
		return err;
	p->ring = ring_buffer__new(programs__map_fd(p->programs, PROGRAM_MAP_RING), drop_event, p,
				   NULL);
	return p->ring ? 0 : -errno;
}

/* Placing probes takes two rights (probe/attach/ability.c). CAP_SYS_ADMIN stands in where we lack
 * one of them, and single links ask for it. */
static int keep_probing_rights(bool multi)
{
	static const cap_value_t wanted[] = { CAP_BPF, CAP_PERFMON, CAP_SYS_ADMIN };
	cap_t mine = cap_get_proc(), kept = cap_init();
	cap_flag_value_t has;
	int take = multi ? 2 : 3, err = mine && kept ? 0 : -errno;

	for (int i = 0; i < take && !err; i++) {
		if (cap_get_flag(mine, wanted[i], CAP_PERMITTED, &has))
			err = -errno;
		else if (has == CAP_CLEAR)
			take = 3;
		else if (cap_set_flag(kept, CAP_PERMITTED, 1, &wanted[i], CAP_SET) ||
			 cap_set_flag(kept, CAP_EFFECTIVE, 1, &wanted[i], CAP_SET))
			err = -errno;
	}
	if (!err && (cap_set_proc(kept) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)))
		err = -errno;
	cap_free(mine);
	cap_free(kept);
	return err;
}

static void end_now(int number)
{
	_exit(0);
}

static void unblock(int number)
{
	sigset_t one;

	sigemptyset(&one);
	sigaddset(&one, number);
	sigprocmask(SIG_UNBLOCK, &one, NULL);
}

/* In the child. */
static void measure(const struct calibrator_options *o, pid_t parent, int to)
{
	struct probing p = { .o = o, .file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC) };
	struct calibrate_ops ops = {
		.link = link_child,
		.link_router = link_router,
		.drain = drain,
		.unlink = unlink_child,
		.ctx = &p,
	};
	struct hit_costs costs = { 0 };

	/* Never killed: with a fatal signal pending the kernel cannot take a probe out of a process
	 * ("failed to unregister, leaking uprobe"). This waits until a link is made. */
	signal(SIGTERM, end_now);
	unblock(SIGTERM);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		_exit(1); /* it died before we could say so */
	child__leave();
	o->let_go(o->ctx);
	signal(SIGALRM, SIG_DFL);
	if (p.file < 0 || load(&p) || keep_probing_rights(o->multi))
		_exit(1);
	calibrate__run(&costs, o->router, o->threads, &ops, NULL);
	if (write(to, &costs, sizeof(costs)) < 0)
		_exit(1);
	_exit(0);
}

int calibrator__start(struct calibrator *c, const struct calibrator_options *o)
{
	sigset_t term, before;
	pid_t parent;
	int ends[2], err;

	if (c->started)
		return -EALREADY;
	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK))
		return -errno;
	parent = getpid();
	/* Until the child has its own handler: ours would be wrong there. */
	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	sigprocmask(SIG_BLOCK, &term, &before);
	c->pid = fork();
	if (!c->pid) {
		close(ends[0]);
		measure(o, parent, ends[1]);
	}
	err = c->pid < 0 ? -errno : 0;
	sigprocmask(SIG_SETMASK, &before, NULL);
	close(ends[1]);
	if (err) {
		c->pid = 0;
		close(ends[0]);
		return err;
	}
	c->started = true;
	c->from = ends[0];
	return 0;
}

/* True once it is gone. The kernel may hold it for seconds while it takes its probes away (see
 * unlinker.h). */
static bool reap(struct calibrator *c)
{
	if (waitpid(c->pid, NULL, WNOHANG) != 0)
		c->pid = 0;
	return !c->pid;
}

void calibrator__stop(struct calibrator *c)
{
	const struct timespec pause = { .tv_nsec = 1000000 };

	if (!c->pid)
		return;
	kill(c->pid, SIGTERM);
	for (int i = 0; i < END_TRIES && !reap(c); i++)
		nanosleep(&pause, NULL);
	if (c->from >= 0)
		close(c->from);
	c->from = -1;
}

void calibrator__poll(struct calibrator *c)
{
	struct hit_costs costs;
	ssize_t n;

	if (!c->pid)
		return;
	if (c->from >= 0) {
		n = read(c->from, &costs, sizeof(costs));
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n == (ssize_t)sizeof(costs))
			c->costs = costs;
		close(c->from);
		c->from = -1;
	}
	reap(c);
}
