/* SPDX-License-Identifier: BSD-2-Clause */
/* The heat map's layout over every size that a terminal may have, its levels, and the page. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "analyzer/view/format.h"
#include "analyzer/view/heat.h"
#include "analyzer/view/terminal_internal.h"

/* Everything is inside, nothing overlaps, and with @whole nothing is left out. */
static void check_layout(uint32_t experts, uint32_t layers, uint32_t width, uint32_t height,
			 bool whole)
{
	struct heat_layout l = heat__layout(experts, layers, width, height, whole, 7, 3);

	assert_in_range(l.columns, 1, width);
	assert_in_range(l.rows, 1, height);
	assert_in_range(l.cell_width, 1, HEAT_CELL_WIDTH_MAX);
	assert_true(l.columns * l.cell_width <= width);
	assert_true(l.columns <= HEAT_COLUMNS_MAX);
	if (!whole) {
		assert_int_equal(l.experts_per_cell, 1);
		assert_int_equal(l.layers_per_cell, 1);
		assert_true(l.first_expert + l.columns <= experts);
		assert_true(l.first_layer + l.rows <= layers);
		return;
	}
	assert_int_equal(l.first_expert, 0);
	assert_true(l.columns * l.experts_per_cell >= experts);
	assert_true(l.rows * l.layers_per_cell >= layers);
	/* The last cell stands for something. */
	assert_true((l.columns - 1) * l.experts_per_cell < experts);
	assert_true((l.rows - 1) * l.layers_per_cell < layers);
}

static void test_layout_of_every_size(void **unused)
{
	static const uint32_t experts[] = { 1, 2, 7, 8, 16, 60, 64, 128, 160, 256, 384, 2000 };
	static const uint32_t layers[] = { 1, 3, 16, 27, 48, 61, 300 };

	for (size_t x = 0; x < sizeof(experts) / sizeof(*experts); x++) {
		for (size_t l = 0; l < sizeof(layers) / sizeof(*layers); l++) {
			for (uint32_t size = 1; size < 300; size += size < 40 ? 1 : 13) {
				check_layout(experts[x], layers[l], size, size / 3 + 1, true);
				check_layout(experts[x], layers[l], size, size / 3 + 1, false);
			}
		}
	}
}

static void test_layout_exactly(void **unused)
{
	struct heat_layout l = heat__layout(16, 4, 55, 8, true, 0, 0);

	assert_int_equal(l.columns, 16);
	assert_int_equal(l.cell_width, 3);
	assert_int_equal(l.rows, 4);
	l = heat__layout(256, 61, 55, 12, true, 0, 0);
	assert_int_equal(l.experts_per_cell, 5);
	assert_int_equal(l.columns, 52);
	assert_int_equal(l.layers_per_cell, 6);
	assert_int_equal(l.rows, 11);
	l = heat__layout(256, 61, 55, 12, false, 10000, 55);
	assert_int_equal(l.first_expert, 256 - 55);
	assert_int_equal(l.first_layer, 61 - 12);
	l = heat__layout(0, 4, 55, 8, true, 0, 0);
	assert_int_equal(l.columns, 0);
	l = heat__layout(4, 4, 0, 8, true, 0, 0);
	assert_int_equal(l.rows, 0);
}

static void test_levels(void **unused)
{
	assert_int_equal(heat__level(0.01), HEAT_LOWEST);
	assert_int_equal(heat__level(0.25), HEAT_LOWEST + 1);
	assert_int_equal(heat__level(0.999), HEAT_LOWEST + 3);
	assert_int_equal(heat__level(1.0), HEAT_LOWEST + 4);
	assert_int_equal(heat__level(3.99), HEAT_LOWEST + 6);
	assert_int_equal(heat__level(64), HEAT_LEVELS - 1);
	assert_string_equal(heat__level_name(HEAT_NEVER), "never");
	assert_string_equal(heat__level_name(HEAT_LOWEST), "<1/4");
	assert_string_equal(heat__level_name(HEAT_LEVELS - 1), "4");
}

