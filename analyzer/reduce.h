/* SPDX-License-Identifier: BSD-2-Clause */
/* What of a stream reaches a file: expert ids reveal text, so less is the default. */
#ifndef MP_ANALYZER_REDUCE_H
#define MP_ANALYZER_REDUCE_H

#include <stdint.h>

struct error;
struct trace_item;
struct trace_writer;
struct reducer;

/* X(NAME, text, what the file then holds) */
#define DETAILS(X) \
	X(REQUESTS, "requests", "expert counts a request, layer and phase, in blocks of 64 rows") \
	X(ROUTES, "routes", "every row's expert ids and weights, without token ids") \
	X(TOKENS, "tokens", "everything, token ids and prompts included: reveals the text")

enum detail {
#define X(name, text, holds) DETAIL_##name,
	DETAILS(X)
#undef X
};

/* Rows that a block of counts gathers at least, unless its request ends. */
#define REDUCE_BLOCK_ROWS 64

/* 0; -ENOTSUP for `gates`, which is known but not available yet; -EINVAL. */
int detail__parse(enum detail *out, const char *text);

/* Writes to @w (borrowed). */
int reducer__new(struct reducer **out, enum detail detail, struct trace_writer *w);
/* Take one record over. Errors of the writer are named in @e. */
int reducer__apply(struct reducer *r, const struct trace_item *item, struct error *e);
/* The stream is over: write what has waited and, if the stream did not, an END that says that
 * the collector failed. Flushes the writer. */
int reducer__finish(struct reducer *r, struct error *e);
/* The output could not be written: forget what waits, and write an END that says so. To be called
 * after trace_writer__cut_back(). Flushes the writer. */
int reducer__abandon(struct reducer *r, struct error *e);
/* What became of the stream in the file, whatever else went wrong. */
enum reducer_outcome {
	REDUCER_WHOLE,       /* all of it is there, its END included */
	REDUCER_BROKEN_OFF,  /* all that came is there, but no END came */
	REDUCER_NOT_WRITTEN, /* some of what came is not there */
};
enum reducer_outcome reducer__outcome(const struct reducer *r);
/* Rows or choices that fitted no model, and were left out. */
uint64_t reducer__dropped(const struct reducer *r);
/* Accepts NULL. */
void reducer__free(struct reducer *r);

#endif
