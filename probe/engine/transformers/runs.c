/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/engine/transformers/runs.h"

#include <stddef.h>

#include "probe/abi/site.h"

/* Beyond it no position of a row behind it would be one: not known, then. */
#define POSITION_MAX ((int64_t)INT32_MAX - MP_ELEMENTS_MAX)
#define SLOT_MAX (INT64_MAX / 2)

uint32_t transformers_runs__most(const struct aten_step *s)
{
	return s->token.count ? s->token.count : s->rows;
}

/* Position of row @i; -1: not known. One row of positions may serve all batch rows. */
static int64_t position_of(const struct aten_step *s, uint32_t i, uint32_t rows)
{
	int64_t position = -1;

	if (s->position.count == rows)
		position = s->position.value[i];
	else if (s->position.count && s->position.count == s->length)
		position = s->position.value[i % s->length];
	return position > POSITION_MAX ? -1 : position;
}

/* Cache slot of row @i; -1: not known, or none that a cache has. */
static int64_t slot_of(const struct aten_step *s, uint32_t i, uint32_t rows)
{
	int64_t slot = s->slot.count == rows ? s->slot.value[i] : -1;

	return slot < 0 || slot > SLOT_MAX ? -1 : slot;
}

/* Row @i of a packed batch may go on with @r: two sequences can stand at neighbouring positions,
 * but not in neighbouring slots. */
static bool goes_on(const struct run *r, const struct aten_step *s, uint32_t i, int64_t position)
{
	if (position >= 0 && position != (int64_t)r->position + r->rows)
		return false;
	return !r->packed || slot_of(s, i, s->slot.count) == r->last_slot + 1;
}

/* Where a page of the cache begins slots may jump. A run of one row is no evidence of that. */
static bool is_behind(const struct run *r, int64_t position)
{
	return r->packed && r->rows > 1 && position == (int64_t)r->position + r->rows &&
	       position % PAGE_UNIT == 0;
}

/* In a plain batch row single rows before a run that begins at 0, all at one position, are padding.
 * Whatever else jumps there is somebody's. */
static void mark_padding(struct run *run, uint32_t from, uint32_t to)
{
	for (uint32_t i = from + 1; i < to; i++) {
		if (run[i].position || run[i].unplaced || run[i - 1].padding)
			continue;
		for (uint32_t p = i; p-- > from;) {
			if (run[p].rows > 1 || run[p].unplaced || run[p].padding ||
			    run[p].position != run[i - 1].position)
				break;
			run[p].padding = true;
		}
	}
}

uint32_t transformers_runs__cut(struct run *out, const struct aten_step *s)
{
	uint32_t rows = transformers_runs__most(s), runs = 0, row_begin = 0;
	uint32_t length = s->length && (uint64_t)s->batch * s->length == rows ? s->length : rows;
	/* A paged cache packs all sequences into one batch row. */
	bool packed = s->batch <= 1 && s->slot.count == rows;

	for (uint32_t i = 0; i < rows; i++) {
		int64_t position = position_of(s, i, rows);
		struct run *r = runs ? &out[runs - 1] : NULL;
		bool fresh = !(i % length);

		if (fresh && i && !packed)
			mark_padding(out, row_begin, runs);
		if (fresh)
			row_begin = runs;
		if (!fresh && goes_on(r, s, i, position)) {
			r->rows++;
			r->last_slot = slot_of(s, i, rows);
			continue;
		}
		out[runs++] = (struct run){
			.first = i,
			.rows = 1,
			.batch_row = i / length,
			.position = position < 0 ? 0 : (uint32_t)position,
			.slot = slot_of(s, i, rows),
			.last_slot = slot_of(s, i, rows),
			.packed = packed,
			.unplaced = position < 0,
			.behind = !fresh && is_behind(r, position),
		};
	}
	if (!packed)
		mark_padding(out, row_begin, runs);
	else if (runs)
		/* Rows are packed until a step is full: only then its last run may be cut. The
		 * slots lie in an array for a full step. */
		out[runs - 1].cut = (uint64_t)rows * sizeof(int64_t) >= s->slots_bytes;
	return runs;
}
