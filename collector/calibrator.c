/* SPDX-License-Identifier: BSD-2-Clause */
#include "collector/calibrator.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "probe/abi/site.h"
#include "probe/attach/calibrate.h"
#include "probe/attach/link.h"

struct probing {
	const struct calibrator_options *o;
	struct uprobe_links *links;
};

static int link_child(void *ctx, const struct calibrate_target *t, struct error *e)
{
	struct probing *p = ctx;
	uint64_t cookies[LINK_PLACES_MAX];
	struct link_request r = {
		.program_fd = p->o->program_fd,
		.file_fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC),
		.pid = t->pid,
		.count = t->count,
		.offsets = t->offsets,
		.cookies = cookies,
		.multi = p->o->multi,
	};
	int err;

	if (r.file_fd < 0)
		return -errno;
	/* The last row of the table, which no engine uses: an empty program does not look. */
	for (size_t i = 0; i < LINK_PLACES_MAX; i++)
		cookies[i] = MP_SITES - 1;
	err = uprobe_links__open(&p->links, &r, e);
	close(r.file_fd);
	return err;
}

static void unlink_child(void *ctx)
{
	struct probing *p = ctx;

	uprobe_links__close(p->links);
	p->links = NULL;
}

/* In the child. */
static void measure(const struct calibrator_options *o, pid_t parent, int to)
{
	struct probing p = { .o = o };
	struct calibrate_ops ops = { .link = link_child, .unlink = unlink_child, .ctx = &p };
	uint64_t hit_ns[SITE_CLASSES] = { 0 };
	struct calibration result;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1); /* it died before we could say so */
	o->let_go(o->ctx);
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGALRM, SIG_DFL);
	if (!calibrate__run(&result, o->threads, &ops, NULL))
		for (int i = 0; i < SITE_CLASSES; i++)
			hit_ns[i] = result.hit_ns[i] > 0 ? (uint64_t)(result.hit_ns[i] + 0.5) : 0;
	if (write(to, hit_ns, sizeof(hit_ns)) < 0)
		_exit(1);
	_exit(0);
}

int calibrator__start(struct calibrator *c, const struct calibrator_options *o)
{
	pid_t parent;
	int ends[2], err;

	if (c->started)
		return -EALREADY;
	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK))
		return -errno;
	parent = getpid();
	c->pid = fork();
	if (!c->pid) {
		close(ends[0]);
		measure(o, parent, ends[1]);
	}
	err = c->pid < 0 ? -errno : 0;
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

void calibrator__stop(struct calibrator *c)
{
	if (!c->pid)
		return;
	kill(c->pid, SIGKILL);
	while (waitpid(c->pid, NULL, 0) < 0 && errno == EINTR)
		;
	close(c->from);
	c->pid = 0;
}

void calibrator__poll(struct calibrator *c)
{
	uint64_t hit_ns[SITE_CLASSES];
	ssize_t n;

	if (!c->pid)
		return;
	n = read(c->from, hit_ns, sizeof(hit_ns));
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n == (ssize_t)sizeof(hit_ns))
		memcpy(c->hit_ns, hit_ns, sizeof(hit_ns));
	calibrator__stop(c);
}
