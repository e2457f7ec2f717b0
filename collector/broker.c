/* SPDX-License-Identifier: BSD-2-Clause */
#include "collector/broker.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "collector/broker_protocol.h"
#include "collector/calibrator.h"
#include "collector/kin.h"
#include "collector/listeners.h"
#include "collector/programs.h"
#include "collector/target_file.h"
#include "collector/unlinker.h"
#include "probe/attach/link.h"
#include "probe/base/error.h"
#include "probe/base/file_user.h"
#include "probe/target/opener.h"

#define UNLINK_WAIT_MS 100

/* Where a probe may be. */
struct placed {
	dev_t device;
	ino_t inode;
	uint64_t offset;
	uint32_t program;
};

struct broker {
	struct broker_options options;
	struct placed placed[MP_SITES]; /* all places that ever had a probe */
	uint32_t places;
	bool frozen; /* attached: no further places, but the same ones in further descendants */
	int pidfd;   /* of options.pid: a number that was given to another process is refused */
	struct programs *programs;
	struct programs_loading *loading; /* begun before the reader asked; NULL: not, or over */
	uint32_t loading_bytes;
	struct uprobe_links *link[BROKER_LINKS_MAX];
	pid_t linked[BROKER_LINKS_MAX]; /* whose they are */
	struct listeners listeners;
	struct calibrator calibrator;
	bool multi;
	int socket; /* -1 while not serving */
};

/* --- who ------------------------------------------------------------------------------------ */

/* 0 if @pid is the process of the command line or descends from it; else -EACCES, or -ESRCH once
 * that one is gone. */
static int check_pid(const struct broker *b, pid_t pid)
{
	struct pollfd gone = { .fd = b->pidfd, .events = POLLIN };

	if (pid <= 0 || b->pidfd < 0)
		return -EACCES;
	if (poll(&gone, 1, 0) > 0)
		return -ESRCH;
	return kin__descends(pid, b->options.pid) ? 0 : -EACCES;
}

/* The named process and what descends from it. */
static int list_kin(const struct broker *b, struct broker_response *response)
{
	int count = check_pid(b, b->options.pid);

	if (!count)
		count = kin__list(response->kin, BROKER_KIN_MAX, b->options.pid);
	response->kin_count = count > 0 ? (uint32_t)count : 0;
	return count < 0 ? count : 0;
}

/* What descends from the named process counts only while it is the same user's: a setuid program
 * that it started is none of the service. */
static int check_user(const struct broker *b, pid_t pid)
{
	struct file_user named, other;
	int err;

	if (pid == b->options.pid)
		return 0;
	err = target_file__user(b->options.pid, &named);
	if (!err)
		err = target_file__user(pid, &other);
	return err ? err : named.uid == other.uid ? 0 : -EACCES;
}

/* Who started the named process, as far as that was the same user: what is asked is which server it
 * is part of. */
static bool may_tell_ancestor(const struct broker *b, const struct broker_request *r)
{
	return r->operation == BROKER_OPEN_PROC &&
	       (r->file == PROC_STAT || r->file == PROC_CMDLINE) && r->pid > 0 &&
	       !check_pid(b, b->options.pid) && kin__descends(b->options.pid, r->pid) &&
	       !check_user(b, r->pid);
}

/* May files of @pid be opened? */
static int check_open(const struct broker *b, pid_t pid)
{
	int err;

	if (b->options.any_pid)
		return pid > 0 ? 0 : -EINVAL;
	err = check_pid(b, pid);
	return err ? err : check_user(b, pid);
}

/* Of processes that nobody named, only what says which engine runs where. */
static bool is_listed(uint32_t file)
{
	switch (file) {
	case PROC_MAPS:
	case PROC_STAT:
	case PROC_STATUS:
	case PROC_CMDLINE:
	case PROC_COMM:
	case PROC_EXE:
	case PROC_NET_TCP:
	case PROC_NET_TCP6:
	case PROC_FDS:
	case PROC_NS_PID:
		return true;
	default:
		return false;
	}
}

/* --- files ---------------------------------------------------------------------------------- */

static int open_file(const struct broker *b, const struct broker_request *r)
{
	const struct opener *o = &opener_direct;
	int err = check_open(b, r->pid);

	if (err && !may_tell_ancestor(b, r))
		return err;
	switch (r->operation) {
	case BROKER_OPEN_PROC:
		if (r->file >= PROC_FILE_COUNT)
			return -EINVAL;
		if (b->options.any_pid && !is_listed(r->file))
			return -EACCES;
		return o->open_proc(o->ctx, r->pid, r->file);
	case BROKER_OPEN_MAPPED:
		return o->open_mapped(o->ctx, r->pid, r->start, r->end);
	default:
		if (!memchr(r->path, '\0', sizeof(r->path)))
			return -EINVAL;
		return target_file__open_model(r->pid, r->path);
	}
}

