/* SPDX-License-Identifier: BSD-2-Clause */
/* How evenly the experts of a layer are used. Pure functions over counts. */
#ifndef MP_METRIC_UTILISATION_H
#define MP_METRIC_UTILISATION_H

#include <stdint.h>

#include "analyzer/state/grid.h"

#define UTILISATION_BUSIEST 4

/* Of one layer. Nothing below @total is known while it is 0. */
struct utilisation {
	uint64_t total; /* choices */
	uint32_t experts;
	uint32_t never;       /* experts that were not chosen once */
	double max_over_mean; /* 1: even; experts: one does everything */
	double entropy_bits;  /* of the shares */
	double evenness;      /* entropy / log2(experts), 0 .. 1; 1 for a single expert */
	uint32_t busy;        /* entries below, at most UTILISATION_BUSIEST */
	struct {
		uint32_t expert;
		double share;           /* of the choices, 0 .. 1 */
	} busiest[UTILISATION_BUSIEST]; /* descending share, ties by id */
};

struct utilisation utilisation__of(const struct grid *g, enum state_window w, enum state_phase p,
				   uint32_t layer);

#endif
