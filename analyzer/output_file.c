/* SPDX-License-Identifier: BSD-2-Clause */
#include "analyzer/output_file.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <libgen.h>
#include <limits.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "analyzer/privilege.h"
#include "collector/trace/records.h"
#include "probe/base/error.h"

#define NAME_PART 200 /* of the file's name that the temporary one repeats */

struct output_file {
	int fd;
	int channel; /* to the child that waits; -1: none */
	pid_t child; /* 0: none */
	int refused; /* -errno of a rename that failed */
	char *path;
	char where[PATH_MAX]; /* if it is elsewhere */
};

/* The child's answers: a negative errno, or: */
enum answer { DIRECT = 1, BESIDE = 2 };

/* --- the child ------------------------------------------------------------------------------ */

/* For good, and verified: what it opens and renames, the user could. */
static int become_typist(const struct identity *id)
{
	const struct passwd *p;
	uid_t real, effective, saved;

	if (!id->is_root || !id->by_sudo)
		return 0;
	p = getpwuid(id->sudo_uid);
	if ((p ? initgroups(p->pw_name, id->sudo_gid) : setgroups(0, NULL)) ||
	    setresgid(id->sudo_gid, id->sudo_gid, id->sudo_gid) ||
	    setresuid(id->sudo_uid, id->sudo_uid, id->sudo_uid))
		return -errno;
	if (getresuid(&real, &effective, &saved) || real != id->sudo_uid ||
	    effective != id->sudo_uid || saved != id->sudo_uid)
		return -EPERM;
	return 0;
}

/* 0, or -EEXIST if the file holds something that is not ours to overwrite. */
static int check_replaceable(const char *name)
{
	char magic[sizeof(TRACE_MAGIC) - 1];
	struct stat st;
	ssize_t got = 0;
	int fd, err = 0;

	if (faccessat(AT_FDCWD, name, W_OK, AT_EACCESS))
		return -errno;
	fd = open(name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st))
		err = -errno;
	else if (!S_ISREG(st.st_mode))
		err = -EEXIST;
	else if (st.st_size)
		got = read(fd, magic, sizeof(magic));
	if (!err && st.st_size &&
	    (got != (ssize_t)sizeof(magic) || memcmp(magic, TRACE_MAGIC, sizeof(magic)) != 0))
		err = -EEXIST;
	close(fd);
	return err;
}

/* In the file's directory. The answer; *@fd is open unless it is negative. */
static int prepare(const char *name, char *beside, int *fd)
{
	struct stat st;
	int err = 0;

	if (!fstatat(AT_FDCWD, name, &st, AT_SYMLINK_NOFOLLOW)) {
		if (S_ISCHR(st.st_mode) || S_ISFIFO(st.st_mode)) {
			*fd = open(name, O_WRONLY | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC);
			return *fd < 0 ? -errno : DIRECT;
		}
		if (S_ISREG(st.st_mode))
			err = check_replaceable(name);
		else
			err = S_ISLNK(st.st_mode)   ? -ELOOP
			      : S_ISDIR(st.st_mode) ? -EISDIR
						    : -EEXIST;
	} else if (errno != ENOENT) {
		err = -errno;
	}
	if (err)
		return err;
	*fd = mkostemp(beside, O_CLOEXEC); /* mode 0600 */
	return *fd < 0 ? -errno : BESIDE;
}

/* @answer, and @fd with it unless that is -1. */
static int send_answer(int channel, int answer, int fd)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr head;
	} control = { { 0 } };
	struct iovec part = { &answer, sizeof(answer) };
	struct msghdr m = { .msg_iov = &part, .msg_iovlen = 1 };

	if (fd >= 0) {
		m.msg_control = control.bytes;
		m.msg_controllen = sizeof(control.bytes);
		control.head.cmsg_level = SOL_SOCKET;
		control.head.cmsg_type = SCM_RIGHTS;
		control.head.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&control.head), &fd, sizeof(fd));
	}
	return sendmsg(channel, &m, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static void run_child(const struct identity *id, const char *path, int channel)
{
	char directory[PATH_MAX], last[PATH_MAX], beside[NAME_PART + 16], go;
	int fd = -1, answer, result;
	const char *name;

	/* Ctrl-C is our parent's matter; its end is ours. */
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	snprintf(directory, sizeof(directory), "%s", path);
	snprintf(last, sizeof(last), "%s", path);
	name = basename(last);
	snprintf(beside, sizeof(beside), ".%.*s.XXXXXX", NAME_PART, name);
	answer = strlen(path) >= PATH_MAX ? -ENAMETOOLONG : become_typist(id);
	if (!answer && chdir(dirname(directory)))
		answer = -errno;
	if (!answer)
		answer = prepare(name, beside, &fd);
	result = send_answer(channel, answer, fd);
	if (answer != BESIDE)
		_exit(0);
	/* No descriptor of our parent's is kept open: its readers wait for their end. */
	dup2(channel, STDIN_FILENO);
	close_range(STDOUT_FILENO, ~0u, 0);
	if (!result && recv(STDIN_FILENO, &go, 1, 0) == 1) {
		/* Once there is something in it, it is not removed. */
		result = rename(beside, name) ? -errno : 0;
		send_answer(STDIN_FILENO, result, -1);
		_exit(result ? 1 : 0);
	}
	unlink(beside);
	_exit(1);
}

/* --- we ------------------------------------------------------------------------------------- */

/* An answer and the descriptor that came along, -1 if none; or -EIO. */
static int receive_answer(int channel, int *fd)
{
	int answer = -EIO;
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr head;
	} control = { { 0 } };
	struct iovec part = { &answer, sizeof(answer) };
	struct msghdr m = {
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	struct cmsghdr *c;
	ssize_t got;

	do
		got = recvmsg(channel, &m, MSG_CMSG_CLOEXEC);
	while (got < 0 && errno == EINTR);
	c = got > 0 ? CMSG_FIRSTHDR(&m) : NULL;
	if (c && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(fd, CMSG_DATA(c), sizeof(*fd));
	return got == (ssize_t)sizeof(answer) ? answer : -EIO;
}

/* Our own descriptor that @path names, or -1. */
static int own_descriptor(const char *path)
{
	unsigned fd;
	char rest;

	if (!strcmp(path, "-") || !strcmp(path, "/dev/stdout"))
		return STDOUT_FILENO;
	if (!strcmp(path, "/dev/stderr"))
		return STDERR_FILENO;
	if (sscanf(path, "/dev/fd/%u%c", &fd, &rest) == 1 ||
	    sscanf(path, "/proc/self/fd/%u%c", &fd, &rest) == 1)
		return fd <= INT_MAX ? (int)fd : -1;
	return -1;
}

/* Above the standard descriptors, which may be closed. */
static int lift(int fd)
{
	int high = fcntl(fd, F_DUPFD_CLOEXEC, 3);

	return high < 0 ? -errno : high;
}

static int start_child(struct output_file *o, const struct identity *id)
{
	int ends[2], fd = -1, answer;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends))
		return -errno;
	o->child = fork();
	if (!o->child) {
		close(ends[0]);
		run_child(id, o->path, ends[1]);
	}
	close(ends[1]);
	o->channel = ends[0];
	if (o->child < 0) {
		o->child = 0;
		return -EAGAIN;
	}
	answer = receive_answer(o->channel, &fd);
	o->fd = fd >= 0 ? lift(fd) : -1;
	if (fd >= 0)
		close(fd);
	if (answer > 0 && o->fd < 0)
		return -EMFILE;
	if (answer == BESIDE && id->is_root && fchown(o->fd, id->uid, id->gid))
		return -errno;
	return answer;
}