/* Who lists candidates sees which processes there are. */
static int open_list(const struct broker *b)
{
	return b->options.any_pid ? opener_direct.open_list(opener_direct.ctx) : -EACCES;
}

static int read_fd_link(const struct broker *b, const struct broker_request *r, char *text)
{
	int err = check_open(b, r->pid);

	if (!err)
		err = opener_direct.read_fd_link(opener_direct.ctx, r->pid, r->fd, text,
						 BROKER_TEXT_SIZE);
	if (err || !strncmp(text, "socket:", 7) || target_file__is_weights(text))
		return err;
	/* The names of other files are none of the reader's business: it looks for ports and for
	 * the model. */
	memset(text, 0, BROKER_TEXT_SIZE);
	return -ENODATA;
}

static int read_variable(const struct broker *b, const struct broker_request *r, char *text)
{
	int err = check_open(b, r->pid);

	return err ? err
		   : opener_direct.read_variable(opener_direct.ctx, r->pid, r->variable, text,
						 BROKER_TEXT_SIZE);
}

/* --- kernel programs ------------------------------------------------------------------------ */

static struct programs_options programs_options(const struct broker *b, uint32_t ring_bytes)
{
	return (struct programs_options){
		.ring_bytes = ring_bytes,
		.heads = b->options.heads,
		.multi = b->multi,
		.verbose = b->options.verbose,
	};
}

static int load(struct broker *b, const struct broker_request *r, struct broker_response *response)
{
	uint32_t bytes = r->ring_bytes;
	struct programs_options options = programs_options(b, bytes);
	int err;

	if (b->programs)
		return -EBUSY;
	if (bytes < BROKER_RING_MIN || bytes > BROKER_RING_MAX || bytes & (bytes - 1))
		return -EINVAL;
	if (b->loading && b->loading_bytes == bytes) {
		err = programs__wait(&b->programs, b->loading);
		b->loading = NULL;
	} else {
		err = programs__load(&b->programs, &options);
	}
	if (!err)
		return 0;
	if (err == -EPERM || err == -EACCES)
		return error__set(&response->error, EXIT_PERMISSION, -err,
				  "run as root, or see `moeprobe doctor` for the capabilities",
				  "collector: failed to load the kernel programs: not permitted");
	return error__set(&response->error, EXIT_UNSUPPORTED, -err,
			  "see `moeprobe doctor`; -v shows the kernel's own words",
			  "collector: failed to load the kernel programs: %s", strerror(-err));
}

/* --- probes --------------------------------------------------------------------------------- */

/* May @r put its probes into @file? What it names is remembered; once frozen, only places that had
 * a probe may have one, again or in another process: a worker that was started anew has mapped the
 * files that the one before it had. */
static int check_places(struct broker *b, const struct broker_request *r, int file)
{
	struct stat st;

	if (fstat(file, &st))
		return -errno;
	for (uint32_t i = 0; i < r->places.count; i++) {
		struct placed p = { st.st_dev, st.st_ino, r->places.offset[i], r->places.program };
		uint32_t at = 0;

		while (at < b->places &&
		       (b->placed[at].device != p.device || b->placed[at].inode != p.inode ||
			b->placed[at].offset != p.offset || b->placed[at].program != p.program))
			at++;
		if (at < b->places)
			continue;
		if (b->frozen || b->places == MP_SITES)
			return -EACCES;
		b->placed[b->places++] = p;
	}
	return 0;
}

static int place(struct broker *b, const struct broker_request *r, struct broker_response *response,
		 uint32_t slot)
{
	struct link_request request = {
		.pid = r->pid,
		.count = r->places.count,
		.offsets = r->places.offset,
		.cookies = r->places.cookie,
		.multi = b->multi,
	};
	int err;

	request.file_fd = opener_direct.open_mapped(opener_direct.ctx, r->pid, r->start, r->end);
	if (request.file_fd < 0)
		return error__set(
			&response->error, EXIT_NO_TARGET, -request.file_fd, NULL,
			"collector: failed to open the file that process %d has mapped at "
			"%#llx: %s",
			r->pid, (unsigned long long)r->start, strerror(-request.file_fd));
	request.program_fd = programs__fd(b->programs, r->places.program);
	err = check_places(b, r, request.file_fd);
	if (err == -EACCES)
		error__set(&response->error, EXIT_FAILED, EACCES,
			   "attach again, now that it has mapped its libraries",
			   "collector: failed to probe process %d: no process had a probe at this "
			   "place when the capture began",
			   r->pid);
	if (!err)
		err = uprobe_links__open(&b->link[slot], &request, &response->error);
	b->linked[slot] = r->pid;
	close(request.file_fd);
	return err;
}

