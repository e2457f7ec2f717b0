/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where a TensorImpl keeps its sizes: the one offset that differs between releases of libtorch (64
 * until 2.12, 56 from 2.13 on), found out from tensors as they are. What is at an offset must read
 * as a tensor that makes sense, in every tensor that was seen, and at no other offset. One that
 * reads so at none (without dimensions, or with more than are kept there) says nothing.
 */
#ifndef MP_ATEN_LAYOUT_H
#define MP_ATEN_LAYOUT_H

#include <stdint.h>

/* Offsets that never moved since 1.13: of the storage in TensorImpl, of the data in StorageImpl. */
#define ATEN_STORAGE_OFFSET 16
#define ATEN_DATA_OFFSET 16

/* Where sizes are, by release. What is presumed is confirmed, or not, by aten_layout__see(). */
#define ATEN_HEAD_OLD 64
#define ATEN_HEAD_NEW 56

/* Zero-initialise before use. */
struct aten_layout {
	uint32_t candidates; /* bit i: offset 8 * i still fits; all are tried with the first tensor
			      */
	uint32_t seen;       /* tensors looked at */
	uint32_t fitted;     /* of them, those that say something */
	uint16_t head;       /* the offset, 0 while it is not certain */
};

/* Look at the first MP_TENSOR_RAW_BYTES of a TensorImpl. 1: the offset is certain (now or before);
 * 0: not yet; -EPROTO: no offset fits all that was seen, or several still do after many. */
int aten_layout__see(struct aten_layout *l, const uint8_t *impl);

#endif
