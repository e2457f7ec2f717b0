/* SPDX-License-Identifier: BSD-2-Clause */
/* vLLM on a CPU: an API server, an engine core and workers. */
#ifndef MP_ENGINE_VLLM_H
#define MP_ENGINE_VLLM_H

#include "probe/engine/engine.h"

extern const struct engine_ops engine_vllm;

#endif
