/* SPDX-License-Identifier: BSD-2-Clause */
#include "collector/collector_options.h"

#include <argp.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collector/broker_protocol.h"
#include "probe/base/error.h"

#define PROGRAM "moeprobe-collector"
#define RING_DEFAULT (8u << 20)
#define DURATION_MAX 1e9 /* seconds */

enum {
	KEY_RING = 0x100,
	KEY_RAW_LOG,
	KEY_REPLAY,
	KEY_USER,
	KEY_HEADER,
	KEY_PROGRAM,
	KEY_LIST,
	KEY_DOCTOR,
	KEY_VERSION,
	KEY_HELP
};

static const struct argp_option known[] = {
	{ "duration", 'd', "SEC", 0, "stop after SEC seconds", 0 },
	{ "ring", KEY_RING, "BYTES", 0,
	  "size of the ring: a power of two from 65536 to 16777216 "
	  "(default 8388608)",
	  0 },
	{ "raw-log", KEY_RAW_LOG, "FILE", 0,
	  "write raw events to FILE too; they hold bytes of the responses that the server sends, "
	  "generated text among them, and with --header whole heads of requests, keys and cookies "
	  "among "
	  "them",
	  0 },
	{ "replay", KEY_REPLAY, "FILE", 0,
	  "turn a raw log into a stream; needs no rights and no "
	  "PID",
	  0 },
	{ "user", KEY_USER, "NAME", 0,
	  "the user that the reading process becomes (default: "
	  "nobody for root)",
	  0 },
	{ "header", KEY_HEADER, "NAME", 0,
	  "read this header of the requests that the server receives (up to four times)", 0 },
	{ "list", KEY_LIST, NULL, 0, "say which processes run a known engine", 0 },
	{ "doctor", KEY_DOCTOR, NULL, 0, "say what rights, kernel and (with PID) target allow", 0 },
	{ "program", KEY_PROGRAM, "NAME", 0, "call ourselves NAME in messages", 0 },
	{ "verbose", 'v', NULL, 0, "say more on standard error", 0 },
	{ "version", KEY_VERSION, NULL, 0, "print the version", 0 },
	{ "help", KEY_HELP, NULL, 0, "print this help", 0 },
	{ 0 },
};

struct parsing {
	struct collector_options *o;
	struct error *e;
	bool done;
	int next; /* where the parser stood when it gave up */
};

static int usage(struct parsing *p, const char *what, const char *text)
{
	return error__set(p->e, EXIT_USAGE, EINVAL, "see moeprobe-collector --help",
			  "collector: failed to understand '%s': %s", text, what);
}

static int take_duration(struct parsing *p, const char *text)
{
	char *end;
	double seconds;

	errno = 0;
	seconds = strtod(text, &end);
	if (errno || end == text || *end || !isfinite(seconds) || seconds <= 0 ||
	    seconds > DURATION_MAX)
		return usage(p, "a duration is a number of seconds above 0", text);
	p->o->duration_ns = (uint64_t)(seconds * 1e9);
	return 0;
}

/* 0, or -EINVAL where @text is no number from 1 to @most. */
static int take_number(const char *text, unsigned long most, unsigned long *out)
{
	char *end;

	errno = 0;
	*out = strtoul(text, &end, 10);
	return errno || end == text || *end || text[0] == '-' || !*out || *out > most ? -EINVAL : 0;
}

static int take_ring(struct parsing *p, const char *text)
{
	unsigned long bytes;

	if (take_number(text, BROKER_RING_MAX, &bytes) || bytes < BROKER_RING_MIN ||
	    bytes & (bytes - 1))
		return usage(p, "a ring is a power of two from 65536 to 16777216 bytes", text);
	p->o->ring_bytes = (uint32_t)bytes;
	return 0;
}

static int take_pid(struct parsing *p, const char *text)
{
	unsigned long pid;

	if (p->o->pid)
		return usage(p, "one process at a time", text);
	if (take_number(text, INT32_MAX, &pid))
		return usage(p, "that is no process id", text);
	p->o->pid = (pid_t)pid;
	return 0;
}

