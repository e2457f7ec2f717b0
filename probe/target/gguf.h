/* SPDX-License-Identifier: BSD-2-Clause */
/* Geometry and vocabulary out of a GGUF model file (v2 and v3), by its header alone. */
#ifndef MP_TARGET_GGUF_H
#define MP_TARGET_GGUF_H

#include <stdbool.h>
#include <stdint.h>

struct error;

#define GGUF_UNKNOWN UINT32_MAX
#define GGUF_LAYERS_MAX 1024

/* Plain data. Numbers that the file does not say are GGUF_UNKNOWN. */
struct gguf_model {
	char architecture[64];
	char name[128];
	char quantisation[32]; /* most frequent type of the expert tensors, "F16", "Q8_0" */
	uint32_t blocks;
	uint32_t experts, experts_used, experts_shared;
	uint32_t expert_groups, expert_groups_used;
	uint32_t gating_function;    /* llama.cpp's number: 1 softmax, 2 sigmoid, ... */
	uint32_t weights_normalised; /* 0 or 1 */
	uint32_t vocabulary;
	uint32_t splits; /* files that the model is cut into; the tensors below are this file's */
	uint32_t moe_layers;                 /* layers with a router tensor */
	uint16_t layer_ids[GGUF_LAYERS_MAX]; /* which, ascending */
	float weights_scale;                 /* 0: not said */
	/* SHA-256 of the header up to the end of the tensors' descriptions, and of the tokens, each
	 * followed by a zero byte (all zero: it has none). */
	uint8_t header_digest[32], tokens_digest[32];
};

/*
 * Read the header of @fd (borrowed; any file offset). Everything is bounded: a key, string,
 * array or tensor count that the file cannot hold is an error (EXIT_UNSUPPORTED), never a read
 * outside it. A dense model is no error: experts is 0 or unknown and moe_layers is 0.
 */
int gguf__read(struct gguf_model *out, int fd, const char *name, struct error *e);
/* The same on bytes in memory (fuzzing, tests). */
int gguf__parse(struct gguf_model *out, const void *bytes, uint64_t size, const char *name,
		struct error *e);

#endif
