/* SPDX-License-Identifier: BSD-2-Clause */
#include "analyzer/view/heat.h"

#include <stddef.h>

/* Each level begins at this share, in even shares: finer where most experts are. */
static const struct {
	double least;
	const char *name;
} levels[HEAT_LEVELS - HEAT_LOWEST] = {
	{ 0, "<1/4" }, { 0.25, "1/4" }, { 0.5, "1/2" }, { 0.75, "3/4" },
	{ 1, "1" },    { 1.5, "1.5" },  { 2, "2" },     { 4, "4" },
};

static uint32_t divide_up(uint32_t a, uint32_t b)
{
	return a / b + (a % b != 0);
}

/* The first of @count that @room can show from, such that the room is filled. */
static uint32_t scrolled(uint32_t first, uint32_t count, uint32_t room)
{
	if (count <= room)
		return 0;
	return first > count - room ? count - room : first;
}

struct heat_layout heat__layout(uint32_t experts, uint32_t layers, uint32_t width, uint32_t height,
				bool whole, uint32_t first_expert, uint32_t first_layer)
{
	struct heat_layout l = { 0 };

	if (!experts || !layers || !width || !height)
		return l;
	if (width > HEAT_COLUMNS_MAX)
		width = HEAT_COLUMNS_MAX;
	l.experts = experts;
	l.layers = layers;
	l.experts_per_cell = whole ? divide_up(experts, width) : 1;
	l.layers_per_cell = whole ? divide_up(layers, height) : 1;
	l.columns = divide_up(experts, l.experts_per_cell);
	l.rows = divide_up(layers, l.layers_per_cell);
	if (l.columns > width)
		l.columns = width;
	if (l.rows > height)
		l.rows = height;
	if (!whole) {
		l.first_expert = scrolled(first_expert, experts, l.columns);
		l.first_layer = scrolled(first_layer, layers, l.rows);
	}
	l.cell_width = width / l.columns;
	if (l.cell_width > HEAT_CELL_WIDTH_MAX)
		l.cell_width = HEAT_CELL_WIDTH_MAX;
	return l;
}

enum heat_level heat__level(double relative)
{
	int level = HEAT_LEVELS - HEAT_LOWEST - 1;

	while (level > 0 && relative < levels[level].least)
		level--;
	return (enum heat_level)(HEAT_LOWEST + level);
}

const char *heat__level_name(enum heat_level level)
{
	if (level == HEAT_UNKNOWN)
		return "no data";
	if (level == HEAT_NEVER)
		return "never";
	return level < HEAT_LEVELS ? levels[level - HEAT_LOWEST].name : "-";
}

void heat__row(const struct heat_layout *l, const struct grid *g, enum state_window w,
	       enum state_phase p, uint32_t row, enum heat_level level[HEAT_COLUMNS_MAX])
{
	uint32_t layer = l->first_layer + row * l->layers_per_cell;
	uint32_t end = layer + l->layers_per_cell, with_data = 0;
	uint32_t cells = l->columns * l->experts_per_cell;
	double sum[HEAT_COLUMNS_MAX] = { 0 };

	for (; layer < end && layer < l->layers; layer++) {
		uint64_t total = grid__layer_count(g, w, p, layer);

		if (!total)
			continue;
		with_data++;
		for (uint32_t i = 0; i < cells && l->first_expert + i < l->experts; i++)
			sum[i / l->experts_per_cell] +=
				(double)grid__count(g, w, p, layer, l->first_expert + i) *
				l->experts / (double)total;
	}
	for (uint32_t c = 0; c < l->columns; c++) {
		uint32_t left = l->experts - l->first_expert - c * l->experts_per_cell;
		uint32_t experts = left < l->experts_per_cell ? left : l->experts_per_cell;

		if (!with_data)
			level[c] = HEAT_UNKNOWN;
		else if (sum[c] <= 0)
			level[c] = HEAT_NEVER;
		else
			level[c] = heat__level(sum[c] / ((double)experts * with_data));
	}
}
