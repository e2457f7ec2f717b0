/* SPDX-License-Identifier: BSD-2-Clause */
/* llama.cpp's server: from mapped libraries to requests, steps and routes. See llama.c. */
#ifndef MP_ENGINE_LLAMA_H
#define MP_ENGINE_LLAMA_H

#include "probe/engine/engine.h"

extern const struct engine_ops engine_llama;

#endif
