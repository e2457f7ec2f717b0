/* SPDX-License-Identifier: BSD-2-Clause */
/* A stream being read, record by record: the collector's, a file's, or standard input's. */
#ifndef MP_ANALYZER_SESSION_H
#define MP_ANALYZER_SESSION_H

#include <stdbool.h>
#include <stdint.h>

struct collector;
struct error;
struct session;
struct trace_item;

/* Where records go. An error (negative, named in @e) ends the reading. */
struct session_sink {
	int (*take)(void *ctx, const struct trace_item *item, struct error *e);
	void *ctx;
};

enum session_progress {
	SESSION_ENDED = 0,
	SESSION_WAITING, /* nothing there now */
	SESSION_LATER,   /* the next record is after the time asked for */
	SESSION_MORE,    /* the budget is used up */
};

/* Reads from @collector, or, if that is NULL, from @fd (both borrowed). @name is for messages. */
int session__open(struct session **out, struct collector *collector, int fd, const char *name,
		  const struct session_sink *sink, struct error *e);

/*
 * Hand records of stream time up to @until_ns to the sink, at most about 20 ms long. An enum
 * session_progress, or -errno with @e.
 */
int session__read(struct session *s, uint64_t until_ns, struct error *e);
/* Stream time of the record that waits for its time; 0: none does. */
uint64_t session__pending_ns(const struct session *s);

/* Print the collector's messages on standard error as they are. */
void session__show_messages(struct session *s);
/* Read to the end without a view, showing messages; Ctrl-C stops the collector. */
int session__run(struct session *s, struct error *e);

/*
 * After the end: the command's exit code. A collector that failed has said why, its exit code
 * counts and @e is cleared; a stream without END is an error.
 */
int session__finish(struct session *s, struct error *e);

int session__fd(const struct session *s);
/* True once END was read. */
bool session__complete(const struct session *s);
/* Accepts NULL. */
void session__free(struct session *s);

#endif
