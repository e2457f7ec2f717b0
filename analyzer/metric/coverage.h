/* SPDX-License-Identifier: BSD-2-Clause */
/* How much of what a server computed was seen: the one definition of coverage. */
#ifndef MP_METRIC_COVERAGE_H
#define MP_METRIC_COVERAGE_H

struct state_coverage;

/* seen / (expected - cached - not computed), in rows x layers of ended requests, 0 .. 1; negative:
 * nothing was computed yet. */
double coverage__share(const struct state_coverage *c);
/* What is missing by cause @index (enum trace_missing - 1), or seen, as a share of expected: of all
 * rows, also of those that nobody computed. Negative: nothing was expected. */
double coverage__missing_share(const struct state_coverage *c, unsigned index);
double coverage__seen_share(const struct state_coverage *c);

#endif
