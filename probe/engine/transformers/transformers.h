/* SPDX-License-Identifier: BSD-2-Clause */
/* transformers (and any program that computes with libtorch on a CPU): see transformers.c. */
#ifndef MP_ENGINE_TRANSFORMERS_H
#define MP_ENGINE_TRANSFORMERS_H

#include "probe/engine/engine.h"

extern const struct engine_ops engine_transformers;

#endif
