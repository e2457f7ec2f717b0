/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One error, said once: what failed, why, what to do about it, and the exit code that a
 * command must end with. The layer that knows the object fills it; only main() prints it.
 */
#ifndef MP_BASE_ERROR_H
#define MP_BASE_ERROR_H

#include <stdbool.h>
#include <stdio.h>

/* Documented exit codes of every moeprobe program (README.md, "Exit codes"). */
enum exit_code {
	EXIT_OK = 0,
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,
	EXIT_PERMISSION = 3,
	EXIT_NO_TARGET = 4,
	EXIT_UNSUPPORTED = 5,
	EXIT_LOSS = 6,
};

/* Plain data: copied freely, sent between processes, never owns memory. */
struct error {
	int errnum;          /* positive errno, 0 while nothing failed */
	enum exit_code exit; /* what the command must exit with */
	char what[512];      /* "module: failed to <verb> '<object>': <reason>" */
	char remedy[512];    /* an imperative sentence or a command; may be empty */
};

/*
 * Fill @e, unless it already holds an error (the innermost layer knows most). @e may be NULL.
 * @remedy may be NULL. Control characters become '?' (newlines stay in @remedy), since names
 * in messages come from strangers. Returns -errnum: callers write `return error__set(...)`.
 */
int error__set(struct error *e, enum exit_code exit, int errnum, const char *remedy,
	       const char *fmt, ...) __attribute__((format(printf, 5, 6)));

/* Forget the error. */
void error__clear(struct error *e);

/* True if @e holds an error. */
bool error__is_set(const struct error *e);

/* Print "<program>: <what>" and, where there is one, "  try: <remedy>" to @out. */
void error__print(const struct error *e, const char *program, FILE *out);

#endif
