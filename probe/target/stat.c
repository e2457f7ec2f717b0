/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/target/stat.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#define PF_KTHREAD 0x00200000ull /* of the kernel's sched.h; field 9 shows the flags */

#define TCP_LISTEN_STATE 0x0a

struct text {
	const char *at, *end;
};

static void skip_blanks(struct text *t)
{
	while (t->at < t->end && (*t->at == ' ' || *t->at == '\t'))
		t->at++;
}

static unsigned digit_of(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return 16;
}

/* The number at the cursor, after blanks. False: none, or too large for 64 bits. */
static bool take_number(struct text *t, unsigned base, uint64_t *out)
{
	const char *start;
	uint64_t n = 0;

	skip_blanks(t);
	start = t->at;
	for (; t->at < t->end; t->at++) {
		unsigned digit = digit_of(*t->at);

		if (digit >= base)
			break;
		if (__builtin_mul_overflow(n, base, &n) || __builtin_add_overflow(n, digit, &n))
			return false;
	}
	*out = n;
	return t->at > start;
}

static bool take_pid(struct text *t, pid_t *out)
{
	uint64_t n;

	if (!take_number(t, 10, &n) || n > INT_MAX)
		return false;
	*out = (pid_t)n;
	return true;
}

/* The next blank-separated word is passed over. False at the end of the text. */
static bool skip_word(struct text *t)
{
	skip_blanks(t);
	if (t->at == t->end)
		return false;
	while (t->at < t->end && *t->at != ' ' && *t->at != '\t')
		t->at++;
	return true;
}

static void copy_name(char *out, size_t size, const char *name, size_t n)
{
	if (n >= size)
		n = size - 1;
	for (size_t i = 0; i < n; i++)
		out[i] = (unsigned char)name[i] < ' ' || name[i] == 0x7f ? '?' : name[i];
	out[n] = '\0';
}

/* Fields 3 and up, behind the name: "S ppid pgrp session tty tpgid flags ...". */
static bool parse_fields(struct pid_stat *out, struct text *t)
{
	uint64_t flags, threads;

	skip_blanks(t);
	if (t->at == t->end)
		return false;
	out->state = *t->at++;
	if (!take_pid(t, &out->parent))
		return false;
	for (int field = 5; field < 9; field++)
		if (!skip_word(t))
			return false;
	if (!take_number(t, 10, &flags))
		return false;
	out->kernel_thread = flags & PF_KTHREAD;
	for (int field = 10; field < 20; field++)
		if (!skip_word(t))
			return false;
	if (!take_number(t, 10, &threads) || threads > UINT32_MAX)
		return false;
	out->threads = (uint32_t)threads;
	return skip_word(t) && take_number(t, 10, &out->start_ticks);
}

int pid_stat__parse(struct pid_stat *out, const char *text, size_t size)
{
	struct text t = { text, text + size };
	const char *open, *close;

	memset(out, 0, sizeof(*out));
	open = size ? memchr(text, '(', size) : NULL;
	close = size ? memrchr(text, ')', size) : NULL; /* the name may hold ") " itself */
	if (!open || !close || close < open || !take_pid(&t, &out->pid))
		goto bad;
	copy_name(out->command, sizeof(out->command), open + 1, close - open - 1);
	t.at = close + 1;
	if (parse_fields(out, &t))
		return 0;
bad:
	memset(out, 0, sizeof(*out));
	return -EINVAL;
}

/* Take one line off @t. False at the end. */
static bool take_line(struct text *t, struct text *line)
{
	const char *newline;

	if (t->at == t->end)
		return false;
	newline = memchr(t->at, '\n', t->end - t->at);
	*line = (struct text){ t->at, newline ? newline : t->end };
	t->at = newline ? newline + 1 : t->end;
	return true;
}

static bool take_prefix(struct text *t, const char *prefix)
{
	size_t n = strlen(prefix);

	if ((size_t)(t->end - t->at) < n || memcmp(t->at, prefix, n))
		return false;
	t->at += n;
	return true;
}

void pid_status__parse(struct pid_status *out, const char *text, size_t size)
{
	struct text t = { text, text + size }, line;
	pid_t pid;

	memset(out, 0, sizeof(*out));
	while (size && take_line(&t, &line)) {
		if (take_prefix(&line, "Tgid:") && take_pid(&line, &pid))
			out->thread_group = pid;
		else if (take_prefix(&line, "NSpid:"))
			while (take_pid(&line, &pid)) /* outermost first */
				out->namespace_pid = pid;
	}
}

/* "0: 0100007F:46A0 00000000:0000 0A tx:rx tr:when retrnsmt uid timeout inode ..." */
static bool parse_socket(struct text t, struct listening_socket *out)
{
	uint64_t port, state;

	memset(out, 0, sizeof(*out));
	if (!skip_word(&t))
		return false;
	skip_blanks(&t);
	t.at = memchr(t.at, ':', t.end - t.at);
	if (!t.at)
		return false;
	t.at++;
	if (!take_number(&t, 16, &port) || port > UINT16_MAX || !skip_word(&t) ||
	    !take_number(&t, 16, &state) || state != TCP_LISTEN_STATE)
		return false;
	for (int field = 4; field < 9; field++)
		if (!skip_word(&t))
			return false;
	out->port = (uint16_t)port;
	return take_number(&t, 10, &out->inode) && out->inode;
}

void tcp_table__each(const char *text, size_t size,
		     bool (*each)(void *ctx, const struct listening_socket *s), void *ctx)
{
	struct text t = { text, text + size }, line;
	struct listening_socket s;

	while (size && take_line(&t, &line))
		if (parse_socket(line, &s) && !each(ctx, &s))
			return;
}
