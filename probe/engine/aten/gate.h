/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How a family of models makes its gate weights: what is chosen by, and what becomes of the chosen
 * scores until they are multiplied with the experts' outputs. From the families' code in
 * transformers 5.23 (models/NAME/modeling_NAME.py); a family that is not listed gives raw scores,
 * said to be raw.
 */
#ifndef MP_ATEN_GATE_H
#define MP_ATEN_GATE_H

#include <stdbool.h>
#include <stdint.h>

struct model_config;

enum aten_final {
	ATEN_RAW,        /* not known: the scores are given as they are */
	ATEN_AS_IS,      /* the chosen scores */
	ATEN_NORMALISED, /* divided by their sum */
	ATEN_SOFTMAX,    /* softmax over the chosen (scores are logits) */
};

struct aten_gate {
	enum aten_final final;
	float scale; /* in the end */
	/* Chosen by other scores than those that weigh (a bias, groups): top-k says nothing of the
	 * weights, and ids and scores are read where the scores are gathered by the ids. */
	bool gathered;
	bool rounded; /* weights are made in 32 bits and then rounded to what the model computes in
		       */
	/* Scores are logits: what @final begins with is the softmax of all of a row's. */
	bool logits;
};

/* The gate of @c's family; @c NULL: not known. */
struct aten_gate aten_gate__of(const struct model_config *c);

/* From @k chosen logits to the shares they have in the softmax over all @count of @logits, in
 * place.
 */
void aten_gate__share(const float *logits, uint32_t count, float *chosen, uint32_t k);
/* From the @k chosen @scores to the final weights, in place; @dtype: what the model computes in. */
void aten_gate__finish(const struct aten_gate *g, float *scores, uint32_t k, uint8_t dtype);

#endif
