/* SPDX-License-Identifier: BSD-2-Clause */
/* The model folders of a process (config.json, safetensors, tokenizer.json): what they say, and
 * which model it is. */
#ifndef MP_TARGET_MODEL_FOLDER_H
#define MP_TARGET_MODEL_FOLDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "probe/target/model_config.h"

struct buffer;
struct cursor;
struct error;
struct target;

#define MODEL_FOLDERS_MAX 8
#define MODEL_PATH_MAX 512
#define MODEL_DIGEST_SIZE 32 /* SHA-256 */

/* One mixture-of-experts model. Plain data. */
struct model_folder {
	struct model_config config;
	char name[128];               /* the folder's own; "org/name" in a hub's cache */
	char path[MODEL_PATH_MAX];    /* as the process names it, cut from the left */
	char expert_type[16];         /* of most bytes of expert tensors: "BF16"; "" not known */
	uint32_t tensor_experts;      /* how many the tensors show; MODEL_UNKNOWN: they do not */
	uint32_t layers_from_tensors; /* 1: config.layer_ids are what the tensors show, not what
				       * config.json says */
	uint32_t has_digest, has_tokenizer_digest; /* 0 or 1 */
	/* Over config.json's bytes, then of each safetensors file in the order of their names the
	 * header with its length before it. */
	uint8_t digest[MODEL_DIGEST_SIZE];
	uint8_t tokenizer_digest[MODEL_DIGEST_SIZE]; /* over tokenizer.json's bytes */
};

struct model_folders {
	size_t count;
	struct model_folder item[MODEL_FOLDERS_MAX];
};

/*
 * Read the folders of the safetensors files that @t has mapped or open; if no such model has
 * experts, those that its command line names, then the models of a hub's cache that it names. 0
 * also when there is no folder at all (count 0). Errors, if no model with experts was found: all
 * found are dense, or none can be read (EXIT_UNSUPPORTED, naming one).
 */
int model_folders__read(struct model_folders *out, struct target *t, struct error *e);

/* Append @m to @out, and read it back from untrusted bytes at @at. 0, -ENOMEM; -EBADMSG. */
int model_folders__save(const struct model_folders *m, struct buffer *out);
int model_folders__load(struct model_folders *m, struct cursor *at);

/* The model with this router, @layer among its layers; NULL if none or if it is not the only one.
 * What a model does not say fits. */
const struct model_folder *model_folders__find(const struct model_folders *m, uint32_t experts,
					       uint32_t k, uint32_t layer);

#endif
