/* SPDX-License-Identifier: BSD-2-Clause */
/* Reads a stream and keeps a view up to date, until either ends. */
#ifndef MP_ANALYZER_LIVE_H
#define MP_ANALYZER_LIVE_H

#include <stdbool.h>

struct collector;
struct error;
struct live_view;
struct feed;
struct state;

struct live_options {
	const struct live_view *view;
	struct feed *feed;
	struct collector *collector; /* NULL: a file or standard input */
	const struct state *state;   /* what the feed fills */
	const char *source;          /* for the view */
	bool replay;                 /* a file: its own time decides when a record is shown */
	double speed;                /* of the replay; 0: as fast as it can be read */
};

/*
 * 0: the stream ended, or the user ended it (Ctrl-C or a key; the collector's stream is then read
 * to its END). -EINTR: a second Ctrl-C. Other -errno with @e. The view is closed in every case.
 */
int live__run(const struct live_options *o, struct error *e);

#endif
