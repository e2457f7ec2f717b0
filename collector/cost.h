/* SPDX-License-Identifier: BSD-2-Clause */
/* What the capture costs: thread time that its probes take in the target, processor time and
 * memory of the collector. */
#ifndef MP_COLLECTOR_COST_H
#define MP_COLLECTOR_COST_H

#include <stddef.h>
#include <stdint.h>

struct engine_plan;
struct hit_costs;
struct mp_counters;
struct trace_writer;

/* Zeroed before use but for @since_ns and @statm. */
struct cost {
	int statm;         /* "/proc/self/statm", borrowed; -1: memory is not known */
	uint64_t since_ns; /* of the interval that is under way */
	struct {
		uint64_t hits, captures, bytes;
	} seen[64];      /* by site, at its begin */
	uint64_t cpu_ns; /* of broker and reader, at its begin */
};

/* What is known at the end of an interval. */
struct cost_facts {
	const struct engine_plan *plan;
	const struct mp_counters *counters; /* one a site of the plan */
	const struct hit_costs *costs;
	uint64_t broker_cpu_ns; /* so far */
	uint32_t source;
	uint64_t now_ns;
};

/* Write a COST record and begin the next interval. 0, or the writer's error. */
int cost__write(struct cost *c, struct trace_writer *w, const struct cost_facts *f);

#endif
