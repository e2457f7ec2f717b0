/* SPDX-License-Identifier: BSD-2-Clause */
#include "collector/collector.h"

#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "collector/broker.h"
#include "collector/broker_client.h"
#include "collector/inspect.h"
#include "collector/collector_options.h"
#include "collector/replay.h"
#include "collector/sandbox.h"
#include "collector/attach_session.h"
#include "probe/attach/ability.h"
#include "probe/base/error.h"

#define GRACE_SECONDS 2            /* for the reader to end in order */
#define SECOND_SIGNAL_NS 300000000 /* one Ctrl-C may arrive twice: from the terminal, a parent */

struct collector {
	const struct collector_options *o;
	struct sandbox_user user;
	struct ability abilities[ABILITY_COUNT];
	struct error no_process; /* doctor: why there is none to look at */
	int raw_log;             /* -1: none */
	int reader_end;          /* of the socket to the broker */
};

static int exit_code(int err, const struct error *e)
{
	if (!err)
		return EXIT_OK;
	return error__is_set(e) && e->exit ? (int)e->exit : EXIT_FAILED;
}

/* --- the reader ----------------------------------------------------------------------------- */

/* What it needs and the broker does not hand out is opened before it is confined. */
static int run_reader(struct collector *c, struct error *e)
{
	struct broker_client client = { .fd = c->reader_end };
	struct attach_session_options session = {
		.broker = &client,
		.pid = c->o->pid,
		.ring_bytes = c->o->ring_bytes,
		.duration_ns = c->o->duration_ns,
		.out = STDOUT_FILENO,
		.raw_log = c->raw_log,
		.headers = &c->o->headers,
		.statm = open("/proc/self/statm", O_RDONLY | O_CLOEXEC),
		.cpus = libbpf_num_possible_cpus(),
	};
	struct inspect_options inspect = {
		.broker = &client,
		.pid = c->o->pid,
		.no_process = &c->no_process,
		.ring_bytes = c->o->ring_bytes,
		.abilities = c->abilities,
		.headers = &c->o->headers,
		.out = STDOUT_FILENO,
	};
	int err = sandbox__enter(&c->user, e);

	if (err)
		return err;
	if (c->o->list)
		return inspect__list(&inspect, e);
	if (c->o->doctor)
		return inspect__doctor(&inspect, e);
	return attach_session__run(&session, e);
}

/* --- the broker ----------------------------------------------------------------------------- */

/* The only state that is not on a stack: what a signal handler may reach. */
static volatile pid_t reader_pid;
static volatile int64_t first_signal_ns;

/* The reader does not end: it is stopped, or was taken over. Links go with our descriptors. */
static void on_grace_over(int number)
{
	if (reader_pid > 0)
		kill(reader_pid, SIGKILL);
	_exit(EXIT_FAILED);
}

static void on_stop(int number)
{
	struct timespec t;
	int64_t now;

	clock_gettime(CLOCK_MONOTONIC, &t);
	now = (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
	if (first_signal_ns && now - first_signal_ns > SECOND_SIGNAL_NS) {
		on_grace_over(number);
	}
	if (!first_signal_ns)
		first_signal_ns = now;
	if (reader_pid <= 0)
		return; /* it was waited for: the number may be another's */
	kill(reader_pid, SIGTERM);
	alarm(GRACE_SECONDS);
}

static const int stop_signals[] = { SIGINT, SIGTERM, SIGHUP };
#define STOP_SIGNALS (sizeof(stop_signals) / sizeof(*stop_signals))

/* What whoever started us had ignored (nohup) stays ignored, but for what ends the reader. */
static sigset_t choose_stops(void)
{
	struct sigaction now;
	sigset_t stops;

	sigemptyset(&stops);
	for (size_t i = 0; i < STOP_SIGNALS; i++)
		if (stop_signals[i] == SIGTERM || sigaction(stop_signals[i], NULL, &now) ||
		    now.sa_handler != SIG_IGN)
			sigaddset(&stops, stop_signals[i]);
	return stops;
}

static void catch_stops(const sigset_t *stops, void (*handler)(int))
{
	struct sigaction action = { .sa_handler = handler, .sa_flags = SA_RESTART };

	sigemptyset(&action.sa_mask);
	for (size_t i = 0; i < STOP_SIGNALS; i++)
		if (sigismember(stops, stop_signals[i]))
			sigaction(stop_signals[i], &action, NULL);
	action.sa_handler = on_grace_over;
	sigaction(SIGALRM, &action, NULL);
}

/* Whoever reads the stream sees its end when the reader ends, not when we do. */
static void leave_stream(struct collector *c)
{
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

	if (null >= 0) {
		dup2(null, STDOUT_FILENO);
		close(null);
	}
	if (c->raw_log >= 0)
		close(c->raw_log);
	c->raw_log = -1;
}

static int wait_for_reader(struct error *e)
{
	pid_t pid = reader_pid;
	siginfo_t info;
	int status;

	/* Ended, but not yet waited for, it still has its number; then the handler forgets it. */
	while (waitid(P_PID, (id_t)reader_pid, &info, WEXITED | WNOWAIT) < 0 && errno == EINTR)
		;
	reader_pid = 0;
	alarm(0);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return error__set(e, EXIT_FAILED, errno, NULL,
					  "collector: failed to wait for the reader process: %s",
					  strerror(errno));
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	if (WTERMSIG(status) == SIGSYS) {
		error__set(e, EXIT_FAILED, EINTR,
			   "find out why before you attach again, and report it",
			   "collector: failed to go on: the reader process was ended for a system "
			   "call that it must not make (%s): an attack through the target, or a "
			   "fault of moeprobe",
			   strsignal(SIGSYS));
		return EXIT_FAILED;
	}
	error__set(e, EXIT_FAILED, EINTR, "start it again",
		   "collector: failed to go on: the reader process was ended by signal %d (%s)",
		   WTERMSIG(status), strsignal(WTERMSIG(status)));
	return EXIT_FAILED;
}

/* --- both ----------------------------------------------------------------------------------- */

static int split(struct collector *c, struct broker **b, struct error *e)
{
	const sigset_t stops = choose_stops();
	sigset_t before;
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends)) {
		error__set(e, EXIT_FAILED, errno, NULL, "collector: failed to make a socket: %s",
			   strerror(errno));
		return EXIT_FAILED;
	}
	/* Blocked across the fork: the reader takes them from a descriptor, the broker passes them
	 * on once it knows to whom. */
	sigprocmask(SIG_BLOCK, &stops, &before);
	reader_pid = fork();
	if (reader_pid < 0) {
		error__set(e, EXIT_FAILED, errno, NULL, "collector: failed to fork: %s",
			   strerror(errno));
		return EXIT_FAILED;
	}
	if (!reader_pid) {
		close(ends[0]);
		c->reader_end = ends[1];
		broker__free(*b);
		*b = NULL;
		/* Only a capture has something to end in order. */
		if (c->o->list || c->o->doctor)
			sigprocmask(SIG_SETMASK, &before, NULL);
		return exit_code(run_reader(c, e), e);
	}
	close(ends[1]);
	leave_stream(c);
	catch_stops(&stops, on_stop);
	sigprocmask(SIG_SETMASK, &before, NULL);
	if (!c->o->list)
		broker__expect(*b, c->o->ring_bytes);
	broker__serve(*b, ends[0]);
	close(ends[0]);
	return wait_for_reader(e);
}

