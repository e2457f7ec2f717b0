/* SPDX-License-Identifier: BSD-2-Clause */
/* The model files of a process: geometry that captured tensors are held against. */
#ifndef MP_LLAMA_MODEL_H
#define MP_LLAMA_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "probe/target/gguf.h"

struct buffer;
struct cursor;
struct error;
struct target;

#define LLAMA_MODELS_MAX 8
#define LLAMA_PATH_MAX 512

/* One mixture-of-experts model; the files of a split model are one. */
struct llama_model {
	struct gguf_model gguf;
	char path[LLAMA_PATH_MAX]; /* of its (first) file, cut from the left */
	char kv_type[32];          /* by the command line; "": it does not say */
};

struct llama_models {
	size_t count;
	struct llama_model item[LLAMA_MODELS_MAX];
};

/*
 * Read the GGUF files that @t has mapped; if there is none, those that its command line names.
 * 0 also when there is no file at all (count 0: geometry is learnt from the tensors). Errors: all
 * models found are dense (EXIT_UNSUPPORTED, naming one).
 */
int llama_models__read(struct llama_models *out, struct target *t, struct error *e);

/* Append @m to @out, and read it back from untrusted bytes at @at. 0, -ENOMEM; -EBADMSG. */
int llama_models__save(const struct llama_models *m, struct buffer *out);
int llama_models__load(struct llama_models *m, struct cursor *at);

/* The model with this router, @layer among its layers; NULL if none or if it is not the only one.
 * @experts may be a row stride equal to @k: then it does not count. */
const struct llama_model *llama_models__find(const struct llama_models *m, uint32_t experts,
					     uint32_t k, uint32_t layer);

/* True if @layer has a router in @m. */
bool llama_model__has_layer(const struct llama_model *m, uint32_t layer);

#endif
