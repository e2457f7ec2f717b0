/* SPDX-License-Identifier: BSD-2-Clause */
/* A stream being read, record by record: the collector's, a file's, or standard input's. */
#ifndef MP_ANALYZER_FEED_H
#define MP_ANALYZER_FEED_H

#include <stdbool.h>
#include <stdint.h>

struct collector;
struct error;
struct feed;
struct trace_item;
struct trace_unread;

/* Where records go. An error (negative, named in @e) ends the reading. */
struct feed_sink {
	int (*take)(void *ctx, const struct trace_item *item, struct error *e);
	void *ctx;
};

enum feed_progress {
	FEED_ENDED = 0,
	FEED_WAITING, /* nothing there now */
	FEED_LATER,   /* the next record is after the time asked for */
	FEED_MORE,    /* the budget is used up */
};

/* Reads from @collector, or, if that is NULL, from @fd (both borrowed). @name is for messages. */
int feed__open(struct feed **out, struct collector *collector, int fd, const char *name,
	       const struct feed_sink *sink, struct error *e);

/*
 * Hand records of stream time up to @until_ns to the sink, at most about 20 ms long. An enum
 * feed_progress, or -errno with @e.
 */
int feed__read(struct feed *s, uint64_t until_ns, struct error *e);
/* Stream time of the record that waits for its time; 0: none does. */
uint64_t feed__pending_ns(const struct feed *s);

/* Print the collector's messages on standard error as they are. */
void feed__show_messages(struct feed *s);
/* Keep them until feed__finish(): what was read is to be printed before them. */
void feed__hold_messages(struct feed *s);
/* Read to the end without a view, showing messages; Ctrl-C stops the collector. */
int feed__run(struct feed *s, struct error *e);

/*
 * After the end: the command's exit code. A collector that failed has said why, its exit code
 * counts and @e is cleared; a stream without END is an error.
 */
int feed__finish(struct feed *s, struct error *e);

/* What the stream held, and the sink never saw; borrowed. */
const struct trace_unread *feed__unread(const struct feed *s);

/* All of the above without a view: open, read to the end, finish. The exit code; @unread may be
 * NULL. */
int feed__read_all(struct collector *collector, int fd, const char *name,
		   const struct feed_sink *sink, struct trace_unread *unread, struct error *e);

int feed__fd(const struct feed *s);
/* Accepts NULL. */
void feed__free(struct feed *s);

#endif
