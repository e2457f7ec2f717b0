/* SPDX-License-Identifier: BSD-2-Clause */
/* Inside of struct state, for the files state*.c only. */
#ifndef MP_STATE_STATE_INTERNAL_H
#define MP_STATE_STATE_INTERNAL_H

#include "analyzer/state/sequences.h"
#include "analyzer/state/state.h"
#include "analyzer/state/window.h"
#include "collector/trace/reader.h"

#define STATE_PROCESSES_MAX 64

/* What one step's routes need of it: they follow it in the stream. */
struct step_rows {
	uint64_t step; /* 0: none yet */
	uint32_t rows;
	uint32_t capacity;
	uint8_t *phase; /* [rows] enum state_phase */
};

/* The public part comes first: a borrowed context leads back here. */
struct context {
	struct state_context public;
	uint64_t model_key; /* the same in all parts of a model; 0: this is all of it */
	struct step_rows last_step;
	struct state_loss loss[STATE_CAUSES_MAX];
};

enum { RATE_STEPS = STATE_BOTH, RATE_CELLS };

struct state {
	struct state_summary summary;
	struct state_process process[STATE_PROCESSES_MAX];
	uint32_t processes;
	struct context *context[STATE_CONTEXTS_MAX];
	uint32_t contexts;
	struct request_table *requests;
	struct sequences *sequences;
	struct state_loss loss_of_none[STATE_CAUSES_MAX]; /* of no known context */
	struct window rate;                               /* rows by phase, then steps */
};

/* NULL if unknown. */
struct context *state__find_context(struct state *s, uint32_t context);
/* -1 if @layer is none of the model's. */
int context__layer_index(const struct context *c, uint32_t layer);
/* False if another part of the model computes the same rows before @c does, where they count. */
bool state__is_first_part(const struct state *s, const struct context *c);
void context__free(struct context *c);

/* state_model.c */
int state__apply_context(struct state *s, const struct trace_item *item);
int state__apply_model(struct state *s, const struct trace_item *item);
/* state_request.c */
int state__apply_request_begin(struct state *s, const struct trace_item *item);
int state__apply_request_info(struct state *s, const struct trace_item *item);
int state__apply_request_end(struct state *s, const struct trace_item *item);
int state__apply_bind(struct state *s, const struct trace_item *item);
/* Count rows for their request, which is that of their sequence where they name none (0). */
int state__count_rows(struct state *s, struct sequence_rows *rows);
/* state_route.c */
int state__apply_step(struct state *s, const struct trace_item *item);
int state__apply_route(struct state *s, const struct trace_item *item);
int state__apply_counts(struct state *s, const struct trace_item *item);

#endif
