/* SPDX-License-Identifier: BSD-2-Clause */
/* At which of a vLLM's processes a capture may begin: names, lengths and ends of requests are told
 * to the API server only, and its engine core computes nothing itself. */
#ifndef MP_VLLM_ENTRANCE_H
#define MP_VLLM_ENTRANCE_H

#include <stdbool.h>

struct error;
struct target;

/* See engine_ops.match and .entrance. */
int vllm_match(struct target *t, struct error *e);
int vllm_entrance(struct target *t, bool found, struct error *e);

#endif
