/* SPDX-License-Identifier: BSD-2-Clause */
/* The heat map with its axes, the numbers beside it, and its legend. */
#include "analyzer/view/terminal_internal.h"

#include <stdio.h>

#include "analyzer/metric/utilisation.h"
#include "analyzer/view/format.h"

#define LABEL_WIDTH 8
#define NUMBERS_WIDTH 17

/* The numbers stand beside the map, however wide it is. */
static int numbers_column(const struct heat_layout *l)
{
	return LABEL_WIDTH + (int)(l->columns * l->cell_width);
}

/* The expert at which a tick stands, every so many columns that numbers do not touch. */
static void draw_axis(struct terminal *t, const struct heat_layout *l, int y)
{
	uint32_t every = 1;

	screen__put(t->screen, y, 0, LABEL_WIDTH, SCREEN_LABEL, "%*s", LABEL_WIDTH - 2, "layer");
	while (every * l->cell_width < 6)
		every *= 2;
	for (uint32_t c = 0; c < l->columns; c += every)
		screen__put(t->screen, y, LABEL_WIDTH + (int)(c * l->cell_width), 6, SCREEN_LABEL,
			    "%u", l->first_expert + c * l->experts_per_cell);
	screen__put(t->screen, y, numbers_column(l), NUMBERS_WIDTH, SCREEN_LABEL,
		    " max/mean  never");
}

/* Of the layers that a row stands for: the most uneven one, and all experts never chosen. */
static void draw_numbers(struct terminal *t, const struct grid *g, const struct heat_layout *l,
			 uint32_t first, uint32_t end, int y)
{
	int x = numbers_column(l);
	double most = -1;
	uint32_t never = 0;

	for (uint32_t layer = first; layer < end; layer++) {
		struct utilisation u = utilisation__of(g, t->window, t->phase, layer);

		if (!u.total)
			continue;
		never += u.never;
		most = u.max_over_mean > most ? u.max_over_mean : most;
	}
	if (most < 0) {
		screen__put(t->screen, y, x, NUMBERS_WIDTH, SCREEN_LABEL, "%9s%7s", "-", "-");
		return;
	}
	screen__put(t->screen, y, x, 9, SCREEN_PLAIN, "%9.2f", most);
	screen__put(t->screen, y, x + 9, 7, never ? SCREEN_PLAIN : SCREEN_LABEL, "%7u", never);
}

static void draw_row(struct terminal *t, const struct state_context *c, const struct heat_layout *l,
		     uint32_t row, int y, int lines)
{
	enum heat_level level[HEAT_COLUMNS_MAX];
	uint32_t first = l->first_layer + row * l->layers_per_cell;
	uint32_t end = first + l->layers_per_cell;
	char label[32];

	if (end > l->layers)
		end = l->layers;
	if (end - first == 1)
		snprintf(label, sizeof(label), "%u", c->layer_ids[first]);
	else
		snprintf(label, sizeof(label), "%u-%u", c->layer_ids[first], c->layer_ids[end - 1]);
	screen__put(t->screen, y, 0, LABEL_WIDTH, SCREEN_LABEL, "%*s", LABEL_WIDTH - 2, label);
	heat__row(l, c->grid, t->window, t->phase, row, level);
	for (int line = 0; line < lines; line++)
		for (uint32_t i = 0; i < l->columns; i++)
			screen__heat(t->screen, y + line, LABEL_WIDTH + (int)(i * l->cell_width),
				     (int)l->cell_width, level[i]);
	draw_numbers(t, c->grid, l, first, end, y);
}

static void draw_legend(struct terminal *t, int y)
{
	struct screen *s = t->screen;
	int x = 1 + screen__put(s, y, 1, LABEL_WIDTH, SCREEN_LABEL, "%s ",
				screen__glyph(s, "× even", "x even"));

	for (int level = HEAT_LOWEST; level < HEAT_LEVELS; level++) {
		screen__heat(s, y, x, 2, (enum heat_level)level);
		x += 2;
		x += screen__put(s, y, x, 8, SCREEN_LABEL, "%s ",
				 heat__level_name((enum heat_level)level));
	}
	screen__heat(s, y, ++x, 1, HEAT_NEVER);
	x += 1 + screen__put(s, y, x + 1, 10, SCREEN_LABEL, " never  ");
	screen__heat(s, y, x, 1, HEAT_UNKNOWN);
	screen__put(s, y, x + 1, 10, SCREEN_LABEL, " no data");
}

/* What a cell stands for, if that is more than one expert of one layer. */
static void draw_binning(struct terminal *t, const struct heat_layout *l, int y)
{
	if (l->experts_per_cell > 1 || l->layers_per_cell > 1)
		screen__put(t->screen, y, LABEL_WIDTH, 70, SCREEN_LABEL,
			    "a cell is the mean of %u expert%s %s %u layer%s (z: one each)",
			    l->experts_per_cell, l->experts_per_cell == 1 ? "" : "s",
			    screen__glyph(t->screen, "×", "x"), l->layers_per_cell,
			    l->layers_per_cell == 1 ? "" : "s");
}

static void draw_waiting(struct terminal *t, const struct live_frame *f, struct band band)
{
	const char *text = f->ended ? "no route in this recording"
				    : "waiting for the first step (an idle server has none)";

	screen__put(t->screen, band.first + band.lines / 2, LABEL_WIDTH, 70, SCREEN_STRONG, "%s",
		    text);
}

void terminal__draw_heat(struct terminal *t, const struct live_frame *f,
			 const struct state_context *c, const struct page *page)
{
	int width = screen__width(t->screen) - LABEL_WIDTH - NUMBERS_WIDTH;
	struct heat_layout l;

	if (!c || !c->grid || !state__summary(f->state)->decisions) {
		draw_waiting(t, f, page->heat);
		return;
	}
	l = heat__layout(grid__experts(c->grid), grid__layers(c->grid), (uint32_t)width,
			 (uint32_t)(page->heat.lines / page->lines_per_row), !t->zoomed,
			 t->first_expert, t->first_layer);
	t->first_expert = l.first_expert;
	t->first_layer = l.first_layer;
	draw_binning(t, &l, page->heat.first - 2);
	draw_axis(t, &l, page->heat.first - 1);
	for (uint32_t row = 0; row < l.rows; row++)
		draw_row(t, c, &l, row, page->heat.first + (int)row * page->lines_per_row,
			 page->lines_per_row);
	draw_legend(t, page->heat.first + page->heat.lines);
}
