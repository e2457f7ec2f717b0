/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What one computation shows of the router of a model that nobody described. A router may choose
 * twice a layer, a group of experts and then the experts: of all choices those among the most
 * candidates are the router's, and they come at equal distances in the order of results.
 */
#ifndef MP_ATEN_SHOWN_H
#define MP_ATEN_SHOWN_H

#include <stdbool.h>
#include <stdint.h>

/* Plain data, zeroed: nothing was shown. */
struct aten_shown {
	uint32_t experts, k;
	uint32_t first, last; /* ordinals */
	uint32_t stride;      /* from one to the next; 0: there was one only */
	uint32_t results;
	uint64_t rows; /* of all of them */
};

/* A result is a choice of @k among @experts. */
void aten_shown__add(struct aten_shown *s, uint32_t experts, uint32_t k, uint32_t ordinal,
		     uint32_t rows);
/* True if both show the same router at the same places. */
bool aten_shown__agree(const struct aten_shown *a, const struct aten_shown *b);
/* Which of the router's results that with @ordinal is; UINT32_MAX: none. */
uint32_t aten_shown__layer(const struct aten_shown *s, uint32_t ordinal);

#endif
