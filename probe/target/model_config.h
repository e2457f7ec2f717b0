/* SPDX-License-Identifier: BSD-2-Clause */
/* Geometry and router of a mixture-of-experts model, out of a model folder's config.json. */
#ifndef MP_TARGET_MODEL_CONFIG_H
#define MP_TARGET_MODEL_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct error;

#define MODEL_UNKNOWN UINT32_MAX
#define MODEL_LAYERS_MAX 1024
#define MODEL_EXPERTS_MAX 65535 /* ids are 16 bits wide */
#define MODEL_EOS_MAX 8
#define MODEL_CONFIG_BYTES_MAX (4u << 20)

/* Plain data. What the files do not say, or say absurdly, is MODEL_UNKNOWN, NAN or "": what a
 * family of models does then is for who knows the family. Of a model that also sees or hears, this
 * is the part that writes (text_config). */
struct model_config {
	char model_type[64];   /* "qwen3_moe": the family */
	char architecture[64]; /* "Qwen3MoeForCausalLM": the class that runs it */
	char dtype[32];        /* of computation: "bfloat16" */
	char quantisation[32]; /* method: "fp8", "gptq"; "" is none */
	char scoring[32];      /* router's function of its logits: "softmax", "sigmoid" */
	char topk_method[32];  /* "greedy", "group_limited_greedy", "noaux_tc" */
	char rope_type[32];    /* "default", "yarn", "linear", ... */
	double rope_factor;    /* by which positions are stretched */
	double routed_scaling; /* what gate weights are multiplied with in the end */
	uint32_t blocks;       /* hidden layers */
	uint32_t experts, k;
	uint32_t shared_experts;
	uint32_t groups, groups_used; /* of experts, in one token's choice */
	uint32_t weights_normalised;  /* 0 or 1: chosen gates are divided by their sum */
	uint32_t vocabulary;          /* rows of the embedding; tokenizers may know fewer */
	uint32_t bos, pad;            /* token ids */
	uint32_t eos_count;           /* 0: not known */
	uint32_t eos[MODEL_EOS_MAX];  /* token ids that may end a text, of both files */
	uint32_t moe_layers;          /* layers with a router; 0 where @blocks is not known */
	uint16_t layer_ids[MODEL_LAYERS_MAX]; /* which, ascending */
};

/*
 * Read config.json's @size bytes, and generation_config.json's (NULL, 0: there is none; one that
 * cannot be read is passed over). @name names the file in errors. A dense model is no error.
 * Errors: -ENODATA: JSON, but not of a model; -EINVAL: broken, or numbers that cannot be
 * (EXIT_UNSUPPORTED both); -ENOMEM.
 */
int model_config__parse(struct model_config *out, const char *name, const void *bytes, size_t size,
			const void *generation, size_t generation_size, struct error *e);

/* True if there is something to choose: two experts or more. */
bool model_config__is_moe(const struct model_config *c);

/* False if @c, from untrusted bytes, breaks what is said above. */
bool model_config__is_sane(const struct model_config *c);

#endif
