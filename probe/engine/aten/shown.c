/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/engine/aten/shown.h"

void aten_shown__add(struct aten_shown *s, uint32_t experts, uint32_t k, uint32_t ordinal,
		     uint32_t rows)
{
	uint32_t distance;

	if (experts < s->experts || (experts == s->experts && k < s->k))
		return;
	if (experts != s->experts || k != s->k) {
		*s = (struct aten_shown){ experts, k, ordinal, ordinal, 0, 1, rows };
		return;
	}
	if (ordinal <= s->last)
		return;
	distance = ordinal - s->last;
	/* One that was lost makes a distance larger, never smaller. */
	if (!s->stride || distance < s->stride)
		s->stride = distance;
	s->last = ordinal;
	s->results++;
	s->rows += rows;
}

bool aten_shown__agree(const struct aten_shown *a, const struct aten_shown *b)
{
	return a->experts && a->experts == b->experts && a->k == b->k && a->first == b->first &&
	       a->stride == b->stride;
}

uint32_t aten_shown__layer(const struct aten_shown *s, uint32_t ordinal)
{
	uint32_t behind = ordinal - s->first;

	if (ordinal < s->first || (s->stride && behind % s->stride))
		return UINT32_MAX;
	return s->stride ? behind / s->stride : behind;
}