/* Never chosen, chosen least, and no data are three different things. */
static void test_row_levels(void **unused)
{
	enum heat_level level[HEAT_COLUMNS_MAX];
	struct heat_layout l = heat__layout(4, 2, 40, 2, true, 0, 0);
	struct grid *g;

	assert_int_equal(grid__new(&g, 2, 4), 0);
	grid__add(g, 0, 0, STATE_DECODE, 10, 0);
	grid__add(g, 0, 1, STATE_DECODE, 29, 0);
	grid__add(g, 0, 3, STATE_DECODE, 1, 0);
	heat__row(&l, g, STATE_WINDOW_WHOLE, STATE_BOTH, 0, level);
	assert_int_equal(level[0], HEAT_LOWEST + 4); /* 10 of 40, of 4 experts: even */
	assert_int_equal(level[1], HEAT_LOWEST + 6); /* 2.9 */
	assert_int_equal(level[2], HEAT_NEVER);
	assert_int_equal(level[3], HEAT_LOWEST); /* 0.1 */
	heat__row(&l, g, STATE_WINDOW_WHOLE, STATE_PREFILL, 0, level);
	assert_int_equal(level[2], HEAT_UNKNOWN);
	heat__row(&l, g, STATE_WINDOW_WHOLE, STATE_BOTH, 1, level);
	assert_int_equal(level[0], HEAT_UNKNOWN);
	/* Binned two by two: (10 + 29) / 40 x 4 / 2 and (0 + 1) / 40 x 4 / 2; the layer without
	 * data does not dilute. */
	l = heat__layout(4, 2, 2, 1, true, 0, 0);
	heat__row(&l, g, STATE_WINDOW_WHOLE, STATE_BOTH, 0, level);
	assert_int_equal(level[0], HEAT_LOWEST + 5);
	assert_int_equal(level[1], HEAT_LOWEST);
	grid__free(g);
}

/* Bands do not overlap and end where the status begins, at every height that is drawn at all. */
static void test_page(void **unused)
{
	/* Two less: what is missing may take two lines more. */
	for (int height = TERMINAL_HEIGHT_MIN - 2; height < 200; height++) {
		for (uint32_t layers = 0; layers < 100; layers += 3) {
			for (uint32_t requests = 0; requests < 300; requests += 7) {
				struct page p = page__divide(height, layers, requests, true);

				assert_true(p.heat.lines >= 1);
				assert_true(p.requests.lines >= 3);
				assert_true(p.heat.first + p.heat.lines + 3 == p.requests.first);
				assert_int_equal(p.requests.first + p.requests.lines, height - 3);
				assert_in_range(p.lines_per_row, 1, 3);
			}
		}
	}
	assert_int_equal(page__divide(24, 4, 2, true).lines_per_row, 2);
	assert_int_equal(page__divide(24, 4, 2, false).lines_per_row, 1);
}

static void test_formats(void **unused)
{
	char out[FORMAT_SIZE];

	assert_string_equal(format__count(out, sizeof(out), 0), "0");
	assert_string_equal(format__count(out, sizeof(out), 1234567), "1,234,567");
	assert_string_equal(format__count(out, sizeof(out), UINT64_MAX),
			    "18,446,744,073,709,551,615");
	assert_string_equal(format__known(out, sizeof(out), UINT32_MAX), "-");
	assert_string_equal(format__share(out, sizeof(out), 0), "0 %");
	assert_string_equal(format__share(out, sizeof(out), 0.0001), "<0.1 %");
	assert_string_equal(format__share(out, sizeof(out), 0.99999), "99.9 %");
	assert_string_equal(format__share(out, sizeof(out), 1), "100 %");
	assert_string_equal(format__share(out, sizeof(out), -1), "-");
	assert_string_equal(format__duration(out, sizeof(out), 12340000000ull), "12.3 s");
	assert_string_equal(format__duration(out, sizeof(out), 125000000000ull), "2 min 05 s");
	assert_string_equal(format__bytes(out, sizeof(out), 762000), "762 kB");
	assert_string_equal(format__bytes(out, sizeof(out), 999999), "1.0 MB");
	assert_string_equal(format__rate(out, sizeof(out), -1), "-");
	assert_string_equal(format__rate(out, sizeof(out), 17.44), "17.4");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_layout_of_every_size),
		cmocka_unit_test(test_layout_exactly),
		cmocka_unit_test(test_levels),
		cmocka_unit_test(test_row_levels),
		cmocka_unit_test(test_page),
		cmocka_unit_test(test_formats),
	};

	return cmocka_run_group_tests_name("heat", tests, NULL, NULL);
}
