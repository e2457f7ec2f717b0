/* SPDX-License-Identifier: BSD-2-Clause */
/* The engine that does nothing; see null.c. */
#ifndef MP_ENGINE_NULL_H
#define MP_ENGINE_NULL_H

#include "probe/engine/engine.h"

extern const struct engine_ops engine_null;

#endif
