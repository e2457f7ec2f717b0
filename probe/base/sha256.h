/* SPDX-License-Identifier: BSD-2-Clause */
/* SHA-256 (FIPS 180-4), for identity. */
#ifndef MP_BASE_SHA256_H
#define MP_BASE_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define SHA256_BYTES 32

struct sha256 {
	uint32_t state[8];
	uint64_t size;
	uint8_t block[64];
};

void sha256__begin(struct sha256 *h);
void sha256__add(struct sha256 *h, const void *bytes, size_t size);
void sha256__end(struct sha256 *h, uint8_t digest[SHA256_BYTES]);

#endif
