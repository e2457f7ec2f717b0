/* SPDX-License-Identifier: BSD-2-Clause */
/* Loss and invalid captures by cause, from the kernel's counters and from the engine: what came
 * since the last record, and in all. */
#ifndef MP_COLLECTOR_LOSS_H
#define MP_COLLECTOR_LOSS_H

#include <stddef.h>
#include <stdint.h>

#include "collector/trace/records.h"
#include "probe/abi/site.h"

struct trace_writer;

/* Causes are few and their ids small: tables by id, entry 0 unused. X-macro sums give the sizes. */
enum {
#define X(id, name, text) +1
	LOSS_CAUSES = 1 TRACE_LOSSES(X),
	LOSS_INVALIDS = 1 TRACE_INVALIDS(X),
#undef X
};

#define LOSS_CONTEXTS 16 /* told apart; what is lost of others is of an unknown one */

#define LOSS_UNKNOWN UINT64_MAX /* how much */

/* What was lost: @count things, in which so many rows of steps, and choices (rows x layers). */
struct loss_of {
	uint64_t count;
	uint64_t rows, decisions; /* or LOSS_UNKNOWN */
};

/* What was lost since the last record, by cause. */
struct loss_part {
	uint32_t context;
	struct loss_of of[LOSS_CAUSES];
};

/* Zeroed before use; @since_ns is set by whoever begins. */
struct loss {
	struct loss_part unknown; /* of no known context; its own number does not count */
	struct loss_part part[LOSS_CONTEXTS];
	uint32_t parts;
	uint64_t invalid[LOSS_INVALIDS]; /* since the last record */
	uint64_t since_ns;
	uint64_t total, total_invalid;     /* things, from the beginning */
	struct mp_counters seen[MP_SITES]; /* what was taken into account */
};

/* New in one look at the counters, by what it means to coverage. */
struct loss_news {
	uint64_t route_rows;       /* rows of router results that found the ring full */
	uint64_t steps;            /* step descriptions that found it full */
	uint64_t invalid_steps;    /* step descriptions that failed a check in the kernel */
	uint64_t invalid_captures; /* router results that failed a check in the kernel */
};

/* @of was lost of @context (TRACE_UNKNOWN); unknown causes are ignored. */
void loss__add(struct loss *l, uint32_t context, uint32_t cause, struct loss_of of);
void loss__add_invalid(struct loss *l, uint32_t cause, uint64_t count);
/* Take the counters of @count rows of the site table (@site) into account. */
struct loss_news loss__take(struct loss *l, const struct mp_counters *now,
			    const struct mp_site *site, size_t count);
/* Write LOSS and INVALID records for what is new. 0, or the writer's error. */
int loss__write(struct loss *l, struct trace_writer *w, uint32_t source, uint64_t now_ns);

#endif
