/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The layer x expert heat map without a terminal: which experts and layers each cell stands for
 * so that the map fits, and how hot a cell is. Pure functions.
 */
#ifndef MP_VIEW_HEAT_H
#define MP_VIEW_HEAT_H

#include <stdbool.h>
#include <stdint.h>

#include "analyzer/state/grid.h"

/* Columns and rows of a map that has @width x @height characters. */
struct heat_layout {
	uint32_t columns, rows;                     /* cells shown */
	uint32_t cell_width;                        /* characters */
	uint32_t experts_per_cell, layers_per_cell; /* more than 1: binned */
	uint32_t first_expert, first_layer;         /* of the first cell: scrolled */
	uint32_t experts, layers;
};

#define HEAT_CELL_WIDTH_MAX 6
#define HEAT_COLUMNS_MAX 512

/*
 * Fit @experts x @layers into @width x @height. With @whole everything is shown, binned as much as
 * needed; without, every expert and layer has a cell of its own and the map begins at
 * (@first_expert, @first_layer), moved back so that no space is wasted. All zero if there is no
 * space or nothing to show.
 */
struct heat_layout heat__layout(uint32_t experts, uint32_t layers, uint32_t width, uint32_t height,
				bool whole, uint32_t first_expert, uint32_t first_layer);

/* How often against an even spread over the layer's experts. */
enum heat_level {
	HEAT_UNKNOWN, /* no data of this layer (in this window and phase) */
	HEAT_NEVER,   /* data, but none of the cell's experts was chosen */
	HEAT_LOWEST,  /* less than a quarter of even */
	HEAT_LEVELS = HEAT_LOWEST + 8,
};

/* @relative is a share divided by the even share; above 0. */
enum heat_level heat__level(double relative);
/* The levels of the columns in @row, each the mean over what it stands for. Layers without data do
 * not count. */
void heat__row(const struct heat_layout *l, const struct grid *g, enum state_window w,
	       enum state_phase p, uint32_t row, enum heat_level level[HEAT_COLUMNS_MAX]);
/* The least relative share of @level, as the legend shows it: "<1/4", "1/4", "1/2", ... */
const char *heat__level_name(enum heat_level level);

#endif
