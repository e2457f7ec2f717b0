/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The terminal as a screen: taken and given back on every way out, with the colours and glyphs
 * that it can show. ncurses lives behind this header.
 */
#ifndef MP_VIEW_SCREEN_H
#define MP_VIEW_SCREEN_H

#include <stdbool.h>

#include "analyzer/view/heat.h"

struct error;
struct screen;

enum screen_style {
	SCREEN_PLAIN,
	SCREEN_TITLE,   /* the top line */
	SCREEN_LABEL,   /* names of numbers, axes, help: quiet */
	SCREEN_STRONG,  /* what matters */
	SCREEN_WARNING, /* loss, invalid, trouble */
};

/* Keys beyond characters. */
enum screen_key {
	SCREEN_NO_KEY = -1,
	SCREEN_LEFT = 256,
	SCREEN_RIGHT,
	SCREEN_UP,
	SCREEN_DOWN,
	SCREEN_PAGE_UP,
	SCREEN_PAGE_DOWN,
	SCREEN_RESIZED,
	SCREEN_OTHER_KEY,
};

/* Standard output is a terminal with cursor movement (not TERM=dumb). */
bool screen__available(void);
/* NO_COLOR and the terminal decide about colours, the locale about characters beyond ASCII. */
int screen__open(struct screen **out, struct error *e);
int screen__key_fd(const struct screen *s);
/* A character or an enum screen_key. */
int screen__key(struct screen *s);
int screen__width(const struct screen *s);
int screen__height(const struct screen *s);
bool screen__has_colours(const struct screen *s);
/* @rich where the locale can show it, else @plain. */
const char *screen__glyph(const struct screen *s, const char *rich, const char *plain);

void screen__clear(struct screen *s);
/* Text at (@x, @y), cut at @width columns and at the screen's edge, which an ellipsis shows;
 * returns the columns used. */
int screen__put(struct screen *s, int y, int x, int width, enum screen_style style, const char *fmt,
		...) __attribute__((format(printf, 6, 7)));
/* @text so that it ends before column @end. */
void screen__put_right(struct screen *s, int y, int end, enum screen_style style, const char *text);
/* Style the rest of line @y from @x on. */
void screen__fill(struct screen *s, int y, int x, enum screen_style style);
/* A cell of the heat map, @width columns. */
void screen__heat(struct screen *s, int y, int x, int width, enum heat_level level);
void screen__show(struct screen *s);
/* Give the terminal back. Accepts NULL. */
void screen__free(struct screen *s);

#endif
