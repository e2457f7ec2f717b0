/* SPDX-License-Identifier: BSD-2-Clause */
#include "collector/cost.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "collector/trace/records.h"
#include "collector/trace/writer.h"
#include "probe/attach/calibrate.h"
#include "probe/engine/sink.h"

static uint64_t own_cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t resident_bytes(int statm)
{
	unsigned long pages;
	char text[128];
	ssize_t n = pread(statm, text, sizeof(text) - 1, 0);

	text[n > 0 ? n : 0] = '\0';
	return sscanf(text, "%*u %lu", &pages) == 1 ? pages * (uint64_t)sysconf(_SC_PAGESIZE)
						    : UINT64_MAX;
}

/* Of a row, in an interval. */
struct fresh {
	uint64_t hits, foreign, captures, bytes;
};

/* Thread time; UINT64_MAX if it is not known. What is captured at other places than the router's
 * costs about as much a byte. */
static uint64_t time_of(const struct hit_costs *c, enum site_class class, const struct fresh *f)
{
	uint64_t rows = c->row_bytes ? f->bytes / c->row_bytes : 0;

	if (f->hits + f->foreign && !c->hit[class])
		return UINT64_MAX;
	if (f->captures && !c->capture)
		return UINT64_MAX;
	return (f->hits + f->foreign) * c->hit[class] + f->captures * c->capture +
	       (f->hits > f->captures ? f->hits - f->captures : 0) * c->away +
	       (rows > f->captures ? rows - f->captures : 0) * c->row;
}

/* Hits of the interval; @ns becomes UINT64_MAX where their time is not known. */
static uint64_t take_hits(struct cost *c, const struct cost_facts *f, uint64_t *ns)
{
	uint64_t hits = 0;

	*ns = 0;
	for (size_t i = 0; i < f->rows; i++) {
		const struct mp_counters *now = &f->counters[i];
		const struct fresh fresh = {
			.hits = now->hits - c->seen[i].hits,
			.foreign = now->foreign - c->seen[i].foreign,
			.captures = now->matched - c->seen[i].captures,
			.bytes = now->bytes - c->seen[i].bytes,
		};
		uint64_t each = time_of(f->costs, f->row[i].class, &fresh);

		/* At no place of a program: what every system call costs is told, not counted. */
		if (f->row[i].program == MP_PROGRAM_HEADS)
			continue;
		hits += fresh.hits + fresh.foreign;
		*ns = each == UINT64_MAX || *ns == UINT64_MAX ? UINT64_MAX : *ns + each;
		c->seen[i].hits = now->hits;
		c->seen[i].foreign = now->foreign;
		c->seen[i].captures = now->matched;
		c->seen[i].bytes = now->bytes;
	}
	return hits;
}

/* Threads of the process with row @first that run the probed operator: of each call of ggml's all
 * threads hit and the guard lets one pass. What the plan says (a command line) may be missing or
 * about something else. */
static uint32_t threads_of(const struct cost_facts *f, size_t first)
{
	for (size_t i = first; i < f->rows && f->row[i].member == f->row[first].member; i++) {
		const struct mp_counters *c = &f->counters[i];

		if (f->row[i].program == MP_PROGRAM_ROUTE && c->hits > c->unguarded)
			return (uint32_t)((double)c->hits / (double)(c->hits - c->unguarded) + 0.5);
	}
	return f->row[first].threads;
}

/* Of all processes that were hit, or of the only one. */
static uint32_t count_threads(const struct cost_facts *f)
{
	uint32_t sum = 0;

	for (size_t i = 0, next; i < f->rows; i = next) {
		uint64_t hits = 0;
		uint32_t each;

		for (next = i; next < f->rows && f->row[next].member == f->row[i].member; next++)
			hits += f->counters[next].hits;
		each = hits || (!i && next == f->rows) ? threads_of(f, i) : 0;
		if (each == ENGINE_UNKNOWN)
			return ENGINE_UNKNOWN;
		sum += each;
	}
	return sum ? sum : ENGINE_UNKNOWN;
}

int cost__write(struct cost *c, struct trace_writer *w, const struct cost_facts *f)
{
	uint64_t cpu = own_cpu_ns() + f->broker_cpu_ns;
	struct trace_cost r = {
		.head = { .time_ns = f->now_ns, .source = f->source },
		.interval_ns = f->now_ns - c->since_ns,
		.collector_cpu_ns = cpu - c->cpu_ns,
		.resident_bytes = resident_bytes(c->statm),
		.threads = count_threads(f),
		.slowdown_ppm = TRACE_UNKNOWN,
	};

	r.hits = take_hits(c, f, &r.hit_ns);
	if (r.hit_ns != UINT64_MAX && r.threads && r.threads != ENGINE_UNKNOWN && r.interval_ns)
		r.slowdown_ppm =
			(uint32_t)((double)r.hit_ns * 1e6 / (double)r.interval_ns / r.threads);
	c->since_ns = f->now_ns;
	c->cpu_ns = cpu;
	return trace_writer__append(w, TRACE_COST, &r, sizeof(r), NULL, 0);
}