/* No place of a file: the process becomes one whose requests' heads are read. */
static int listen_to(struct broker *b, const struct broker_request *r,
		     struct broker_response *response)
{
	if (!b->options.heads || r->places.count != 1)
		return -EACCES;
	return listeners__add(&b->listeners, b->programs, r->pid, (uint32_t)r->places.cookie[0],
			      &response->error);
}

static int link_places(struct broker *b, const struct broker_request *r,
		       struct broker_response *response)
{
	uint32_t slot = 0;
	int err;

	if (!b->programs || r->places.program >= MP_PROGRAM_COUNT || r->places.count < 1 ||
	    r->places.count > LINK_PLACES_MAX)
		return -EINVAL;
	for (uint32_t i = 0; i < r->places.count; i++)
		if (r->places.cookie[i] >= MP_SITES)
			return -EINVAL;
	err = check_pid(b, r->pid);
	if (!err)
		err = check_user(b, r->pid);
	if (err == -ESRCH)
		return error__set(&response->error, EXIT_NO_TARGET, ESRCH, NULL,
				  "collector: failed to probe process %d: it is gone", r->pid);
	if (err)
		return err;
	if (r->places.program == MP_PROGRAM_HEADS)
		return listen_to(b, r, response);
	while (slot < BROKER_LINKS_MAX && b->link[slot])
		slot++;
	if (slot == BROKER_LINKS_MAX)
		return -ENOSPC;
	return place(b, r, response, slot);
}

/* What a child of ours must not hold: the reader's end would not see us end. */
static void leave_reader(void *ctx)
{
	const struct broker *b = ctx;

	if (b->socket >= 0)
		close(b->socket);
}

/* Nor what ends with us. */
static void let_go(void *ctx)
{
	struct broker *b = ctx;

	for (uint32_t i = 0; i < BROKER_LINKS_MAX; i++)
		uprobe_links__close(b->link[i]);
	listeners__let_go(&b->listeners);
	leave_reader(b);
}

/* Take the probes of @pid away; 0: all. A process that is gone may be named too. */
static void unlink_places(struct broker *b, pid_t pid)
{
	struct uprobe_links *gone[BROKER_LINKS_MAX];
	const struct unlinker_options o = {
		.let_go = let_go,
		.ctx = b,
		.wait_ms = UNLINK_WAIT_MS,
	};
	size_t count = 0;

	listeners__remove(&b->listeners, b->programs, pid);
	for (uint32_t i = 0; i < BROKER_LINKS_MAX; i++) {
		if (!b->link[i] || (pid && b->linked[i] != pid))
			continue;
		gone[count++] = b->link[i];
		b->link[i] = NULL;
	}
	if (count)
		unlinker__run(gone, count, &o);
}

static int calibrate(struct broker *b, const struct broker_request *r)
{
	struct calibrator_options o = {
		.threads = r->calibrate.threads,
		.router = (enum mp_program)r->calibrate.router,
		.multi = b->multi,
		.let_go = let_go,
		.ctx = b,
	};

	if (!b->programs ||
	    (r->calibrate.router != MP_PROGRAM_ROUTE && r->calibrate.router != MP_PROGRAM_TENSORS))
		return -EINVAL;
	return calibrator__start(&b->calibrator, &o);
}

/* Processor time of the broker and of the children that it has waited for. */
static uint64_t cpu_ns(void)
{
	struct rusage children = { 0 };
	struct timespec own = { 0 };

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &own);
	getrusage(RUSAGE_CHILDREN, &children);
	return ((uint64_t)own.tv_sec + (uint64_t)children.ru_utime.tv_sec +
		(uint64_t)children.ru_stime.tv_sec) *
		       1000000000u +
	       (uint64_t)own.tv_nsec +
	       ((uint64_t)children.ru_utime.tv_usec + (uint64_t)children.ru_stime.tv_usec) * 1000u;
}

/* --- the conversation ----------------------------------------------------------------------- */

/* A descriptor that the reader gets, or the errno it gets instead. */
static unsigned give(struct broker_response *response, int *fds, int fd)
{
	response->result = fd < 0 ? fd : 0;
	fds[0] = fd;
	return fd >= 0;
}

/* The maps' descriptors stay ours: what is handed out are copies. */
static unsigned give_maps(const struct broker *b, struct broker_response *response, int *fds)
{
	static const enum program_map maps[BROKER_FDS_MAX] = {
		[BROKER_FD_RING] = PROGRAM_MAP_RING,
		[BROKER_FD_SITES] = PROGRAM_MAP_SITES,
		[BROKER_FD_COUNTERS] = PROGRAM_MAP_COUNTERS,
	};

	for (unsigned i = 0; i < BROKER_FDS_MAX; i++) {
		fds[i] = fcntl(programs__map_fd(b->programs, maps[i]), F_DUPFD_CLOEXEC, 0);
		if (fds[i] >= 0)
			continue;
		response->result = -errno;
		while (i)
			close(fds[--i]);
		return 0;
	}
	return BROKER_FDS_MAX;
}

