/* SPDX-License-Identifier: BSD-2-Clause */
/* What the headers of safetensors files say of a model's experts. The weights are never read. */
#ifndef MP_TARGET_SAFETENSORS_H
#define MP_TARGET_SAFETENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "probe/target/model_config.h"

struct sha256_ctx;

#define SAFETENSORS_HEADER_MAX 100000000u    /* of one file, by the format */
#define SAFETENSORS_HEADERS_MAX (128u << 20) /* of all files of a model; the largest have 30 MB */

/* X(NAME): types of tensors, as headers write them. */
#define SAFETENSORS_TYPES(X) \
	X(F64) \
	X(F32) \
	X(F16) \
	X(BF16) \
	X(F8_E4M3) \
	X(F8_E5M2) \
	X(F8_E8M0) \
	X(F4) \
	X(I64) \
	X(I32) \
	X(I16) \
	X(I8) \
	X(U64) \
	X(U32) \
	X(U16) \
	X(U8) \
	X(BOOL)

enum safetensors_type {
#define X(name) SAFETENSORS_##name,
	SAFETENSORS_TYPES(X)
#undef X
		SAFETENSORS_TYPE_COUNT
};

/* All files of one model. Zero-initialise. */
struct safetensors {
	uint64_t header_bytes;
	uint32_t experts;                   /* 0: no expert tensor says how many there are */
	bool has_experts[MODEL_LAYERS_MAX]; /* layers with expert tensors */
	uint64_t type_bytes[SAFETENSORS_TYPE_COUNT]; /* that expert tensors take */
};

/*
 * Add what the header of @fd (borrowed) says to @s, and its bytes, length included, to @digest
 * (may be NULL). 0; -EINVAL: no safetensors file; -EFBIG: the headers are longer than what is
 * read; another -errno. After an error @s and @digest hold a part.
 */
int safetensors__add(struct safetensors *s, int fd, struct sha256_ctx *digest);

/* The type that most bytes of experts have ("BF16"), or "". */
const char *safetensors__expert_type(const struct safetensors *s);

#endif
