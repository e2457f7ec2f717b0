/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of the terminal view share. */
#ifndef MP_VIEW_TERMINAL_INTERNAL_H
#define MP_VIEW_TERMINAL_INTERNAL_H

#include "analyzer/view/live_view.h"
#include "analyzer/view/screen.h"
#include "analyzer/state/state.h"

#define TERMINAL_WIDTH_MIN 80
#define TERMINAL_HEIGHT_MIN 24
#define MESSAGES_MAX 64

/* What the user chose, and what the collector said. */
struct terminal {
	struct screen *screen;
	enum state_window window;
	enum state_phase phase;
	bool paused, help, zoomed;
	bool frozen;    /* the picture stays: a running server's state goes on below it */
	uint32_t model; /* which of several contexts */
	uint32_t first_expert, first_layer;
	char *message[MESSAGES_MAX];
	int messages;
	int message_draws; /* for which the last one still shows */
	bool message_idle; /* it says that nothing arrives: gone once something does */
	uint32_t warnings; /* of the state, taken over as messages */
};

/* Lines [first, first + lines) of the screen. */
struct band {
	int first, lines;
};

/* How a screen of @height lines is divided. */
struct page {
	struct band heat;     /* without its axis and legend */
	int lines_per_row;    /* of the heat map: up to 3 if there is room and @tall */
	struct band requests; /* without their header */
};

struct page page__divide(int height, uint32_t layers, uint32_t requests, bool tall);

/* Each draws its part of @f; @t's scroll position is brought into range. */
void terminal__draw_heat(struct terminal *t, const struct live_frame *f,
			 const struct state_context *c, const struct page *page);
void terminal__draw_requests(struct terminal *t, const struct live_frame *f, struct band band);
void terminal__draw_help(struct terminal *t);

#endif
