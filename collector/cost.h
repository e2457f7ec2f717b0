/* SPDX-License-Identifier: BSD-2-Clause */
/* What the capture costs: thread time that its probes take in the target, processor time and
 * memory of the collector. */
#ifndef MP_COLLECTOR_COST_H
#define MP_COLLECTOR_COST_H

#include <stddef.h>
#include <stdint.h>

#include "probe/abi/site.h"
#include "probe/attach/site.h"

struct hit_costs;
struct mp_counters;
struct trace_writer;

/* Zeroed before use but for @since_ns and @statm. */
struct cost {
	int statm;         /* "/proc/self/statm", borrowed; -1: memory is not known */
	uint64_t since_ns; /* of the interval that is under way */
	struct {
		uint64_t hits, foreign, captures, bytes;
	} seen[MP_SITES]; /* by row, at its begin */
	uint64_t cpu_ns;  /* of broker and reader, at its begin */
};

/* A row of the site table, as far as it matters here. */
struct cost_row {
	uint32_t program;
	enum mp_purpose purpose;
	enum site_class class;
	uint32_t member;  /* rows of one process follow one another and share this number */
	uint32_t threads; /* of that process, by its plan; ENGINE_UNKNOWN */
};

/* What is known at the end of an interval. */
struct cost_facts {
	const struct cost_row *row;
	const struct mp_counters *counters;
	size_t rows;
	const struct hit_costs *costs;
	uint64_t broker_cpu_ns; /* so far */
	uint32_t source;
	uint64_t now_ns;
};

/* Write a COST record and begin the next interval. 0, or the writer's error. */
int cost__write(struct cost *c, struct trace_writer *w, const struct cost_facts *f);

#endif
