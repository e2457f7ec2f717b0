/* SPDX-License-Identifier: BSD-2-Clause */
/* Requests of a stream, live and finished, at most STATE_REQUESTS_MAX of them. */
#ifndef MP_STATE_REQUEST_H
#define MP_STATE_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "analyzer/state/grid.h"
#include "collector/trace/records.h"

#define STATE_REQUESTS_MAX 4096

#define STATE_MISSING_OTHER TRACE_MISSING_COUNT /* causes that only a later writer knows */

/* expected = seen + sum of missing[], in rows x layers; missing[i] belongs to cause i + 1. */
struct state_coverage {
	uint64_t expected, seen;
	uint64_t missing[TRACE_MISSING_COUNT + 1];
};

/* Numbers that the stream does not say are TRACE_UNKNOWN, times UINT64_MAX. */
struct state_request {
	uint32_t request;
	uint32_t context;
	uint32_t sequence, slot, task;
	uint32_t cached, prompt; /* tokens; cached is the part of prompt taken from the cache */
	char client_id[96];      /* "" if unknown, like all names */
	char request_id[96], trace_id[40], adapter[64];
	char labels[512];        /* see analyzer/state/labels.h */
	bool named_by_inference; /* by its last name */
	bool before_attach;
	bool inferred; /* its rows were joined by inference, not by the server's word */
	uint64_t begin_ns, first_row_ns, last_row_ns, end_ns;
	uint64_t rows[STATE_BOTH]; /* by phase; of its first MoE layer where only counts are kept */
	uint32_t position;         /* of its last row */
	enum state_phase phase;    /* of its last row; STATE_OTHER before it */
	bool ended;
	uint32_t ending;      /* enum trace_ending */
	uint32_t finish;      /* enum trace_finish */
	uint32_t generated;   /* tokens, by the server's word */
	uint32_t tokens;      /* of its sequence, by the server's word */
	uint32_t rows_by_end; /* rows seen of it by the collector's word */
	struct state_coverage coverage;
};

struct request_table;

int request_table__new(struct request_table **out);
/* The request, created if it is not there (evicting the oldest finished, else the oldest one),
 * or NULL without memory. */
struct state_request *request_table__take(struct request_table *t, uint32_t request);
/* NULL if it is not there. */
struct state_request *request_table__find(struct request_table *t, uint32_t request);
/* @r ended: it may be evicted first. */
void request_table__end(struct request_table *t, struct state_request *r);
/* Newest first by first mention; NULL begins and ends. */
const struct state_request *request_table__older(const struct request_table *t,
						 const struct state_request *r);
/* True if the capture or the target ended before the request did. */
bool request__is_cut_off(const struct state_request *r);
/* True if its end is not known: it goes on, or went on when the capture ended. */
bool request__is_open(const struct state_request *r);
/* How long no row of an open request was seen before @now_ns, or before the capture's end;
 * UINT64_MAX: not known. */
uint64_t request__silent_ns(const struct state_request *r, uint64_t now_ns);
/* True if anything names it: an id of the client's, labels. */
bool request__has_name(const struct state_request *r);
/* What stands before its names: "~" where they were found by inference, else "". */
const char *request__name_mark(const struct state_request *r);
uint32_t request_table__live(const struct request_table *t);
/* Evicted ones included; cut off ones are not finished. */
uint64_t request_table__finished(const struct request_table *t);
uint64_t request_table__cut_off(const struct request_table *t);
uint64_t request_table__evicted(const struct request_table *t);
/* Accepts NULL. */
void request_table__free(struct request_table *t);

#endif