static void end_child(struct output_file *o)
{
	if (o->channel >= 0)
		close(o->channel);
	o->channel = -1;
	while (o->child && waitpid(o->child, NULL, 0) < 0 && errno == EINTR)
		;
	o->child = 0;
}

static int refused(const char *path, int err, struct error *e)
{
	const char *reason = strerror(-err);
	const char *remedy = "choose another name with -o";

	if (err == -EEXIST) {
		reason = "it is there, and no recording of moeprobe";
		remedy = "choose another name with -o, or remove it";
	} else if (err == -ELOOP) {
		reason = "it is a symbolic link";
		remedy = "name the file that it points to with -o";
	}
	return error__set(e, EXIT_FAILED, -err, remedy, "file: failed to create '%s': %s", path,
			  reason);
}

int output_file__open(struct output_file **out, const struct identity *id, const char *path,
		      struct error *e)
{
	struct output_file *o = calloc(1, sizeof(*o));
	int own = own_descriptor(path), answer;

	*out = NULL;
	if (!o)
		return error__set(e, EXIT_FAILED, ENOMEM, NULL, "out of memory");
	o->fd = o->channel = -1;
	o->path = strdup(path);
	if (!o->path)
		answer = -ENOMEM;
	else if (own >= 0)
		answer = o->fd = lift(own);
	else
		answer = start_child(o, id);
	if (answer < 0) {
		output_file__free(o);
		return refused(path, answer, e);
	}
	if (own >= 0 || answer == DIRECT)
		end_child(o);
	*out = o;
	return 0;
}

int output_file__fd(const struct output_file *o)
{
	return o->fd;
}

bool output_file__published(const struct output_file *o)
{
	return !o->child;
}

void output_file__publish(struct output_file *o)
{
	int none = -1, answer;

	if (!o->child)
		return;
	answer = send(o->channel, "p", 1, MSG_NOSIGNAL) == 1 ? receive_answer(o->channel, &none)
							     : -errno;
	end_child(o);
	o->refused = answer < 0 ? answer : 0;
}

/* False only if the path is known to lead to no or another file: we may have no right to look. */
static bool is_in_place(const struct output_file *o, const struct stat *ours)
{
	struct stat st;

	if (!stat(o->path, &st))
		return st.st_dev == ours->st_dev && st.st_ino == ours->st_ino;
	return !o->refused && errno != ENOENT && errno != ENOTDIR;
}

const char *output_file__where(struct output_file *o, struct error *e)
{
	const char *verb = o->refused ? "rename what was written to" : "keep what was written at";
	const char *reason = o->refused ? strerror(-o->refused) : "it was moved or replaced";
	char link[64], remedy[PATH_MAX + 64];
	struct stat ours;
	ssize_t n;

	if (fstat(o->fd, &ours) || !S_ISREG(ours.st_mode) || own_descriptor(o->path) >= 0 ||
	    is_in_place(o, &ours))
		return o->path;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", o->fd);
	n = ours.st_nlink ? readlink(link, o->where, sizeof(o->where) - 1) : 0;
	o->where[n > 0 ? n : 0] = '\0';
	if (n <= 0)
		reason = "it was removed";
	snprintf(remedy, sizeof(remedy), n > 0 ? "use what is in '%s'" : "record again%s",
		 o->where);
	error__set(e, EXIT_FAILED, o->refused ? -o->refused : ENOENT, remedy,
		   "file: failed to %s '%s': %s", verb, o->path, reason);
	return n > 0 ? o->where : o->path;
}

void output_file__free(struct output_file *o)
{
	if (!o)
		return;
	end_child(o);
	if (o->fd >= 0)
		close(o->fd);
	free(o->path);
	free(o);
}
