/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A stream as one picture: processes, models, requests, expert counts, and what stands beside
 * them (coverage, loss, invalid, cost). Time is stream time only, so that a replay at t is the
 * live picture at t. The stream is hostile: what is out of range is dropped and counted, and
 * memory is bounded whatever arrives. Everything handed out is borrowed until the next apply.
 */
#ifndef MP_STATE_STATE_H
#define MP_STATE_STATE_H

#include "analyzer/state/grid.h"
#include "analyzer/state/request.h"
#include "collector/trace/reader.h"

struct state;

#define STATE_CONTEXTS_MAX 16
#define STATE_WARNINGS_MAX 16 /* kept; later ones take the place of earlier ones */
#define STATE_CAUSES_MAX 16   /* of loss and of invalid: ids 0 .. 15, others count as 0 */

struct state_process {
	uint32_t process, pid;
	char engine[48], version[64], command[48]; /* "" if unknown */
};

/* One loaded model. Numbers may be TRACE_UNKNOWN. @grid is NULL until layers and experts are
 * known; @coverage has one entry a layer of the grid. */
struct state_context {
	uint32_t context, process;
	uint32_t layers, experts, k, shared_experts, vocabulary, blocks, normalised;
	uint16_t *layer_ids; /* [layers], ascending as the stream gave them */
	char architecture[48], name[96], path[256], quantisation[32];
	bool from_file;
	bool ordinals; /* layer_ids count MoE layers as computed: not the model's own */
	struct grid *grid;
	struct state_coverage *coverage;
};

/* Causes by their id in collector/trace/records.h. */
struct state_loss {
	uint64_t count;
	uint64_t rows, decisions; /* as far as they are known; maybe of different things */
	/* Where decisions are not known: rows; and things where rows are not known either. */
	uint64_t only_rows, only_count;
	bool has_rows, has_decisions; /* something is known of them */
};

struct state_cost {
	bool known;
	uint64_t interval_ns, hits, collector_cpu_ns; /* whole stream */
	/* Of the intervals whose time a hit was calibrated: hits, their time, the intervals. */
	uint64_t timed_hits, hit_ns, timed_ns;
	uint32_t threads;        /* last said, TRACE_UNKNOWN */
	uint64_t resident_bytes; /* largest */
	/* Of the last interval of half a second or more; TRACE_UNKNOWN. The first one has what
	 * attaching took of the collector's time, which is no rate. */
	uint32_t slowdown_ppm;
	uint32_t collector_ppm; /* CPU */
	double hits_per_second;
};

struct state_summary {
	uint64_t first_ns, last_ns; /* stream time; 0: no record yet */
	uint64_t records;
	uint64_t steps, routes;    /* 0 and !has_routes where only counts are kept */
	uint64_t rows[STATE_BOTH]; /* by phase */
	uint64_t decisions;        /* rows x layers, seen */
	/* Of these: weights are not final, and in no gate mass; ids are not the model's own, and in
	 * no grid; the choice between equal scores was inferred. Not known where only counts are
	 * kept. */
	uint64_t raw, other_ids, ties;
	uint64_t windows, watched_ns; /* when probes were in place */
	bool has_routes, has_tokens, has_counts;
	uint64_t lost, invalid; /* things; sums over causes */
	struct state_loss loss[STATE_CAUSES_MAX];
	uint64_t invalid_by[STATE_CAUSES_MAX];
	struct state_coverage coverage; /* requests that ended, and rows of no request */
	bool has_coverage;
	struct state_cost cost;
	uint64_t out_of_range;      /* ids or indices outside their model or step: dropped */
	uint64_t no_model;          /* routes before their model was described: dropped */
	struct trace_unread unread; /* as of the last state__set_unread() */
	bool ended;
	struct trace_end end;
	uint32_t warnings; /* findings that are not ok, said so far; number i is at i % MAX */
	char warning[STATE_WARNINGS_MAX][256];
};

int state__new(struct state **out);
/* Take one record over. 0 or -ENOMEM. */
int state__apply(struct state *s, const struct trace_item *item);
/* What the stream's reader passed over: no record says that. */
void state__set_unread(struct state *s, const struct trace_unread *unread);

const struct state_summary *state__summary(const struct state *s);
uint32_t state__contexts(const struct state *s);
const struct state_context *state__context(const struct state *s, uint32_t index);
/* NULL if unknown. */
const struct state_process *state__process(const struct state *s, uint32_t process);
const struct request_table *state__requests(const struct state *s);
/* Steps of the whole stream: counted, or where only counts are kept by the word of its END;
 * UINT64_MAX: not known. */
uint64_t state__steps(const struct state *s);
/* Per second of stream time, over the last 10 s; negative if that is not known. */
double state__steps_per_second(const struct state *s);
double state__rows_per_second(const struct state *s, enum state_phase p);
/* Share of rows x layers that were lost, 0 .. 1: by the losses' own counts or by coverage,
 * whichever is larger. */
double state__lost_share(const struct state *s);
/* Accepts NULL. */
void state__free(struct state *s);

#endif
