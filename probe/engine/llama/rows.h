/* SPDX-License-Identifier: BSD-2-Clause */
/* The rows of one forward computation, decoded from its capture and checked. */
#ifndef MP_LLAMA_ROWS_H
#define MP_LLAMA_ROWS_H

#include <stdint.h>

#include "probe/engine/capture.h"

#define LLAMA_SLOTS_MAX 4096 /* sequences of a context: n_seq_max of every release is below */
#define LLAMA_POSITIONS_MAX (1 << 24) /* the longest context of any model is 10 million tokens */

/* Owns the columns; zero-initialise before use, decode again and again, free once. */
struct llama_rows {
	uint32_t tid;
	uint32_t computation; /* number of the computation on its thread, from 1 */
	uint64_t object;      /* which context computes: an identity */
	uint64_t time_ns;
	uint32_t count;
	uint32_t capacity;
	int32_t *token; /* -1: unknown */
	int32_t *position;
	int32_t *sequence;    /* the slot: the first of the row's sequences */
	uint8_t *output;      /* logits asked for, 0 or 1 */
	uint32_t outputs;     /* rows with output */
	uint32_t *output_row; /* which, ascending */
};

/*
 * 0; -EBADMSG if a row is impossible (output not 0 or 1, no sequence, sequence or position out of
 * range, a token outside @vocabulary; 0: unknown), @r then says tid, computation and count;
 * -ENOMEM.
 */
int llama_rows__decode(struct llama_rows *r, const struct capture *c, uint32_t vocabulary);
/* Accepts a zeroed one. */
void llama_rows__free(struct llama_rows *r);

#endif
