/* SPDX-License-Identifier: BSD-2-Clause */
#include "analyzer/metric/coverage.h"

#include <stdint.h>

#include "analyzer/state/request.h"

static double of_expected(const struct state_coverage *c, uint64_t n)
{
	return c->expected ? (double)n / (double)c->expected : -1;
}

double coverage__share(const struct state_coverage *c)
{
	uint64_t never =
		c->missing[TRACE_MISSING_CACHED - 1] + c->missing[TRACE_MISSING_NOT_COMPUTED - 1];

	if (c->expected <= never)
		return -1;
	return (double)c->seen / (double)(c->expected - never);
}

double coverage__missing_share(const struct state_coverage *c, unsigned index)
{
	return of_expected(c, c->missing[index]);
}

double coverage__seen_share(const struct state_coverage *c)
{
	return of_expected(c, c->seen);
}
