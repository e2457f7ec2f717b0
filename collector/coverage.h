/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What should have been seen of a request, and what became of it: for each request and MoE layer
 *   expected = seen + cached + not computed + lost + invalid + before attach + not routed
 *              + after detach
 * where every term is counted on its own, so that the equation can be checked. Processes that share
 * out the layers of a model (contexts of one model_key) each have all rows of a request. Pure: no
 * clock, no file, no kernel.
 */
#ifndef MP_COLLECTOR_COVERAGE_H
#define MP_COLLECTOR_COVERAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "collector/trace/records.h"

struct coverage;
struct engine_context;
struct engine_request;
struct engine_step;

/* Why positions have no routing: index of trace_coverage.missing[] (cause id - 1). */
enum coverage_cause {
#define X(id, name, text) COVERAGE_##name = (id)-1,
	TRACE_MISSING(X)
#undef X
};

/* One layer of one request; request 0: rows of no known request. */
struct coverage_line {
	uint32_t request, context;
	uint32_t layer; /* the model's own number */
	uint64_t expected, seen;
	uint64_t missing[TRACE_MISSING_COUNT];
};

/* NULL: out of memory. */
struct coverage *coverage__new(void);
/* Accepts NULL. */
void coverage__free(struct coverage *c);

/* Steps that began before @ns were under way while we attached. */
void coverage__attached(struct coverage *c, uint64_t ns);
/* The probes are gone: steps that are said from now on were still under way. */
void coverage__detached(struct coverage *c);
/* A model, or more of it. A layer that is known only now had no result until now. 0, -ENOMEM. */
int coverage__model(struct coverage *c, const struct engine_context *m);
/* A request begins. 0, -ENOMEM. */
int coverage__begin(struct coverage *c, const struct engine_request *r);
/* A step; @delivered false: it was dropped whole on the way out. 0, -ENOMEM. */
int coverage__step(struct coverage *c, const struct engine_step *s, bool delivered);

/* What was lost or invalid before it could be told whose it was. It explains results that are
 * missing from steps: @rows of them, or one layer of a step a capture. */
void coverage__lost_routes(struct coverage *c, uint64_t rows);
void coverage__lost_steps(struct coverage *c, uint64_t count);
/* Steps whose description failed its check; nobody knows whose they were. */
void coverage__invalid_steps(struct coverage *c, uint64_t count);
void coverage__invalid_routes(struct coverage *c, uint64_t captures);

/* True if @request misses results whose cause is not known yet: worth a look at the counters. */
bool coverage__has_open(const struct coverage *c, uint32_t request);
/* Rows seen of @request: of several processes that share out the layers, where most were. */
uint32_t coverage__rows(const struct coverage *c, uint32_t request);

typedef int (*coverage_emit)(void *ctx, const struct coverage_line *line);
/*
 * @request ended with @tokens positions in its sequence by the server's word (ENGINE_UNKNOWN):
 * settle what is open, say a line for each layer, forget it. Request 0: say the rows of no known
 * request, if there were any. 0, or what @emit returned.
 */
int coverage__end(struct coverage *c, uint32_t request, uint32_t tokens, coverage_emit emit,
		  void *ctx);
/* @request, of which no row was delivered, ended and nobody is told of it: its positions are said
 * with the rows of no known request. 0, -ENOMEM. */
int coverage__drop(struct coverage *c, uint32_t request, uint32_t tokens);

#endif
