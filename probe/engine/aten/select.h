/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * torch.topk() redone on a CPU: which of n scores are the k largest, with torch's choice between
 * equal ones. torch (aten/src/ATen/native/TopKImpl.h, since 1.5) takes std::partial_sort where
 * k * 64 <= n and std::nth_element otherwise, over (score, index) pairs of which only the scores
 * are compared, NaN above all; so what is repeated here are these two algorithms of libstdc++
 * (bits/stl_algo.h and stl_heap.h, unchanged since GCC 4.7), comparison by comparison.
 */
#ifndef MP_ATEN_SELECT_H
#define MP_ATEN_SELECT_H

#include <stdbool.h>
#include <stdint.h>

struct scored {
	float score;
	uint32_t index;
};

/*
 * @queue[n] holds scores and their indices in order; afterwards its first @k entries are torch's
 * choice, in no certain order. 1 <= k <= n. True if the choice was one between equal scores: then
 * another library than libstdc++ may choose otherwise.
 */
bool select__top(struct scored *queue, uint32_t n, uint32_t k);

#endif
