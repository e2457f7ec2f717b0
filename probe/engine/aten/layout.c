/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/engine/aten/layout.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "probe/abi/event.h"

#define FIRST_OFFSET 40 /* behind the pointers that TensorImpl begins with */
#define LAST_OFFSET 80
#define ENOUGH 3     /* tensors that agree */
#define TOO_MANY 256 /* tensors that leave it open */
#define DIMS_MAX 5   /* that lie in TensorImpl itself */
#define SIZE_MAX_PLAUSIBLE (1ll << 40)
#define DTYPES 48 /* of c10::ScalarType there are fewer */

/* As in the kernel's program: what TensorImpl holds in a row. */
struct head {
	uint64_t dims;
	int64_t size[DIMS_MAX], stride[DIMS_MAX];
	int64_t storage_offset, numel;
	uint16_t dtype;
	int8_t device, device_index;
};

static bool reads_as_tensor(const uint8_t *at)
{
	struct head h;
	int64_t numel = 1;

	memcpy(&h, at, sizeof(h));
	if (h.dims < 1 || h.dims > DIMS_MAX || h.dtype >= DTYPES || h.device < 0 || h.device > 32 ||
	    h.device_index < -1 || h.storage_offset < 0)
		return false;
	for (uint64_t i = 0; i < h.dims; i++) {
		if (h.size[i] < 0 || h.size[i] > SIZE_MAX_PLAUSIBLE || h.stride[i] < 0 ||
		    h.stride[i] > SIZE_MAX_PLAUSIBLE)
			return false;
		if (__builtin_mul_overflow(numel, h.size[i], &numel))
			return false;
	}
	return numel == h.numel;
}

int aten_layout__see(struct aten_layout *l, const uint8_t *impl)
{
	uint32_t fit = 0;

	_Static_assert(LAST_OFFSET + sizeof(struct head) <= MP_TENSOR_RAW_BYTES, "within");
	if (l->head)
		return 1;
	for (unsigned at = FIRST_OFFSET; at <= LAST_OFFSET; at += 8)
		if (reads_as_tensor(impl + at))
			fit |= 1u << at / 8;
	if (++l->seen > TOO_MANY)
		return -EPROTO;
	if (!fit)
		return 0;
	l->candidates = l->fitted++ ? l->candidates & fit : fit;
	if (!l->candidates)
		return -EPROTO;
	if (l->fitted < ENOUGH || l->candidates & (l->candidates - 1))
		return 0;
	l->head = (uint16_t)(8 * __builtin_ctz(l->candidates));
	return 1;
}
