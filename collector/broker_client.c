/* SPDX-License-Identifier: BSD-2-Clause */
#include "collector/broker_client.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "probe/base/error.h"

/* Take the descriptors out of @m; those over BROKER_FDS_MAX do not exist by the buffer's size. */
static unsigned take_fds(struct msghdr *m, int *fds)
{
	struct cmsghdr *c = CMSG_FIRSTHDR(m);
	unsigned count;

	if (!c || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
		return 0;
	count = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
	memcpy(fds, CMSG_DATA(c), count * sizeof(int));
	return count;
}

/* One question, one answer. The number of descriptors, or -errno (@response is then zero or the
 * broker's own). */
static int ask(struct broker_client *c, const struct broker_request *request,
	       struct broker_response *response, int fds[BROKER_FDS_MAX])
{
	union {
		char bytes[CMSG_SPACE(BROKER_FDS_MAX * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec part = { response, sizeof(*response) };
	struct msghdr m = {
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	ssize_t n;
	unsigned count;

	memset(response, 0, sizeof(*response));
	do {
		n = send(c->fd, request, sizeof(*request), MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	do {
		n = recvmsg(c->fd, &m, MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	if (n == 0)
		return -EPIPE;
	count = take_fds(&m, fds);
	if (n != sizeof(*response))
		response->result = -EPROTO;
	c->cpu_ns = response->cpu_ns;
	c->costs = response->costs;
	if (response->result >= 0)
		return (int)count;
	while (count)
		close(fds[--count]);
	return response->result;
}

/* @request must give one descriptor. */
static int ask_fd(struct broker_client *c, const struct broker_request *request)
{
	struct broker_response response;
	int fds[BROKER_FDS_MAX];
	int count = ask(c, request, &response, fds);

	if (count == 1)
		return fds[0];
	while (count > 0)
		close(fds[--count]);
	return count < 0 ? count : -EPROTO;
}

static int client_open_proc(void *ctx, pid_t pid, enum proc_file file)
{
	struct broker_request r = { .operation = BROKER_OPEN_PROC, .pid = pid, .file = file };

	return ask_fd(ctx, &r);
}

static int client_open_mapped(void *ctx, pid_t pid, uint64_t start, uint64_t end)
{
	struct broker_request r = {
		.operation = BROKER_OPEN_MAPPED,
		.pid = pid,
		.start = start,
		.end = end,
	};

	return ask_fd(ctx, &r);
}

static int client_open_path(void *ctx, pid_t pid, const char *path)
{
	struct broker_request r = { .operation = BROKER_OPEN_PATH, .pid = pid };

	if (strlen(path) >= sizeof(r.path))
		return -ENAMETOOLONG;
	strcpy(r.path, path);
	return ask_fd(ctx, &r);
}

static int client_open_list(void *ctx)
{
	struct broker_request r = { .operation = BROKER_OPEN_LIST };

	return ask_fd(ctx, &r);
}

static int ask_text(struct broker_client *c, const struct broker_request *r, char *text,
		    size_t size)
{
	struct broker_response response;
	int fds[BROKER_FDS_MAX];
	size_t length;
	int err;

	if (!size)
		return -EINVAL;
	text[0] = '\0';
	err = ask(c, r, &response, fds);
	if (err < 0)
		return err;
	length = strnlen(response.text, sizeof(response.text));
	if (length >= size || length == sizeof(response.text))
		return -ENAMETOOLONG;
	memcpy(text, response.text, length + 1);
	return 0;
}

static int client_read_fd_link(void *ctx, pid_t pid, int fd, char *text, size_t size)
{
	struct broker_request r = { .operation = BROKER_READ_FD_LINK, .pid = pid, .fd = fd };

	return ask_text(ctx, &r, text, size);
}

static int client_read_variable(void *ctx, pid_t pid, enum proc_variable variable, char *text,
				size_t size)
{
	struct broker_request r = { .operation = BROKER_READ_VARIABLE,
				    .pid = pid,
				    .variable = variable };

	return ask_text(ctx, &r, text, size);
}

struct opener broker_client__opener(struct broker_client *c)
{
	return (struct opener){
		.open_proc = client_open_proc,
		.open_mapped = client_open_mapped,
		.open_path = client_open_path,
		.read_fd_link = client_read_fd_link,
		.read_variable = client_read_variable,
		.open_list = client_open_list,
		.ctx = c,
	};
}

/* The broker's own words where it had some. */
static int failed(struct error *e, const char *verb, int err, const struct broker_response *r)
{
	if (error__is_set(&r->error)) {
		if (e && !error__is_set(e)) {
			*e = r->error;
			/* It came over a socket. */
			e->what[sizeof(e->what) - 1] = '\0';
			e->remedy[sizeof(e->remedy) - 1] = '\0';
		}
		return err;
	}
	if (err == -EPIPE || err == -ECONNRESET)
		return error__set(e, EXIT_FAILED, -err, NULL,
				  "collector: failed to %s: the broker process is gone", verb);
	return error__set(e, EXIT_FAILED, -err, NULL, "collector: failed to %s: %s", verb,
			  strerror(-err));
}

int broker_client__load(struct broker_client *c, uint32_t ring_bytes, int *fds, struct error *e)
{
	struct broker_request r = { .operation = BROKER_LOAD, .ring_bytes = ring_bytes };
	struct broker_response response;
	int count = ask(c, &r, &response, fds);

	if (count == BROKER_FDS_MAX)
		return 0;
	while (count > 0)
		close(fds[--count]);
	return failed(e, "load the kernel programs", count < 0 ? count : -EPROTO, &response);
}

int broker_client__link(struct broker_client *c, const struct broker_places *p, struct error *e)
{
	struct broker_request r = {
		.operation = BROKER_LINK,
		.pid = p->pid,
		.start = p->start,
		.end = p->end,
	};
	struct broker_response response;
	int fds[BROKER_FDS_MAX];
	int err;

	r.places.program = p->program;
	r.places.count = p->count;
	memcpy(r.places.offset, p->offset, sizeof(p->offset));
	memcpy(r.places.cookie, p->cookie, sizeof(p->cookie));
	err = ask(c, &r, &response, fds);
	return err < 0 ? failed(e, "place probes", err, &response) : 0;
}

int broker_client__kin(struct broker_client *c, struct kin *out)
{
	struct broker_request r = { .operation = BROKER_LIST_KIN };
	struct broker_response response;
	int fds[BROKER_FDS_MAX];
	int err = ask(c, &r, &response, fds);

	if (err < 0)
		return err;
	if (response.kin_count > BROKER_KIN_MAX)
		return -EPROTO;
	memcpy(out, response.kin, response.kin_count * sizeof(*out));
	return (int)response.kin_count;
}

int broker_client__unlink(struct broker_client *c, pid_t pid)
{
	struct broker_request r = { .operation = BROKER_UNLINK, .pid = pid };
	struct broker_response response;
	int fds[BROKER_FDS_MAX];
	int err = ask(c, &r, &response, fds);

	return err < 0 ? err : 0;
}

int broker_client__calibrate(struct broker_client *c, enum mp_program router, uint32_t threads)
{
	struct broker_request r = { .operation = BROKER_CALIBRATE,
				    .calibrate = { threads, router } };
	struct broker_response response;
	int fds[BROKER_FDS_MAX];
	int err = ask(c, &r, &response, fds);

	return err < 0 ? err : 0;
}