static int take_header(struct parsing *p, const char *text)
{
	int err = header_names__add(&p->o->headers, text);

	if (err == -ENOSPC)
		return usage(p, "four headers at most", text);
	return err ? usage(p, "that is no name of a header", text) : 0;
}

static int check(struct parsing *p)
{
	const struct collector_options *o = p->o;

	if (p->done)
		return 0;
	if (o->list + o->doctor + (o->replay != NULL) > 1)
		return usage(p, "choose one of --list, --doctor, --replay", "options");
	if (o->pid && (o->list || o->replay))
		return usage(p, "--list and --replay take no process id", "PID");
	if (!o->pid && !o->list && !o->doctor && !o->replay)
		return error__set(p->e, EXIT_USAGE, EINVAL,
				  "moeprobe attach, which lists candidates",
				  "collector: failed to start: which process?");
	return 0;
}

static const struct argp parser;

static error_t take(int key, char *text, struct argp_state *state)
{
	struct parsing *p = state->input;

	switch (key) {
	case 'd':
		return -take_duration(p, text);
	case KEY_RING:
		return -take_ring(p, text);
	case KEY_RAW_LOG:
		p->o->raw_log = text;
		return 0;
	case KEY_REPLAY:
		p->o->replay = text;
		return 0;
	case KEY_USER:
		p->o->user = text;
		return 0;
	case KEY_PROGRAM:
		p->o->program = text;
		return 0;
	case KEY_HEADER:
		return -take_header(p, text);
	case KEY_LIST:
		p->o->list = true;
		return 0;
	case KEY_DOCTOR:
		p->o->doctor = true;
		return 0;
	case 'v':
		p->o->verbose = true;
		return 0;
	case KEY_VERSION:
		printf(PROGRAM " " MOEPROBE_VERSION "\n");
		p->done = true;
		return 0;
	case KEY_HELP:
		/* argp_state_help() is silent under ARGP_NO_ERRS. */
		argp_help(&parser, stdout, ARGP_HELP_LONG | ARGP_HELP_DOC | ARGP_HELP_USAGE,
			  (char *)(uintptr_t)PROGRAM);
		p->done = true;
		return 0;
	case ARGP_KEY_ERROR:
		p->next = state->next;
		return 0;
	case ARGP_KEY_ARG:
		return -take_pid(p, text);
	case ARGP_KEY_END:
		return -check(p);
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp parser = {
	.options = known,
	.parser = take,
	.args_doc = "PID",
	.doc = "Read the routing of a running inference server and write it to standard output as "
	       "a "
	       "stream, for moeprobe. The stream holds everything, also the tokens of prompts: a "
	       "file "
	       "that it goes to is made private (mode 0600); moeprobe record keeps less.\v"
	       "Examples:\n"
	       "  moeprobe-collector 1234 | moeprobe top -\n"
	       "  ssh host sudo moeprobe-collector 1234 | moeprobe top -\n"
	       "  moeprobe-collector -d 10 1234 > recording",
};

const char *collector_options__program(int argc, char **argv)
{
	for (int i = 1; i + 1 < argc; i++)
		if (!strcmp(argv[i], "--program"))
			return argv[i + 1];
	return PROGRAM;
}

int collector_options__parse(struct collector_options *o, int argc, char **argv, struct error *e)
{
	struct parsing p = { .o = o, .e = e };
	error_t err;

	memset(o, 0, sizeof(*o));
	o->ring_bytes = RING_DEFAULT;
	o->program = PROGRAM;
	err = argp_parse(&parser, argc, argv, ARGP_NO_EXIT | ARGP_NO_HELP | ARGP_NO_ERRS, NULL, &p);
	if (p.done)
		return 1;
	/* The parser stands behind what it could not take. */
	if (err && err != ENOMEM && p.next > 1 && p.next <= argc && argv[p.next - 1][0] == '-')
		return usage(&p, "unknown, or without its value", argv[p.next - 1]);
	if (err)
		return error__set(e, EXIT_USAGE, err == ENOMEM ? ENOMEM : EINVAL,
				  "see moeprobe-collector --help",
				  "collector: failed to understand the command line");
	return 0;
}
