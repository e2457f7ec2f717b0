/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Forward passes that several processes show, each with its layers: the stages of a pipeline. All
 * of them see the same rows (positions, cache slots, token ids), each request's in one run, but the
 * runs maybe in an order of its own. Which step of one is which of another follows from what
 * is in it; what one may lose shifts nothing. The first that shows a pass says whose its rows are.
 */
#ifndef MP_VLLM_PASSES_H
#define MP_VLLM_PASSES_H

#include <stdint.h>

struct run;
struct vllm_passes;

/* 0 or -ENOMEM. */
int vllm_passes__new(struct vllm_passes **out);
/* Accepts NULL. */
void vllm_passes__free(struct vllm_passes *p);

/* The number of the pass, of the pipeline @home, that the @runs of a step of @context are; its
 * runs' owners in @run. 0: no other stage has shown it (yet). */
uint64_t vllm_passes__join(struct vllm_passes *p, uint32_t home, uint32_t context, struct run *run,
			   uint32_t runs);
/* A pass that @context shows first; in *@number its number. The oldest makes room. 0, -ENOMEM. */
int vllm_passes__add(struct vllm_passes *p, uint32_t home, uint32_t context, const struct run *run,
		     uint32_t runs, uint64_t *number);
#endif
