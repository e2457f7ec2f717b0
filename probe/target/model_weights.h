/* SPDX-License-Identifier: BSD-2-Clause */
/* The safetensors files of a model folder: which they are, and what their headers say. */
#ifndef MP_TARGET_MODEL_WEIGHTS_H
#define MP_TARGET_MODEL_WEIGHTS_H

#include <stdbool.h>
#include <stdint.h>

#include "probe/target/safetensors.h"

struct sha256_ctx;
struct target;

#define MODEL_SHARDS_MAX 1024

/* A folder as process @target sees it; both borrowed. */
struct model_place {
	const struct target *target;
	const char *path;
};

/* A descriptor for reading its file @name, or -errno. */
int model_place__open(const struct model_place *p, const char *name);

struct model_weights {
	struct safetensors headers;
	uint32_t files; /* whose headers were read */
	bool complete;  /* all of the model's were */
};

/*
 * Read the headers of the files that the folder's index names; if it has none, of
 * model.safetensors; if there is none, of those that the process has mapped from there. In the
 * order of their names, which is the order in which @digest takes them. 0 (also if there is no
 * file), or -ENOMEM.
 */
int model_weights__read(struct model_weights *out, const struct model_place *p,
			struct sha256_ctx *digest);

/* True if the file that @fd is open on is one of them, whatever it is named: a link leads to it. */
bool model_weights__has(const struct model_place *p, int fd);

/* Length of the folder in @path if it is a safetensors file in one ("" for "/x"); else -1. */
int model_weights__folder_length(const char *path);

#endif
