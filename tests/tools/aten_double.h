/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The stand-in for a process with libtorch: what its tensors, buffers and pieces hold is a function
 * of their number, so that a test knows every byte that it must find.
 */
#ifndef TESTS_TOOLS_ATEN_DOUBLE_H
#define TESTS_TOOLS_ATEN_DOUBLE_H

#include <stddef.h>
#include <stdint.h>

#include "tests/tools/ggml_double.h"

/* As libtorch has it (c10/core/TensorImpl.h, StorageImpl.h); HEAD is one of two. */
#define DOUBLE_STORAGE 16
#define DOUBLE_DATA 16
#define DOUBLE_DATA_BYTES 48 /* in the storage: how large it is */
#define DOUBLE_HEAD 56
#define DOUBLE_HEAD_OLD 64
#define DOUBLE_IMPL_BYTES 208
#define DOUBLE_OBJECTS 24 /* of each kind */

/* Byte @at of the storage of tensor, or of buffer, @number. */
static inline uint8_t double_byte(uint32_t number, size_t at)
{
	return (uint8_t)(double_value(number, (uint32_t)(at / 4), 0) >> (8 * (at % 4)));
}

/* Bytes of an element of c10::ScalarType @dtype. */
static inline size_t double_element_bytes(unsigned dtype)
{
	static const uint8_t bytes[] = { 1, 1, 2, 4, 8, 2, 4, 8, 4, 8, 16, 1, 1, 1, 4, 2 };

	return dtype < sizeof(bytes) ? bytes[dtype] : 1;
}

#endif
