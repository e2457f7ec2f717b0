/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The stand-in for a ggml server: its struct layouts (on purpose not ggml's own: programs must
 * follow the table of sites) and the contents it shows, as functions of a seed, so that a test
 * knows every byte that it must find.
 */
#ifndef TESTS_TOOLS_GGML_DOUBLE_H
#define TESTS_TOOLS_GGML_DOUBLE_H

#include <stdint.h>

#define DOUBLE_TYPE_IDS 26
#define DOUBLE_TYPE_WEIGHTS 7

struct double_params {
	int ith, nth;
	int *ith_at; /* &ith, for a guard behind a pointer */
};

struct double_tensor {
	char before[24];
	char name[64];
	int64_t ne[4];
	uint64_t nb[4];
	void *data;
	struct double_tensor *src[4];
	uint32_t type;
	/* The same once more, in ggml's order. */
	struct {
		uint32_t type;
		uint32_t between[3];
		int64_t ne[4];
		uint64_t nb[4];
		char between_too[40];
		void *data;
		char name[64];
	} like_ggml;
};

struct double_batch {
	uint64_t before;
	int32_t *token;
	float *embeddings;
	int32_t *position;
	int32_t *sequences;
	int32_t **sequence;
	int8_t *output;
	uint32_t count;
};

struct double_vector {
	void *begin, *end, *capacity;
};

#define DOUBLE_PREFIX "chatcmpl-"
struct double_task {
	int32_t id;
	uint32_t kind;
	char *decoy_text; /* text with another beginning */
	uint64_t between[5];
	char *client_id; /* DOUBLE_PREFIX and the seed */
	uint64_t length;
	struct double_vector decoy; /* not tokens: out of the vocabulary */
	struct double_vector tokens;
	struct double_vector other; /* plausible: a second candidate */
	uint64_t after[21];
};

#define DOUBLE_VOCABULARY 1000
#define DOUBLE_OTHER_TOKENS 3

/* How a batch of rows is made odd; bits of the rows command. */
enum {
	DOUBLE_ROWS_TOGETHER = 1,  /* the rows' sequence lists lie one after another */
	DOUBLE_ROWS_NO_TOKENS = 2, /* token == NULL */
	DOUBLE_ROWS_COUNTS = 4,    /* sequence counts 0, 300 and -1 among them */
	DOUBLE_ROWS_LIAR = 8,      /* first and last list as if together, the middle not */
	DOUBLE_ROWS_UNMAPPED = 16, /* the last row's list is not mapped */
};

static inline uint32_t double_value(uint32_t seed, uint32_t row, uint32_t column)
{
	uint32_t x = seed * 2654435761u ^ row * 2246822519u ^ column * 3266489917u;

	x ^= x >> 15;
	x *= 2246822519u;
	x ^= x >> 13;
	return x;
}

/* Sequences of @row by its number of them; -1 where there is none. */
static inline int32_t double_sequences(uint32_t row, unsigned flags)
{
	static const int32_t odd[] = { 1, 0, 2, 300, -1, 255 };

	return flags & DOUBLE_ROWS_COUNTS ? odd[row % 6] : 1;
}

#endif
