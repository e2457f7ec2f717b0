/* SPDX-License-Identifier: BSD-2-Clause */
#include "analyzer/metric/utilisation.h"

#include <math.h>

/* Keep the largest shares; experts come in ascending order, so equal ones stay in it. */
static void rank(struct utilisation *u, uint32_t expert, double share)
{
	uint32_t at = u->busy;

	while (at && u->busiest[at - 1].share < share)
		at--;
	if (at == UTILISATION_BUSIEST)
		return;
	if (u->busy < UTILISATION_BUSIEST)
		u->busy++;
	for (uint32_t i = u->busy - 1; i > at; i--)
		u->busiest[i] = u->busiest[i - 1];
	u->busiest[at].expert = expert;
	u->busiest[at].share = share;
}

struct utilisation utilisation__of(const struct grid *g, enum state_window w, enum state_phase p,
				   uint32_t layer)
{
	struct utilisation u = { .experts = grid__experts(g) };
	double share;

	u.total = grid__layer_count(g, w, p, layer);
	if (!u.total)
		return u;
	for (uint32_t x = 0; x < u.experts; x++) {
		uint64_t n = grid__count(g, w, p, layer, x);

		if (!n) {
			u.never++;
			continue;
		}
		share = (double)n / (double)u.total;
		u.entropy_bits -= share * log2(share);
		rank(&u, x, share);
	}
	u.max_over_mean = u.busiest[0].share * u.experts;
	u.evenness = u.experts > 1 ? u.entropy_bits / log2(u.experts) : 1;
	if (u.entropy_bits < 0)
		u.entropy_bits = u.evenness = 0; /* -0 of a single share */
	return u;
}