unsigned broker__answer(struct broker *b, const struct broker_request *request,
			struct broker_response *response, int *fds)
{
	memset(response, 0, sizeof(*response));
	calibrator__poll(&b->calibrator);
	response->cpu_ns = cpu_ns();
	response->costs = b->calibrator.costs;
	switch (request->operation) {
	case BROKER_OPEN_PROC:
	case BROKER_OPEN_MAPPED:
	case BROKER_OPEN_PATH:
		return give(response, fds, open_file(b, request));
	case BROKER_OPEN_LIST:
		return give(response, fds, open_list(b));
	case BROKER_LIST_KIN:
		response->result = list_kin(b, response);
		return 0;
	case BROKER_READ_FD_LINK:
		response->result = read_fd_link(b, request, response->text);
		return 0;
	case BROKER_READ_VARIABLE:
		response->result = read_variable(b, request, response->text);
		return 0;
	case BROKER_LOAD:
		response->result = load(b, request, response);
		return response->result ? 0 : give_maps(b, response, fds);
	case BROKER_LINK:
		response->result = link_places(b, request, response);
		return 0;
	case BROKER_UNLINK:
		b->frozen = true;
		unlink_places(b, request->pid);
		return 0;
	case BROKER_CALIBRATE:
		b->frozen = true; /* asked for once all probes are there */
		response->result = calibrate(b, request);
		return 0;
	default:
		response->result = -EINVAL;
		return 0;
	}
}

/* 0 or -errno. */
static int respond(int fd, const struct broker_response *response, const int *fds, unsigned count)
{
	union {
		char bytes[CMSG_SPACE(BROKER_FDS_MAX * sizeof(int))];
		struct cmsghdr align;
	} control = { 0 };
	struct iovec part = { (void *)response, sizeof(*response) };
	struct msghdr m = { .msg_iov = &part, .msg_iovlen = 1 };
	struct cmsghdr *c;
	ssize_t n;

	if (count) {
		m.msg_control = control.bytes;
		m.msg_controllen = CMSG_SPACE(count * sizeof(int));
		c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(count * sizeof(int));
		memcpy(CMSG_DATA(c), fds, count * sizeof(int));
	}
	do {
		n = sendmsg(fd, &m, MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

int broker__serve(struct broker *b, int fd)
{
	struct broker_request request;
	struct broker_response response;
	int fds[BROKER_FDS_MAX], err = 0;
	unsigned count;
	ssize_t n;

	b->socket = fd;
	while (!err) {
		n = recv(fd, &request, sizeof(request), 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 && errno != ECONNRESET ? -errno : 0;
		if (n != sizeof(request))
			request.operation = BROKER_OPERATION_COUNT;
		count = broker__answer(b, &request, &response, fds);
		err = respond(fd, &response, fds, count);
		while (count)
			close(fds[--count]);
	}
	return err == -EPIPE || err == -ECONNRESET ? 0 : err;
}

int broker__new(struct broker **out, const struct broker_options *o, struct error *e)
{
	struct broker *b;
	int err;

	*out = NULL;
	b = calloc(1, sizeof(*b));
	if (!b)
		return error__set(e, EXIT_FAILED, ENOMEM, NULL, "collector: out of memory");
	b->options = *o;
	b->pidfd = -1;
	b->socket = -1;
	if (o->pid) {
		b->pidfd = (int)syscall(SYS_pidfd_open, o->pid, 0);
		if (b->pidfd < 0) {
			err = -errno;
			free(b);
			return error__set(e, EXIT_NO_TARGET, -err,
					  "moeprobe attach, without a process id, lists candidates",
					  "collector: failed to open process %d: %s", (int)o->pid,
					  err == -ESRCH ? "no such process" : strerror(-err));
		}
	}
	*out = b;
	return 0;
}

void broker__set_multi(struct broker *b, bool multi)
{
	b->multi = multi;
}

void broker__expect(struct broker *b, uint32_t ring_bytes)
{
	struct programs_options options = programs_options(b, ring_bytes);

	if (b->programs || b->loading)
		return;
	b->loading_bytes = ring_bytes;
	b->loading = programs__start(&options);
}

void broker__free(struct broker *b)
{
	if (!b)
		return;
	if (b->loading) {
		struct programs *unwanted;

		programs__wait(&unwanted, b->loading);
		programs__free(unwanted);
	}
	unlink_places(b, 0);
	calibrator__stop(&b->calibrator);
	programs__free(b->programs);
	if (b->pidfd >= 0)
		close(b->pidfd);
	free(b);
}
