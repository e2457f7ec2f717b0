/* SPDX-License-Identifier: BSD-2-Clause */
/* A live view: draws the state again and again while the stream goes on. */
#ifndef MP_VIEW_LIVE_VIEW_H
#define MP_VIEW_LIVE_VIEW_H

#include <stdbool.h>

struct error;
struct state;

struct live_frame {
	const struct state *state;
	const char *source; /* "process 1234", "a.moe" */
	bool replay;        /* of a file, in stream time */
	bool ended;         /* nothing more will come */
};

enum live_command { LIVE_NONE, LIVE_REDRAW, LIVE_QUIT };

struct live_view {
	const char *name;
	unsigned interval_ms; /* between two draws */
	bool stays;           /* after the end of a replay, until the user quits */

	int (*open)(void **ctx, struct error *e);
	/* A descriptor that is readable when a key was pressed, or -1. May be NULL. */
	int (*key_fd)(void *ctx);
	/* Called when that is readable or a signal came. May be NULL with key_fd. */
	enum live_command (*key)(void *ctx);
	/* True while the user wants time to stand still. May be NULL. */
	bool (*paused)(void *ctx);
	/* 0 or -errno: nobody can see it any more. */
	int (*draw)(void *ctx, const struct live_frame *f);
	/* A line that the collector said. */
	void (*message)(void *ctx, const char *line);
	/* Give the terminal back and print the messages that were kept. Accepts NULL. */
	void (*close)(void *ctx);
};

extern const struct live_view live_text;     /* lines, for pipes and files */
extern const struct live_view live_terminal; /* the whole screen */
extern const struct live_view live_progress; /* nothing but messages, for `record` */

/* True if standard output is a terminal that live_terminal can draw on. */
bool live_terminal__available(void);

#endif