/* What is opened with the rights of whoever typed the command line. */
static int open_files(struct collector *c, int *replay, struct error *e)
{
	struct stat st;
	int fd;

	*replay = -1;
	if (isatty(STDOUT_FILENO))
		return error__set(e, EXIT_USAGE, EINVAL, "moeprobe attach PID",
				  "collector: failed to start: the stream is not for terminals");
	/* It holds prompts. A pipe's reader decides what it keeps. */
	if (!fstat(STDOUT_FILENO, &st) && S_ISREG(st.st_mode) && fchmod(STDOUT_FILENO, 0600))
		return error__set(e, EXIT_FAILED, errno, "write to a file of your own",
				  "collector: failed to make the file that the stream goes to "
				  "private: %s",
				  strerror(errno));
	if (c->o->raw_log) {
		fd = sandbox__create(&c->user, c->o->raw_log, e);
		if (fd < 0)
			return fd;
		c->raw_log = fd;
	}
	if (c->o->replay) {
		fd = sandbox__open(&c->user, c->o->replay, e);
		if (fd < 0)
			return fd;
		*replay = fd;
	}
	return 0;
}

static int run_replay(struct collector *c, int fd, struct error *e)
{
	int err = sandbox__enter(&c->user, e);

	return err ? err : replay__run_file(fd, STDOUT_FILENO, e);
}

/* pidfd_open() does not say that @pid is a thread: of which process? @pid itself, or 0: unknown. */
static int process_of(pid_t pid)
{
	char path[64], line[128];
	int process = 0;
	FILE *in;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	in = fopen(path, "re");
	while (in && !process && fgets(line, sizeof(line), in))
		sscanf(line, "Tgid: %d", &process);
	if (in)
		fclose(in);
	return process;
}

static int open_broker(struct broker **b, const struct broker_options *o, struct error *e)
{
	int err = broker__new(b, o, e);
	int process = err && e->exit == EXIT_NO_TARGET ? process_of(o->pid) : 0;
	char remedy[64];

	if (!process || process == o->pid)
		return err;
	snprintf(remedy, sizeof(remedy), "name the process: %d", process);
	error__clear(e);
	return error__set(e, EXIT_NO_TARGET, -err, remedy,
			  "collector: failed to open process %d: it is a thread of process %d",
			  (int)o->pid, process);
}

static int run_split(struct collector *c, struct error *e)
{
	struct broker_options options = {
		.pid = c->o->pid,
		.any_pid = c->o->list,
		.verbose = c->o->verbose,
		.heads = c->o->headers.count > 0,
	};
	struct broker *b;
	int err, code;

	err = open_broker(&b, &options, e);
	if (err && c->o->doctor && e->exit == EXIT_NO_TARGET) {
		c->no_process = *e; /* the machine can be looked at all the same */
		error__clear(e);
		options.pid = 0;
		err = broker__new(&b, &options, e);
	}
	if (err)
		return exit_code(err, e);
	ability__probe_all(c->abilities);
	broker__set_multi(b, c->abilities[ABILITY_UPROBE_MULTI].state == ABILITY_THERE);
	if (!c->o->list && !c->o->doctor)
		err = ability__require(c->abilities, e);
	code = err ? exit_code(err, e) : split(c, &b, e);
	broker__free(b);
	return code;
}

int collector__run(const struct collector_options *o, struct error *e)
{
	struct collector c = { .o = o, .raw_log = -1 };
	int err, replay;

	signal(SIGPIPE, SIG_IGN);
	err = sandbox__choose(&c.user, o->user, e);
	if (!err)
		err = open_files(&c, &replay, e);
	if (err)
		return exit_code(err, e);
	if (o->replay)
		return exit_code(run_replay(&c, replay, e), e);
	return run_split(&c, e);
}
