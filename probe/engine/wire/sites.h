/* SPDX-License-Identifier: BSD-2-Clause */
/* Where what a process sends is seen whole: at the entry of the C library's and the TLS library's
 * sending functions. */
#ifndef MP_ENGINE_WIRE_SITES_H
#define MP_ENGINE_WIRE_SITES_H

#include "probe/engine/engine.h"

struct target;

/* Bytes of a piece that are delivered whole; of a longer one head and tail. */
#define WIRE_WHOLE_BYTES 16000

/* Append the places of @t where it sends to @plan: those of the C library that servers send
 * responses by, and of a TLS library what is sent before it is encrypted. None is required. */
void wire_sites__plan(struct engine_plan *plan, struct target *t);
/* Only the TLS library's. */
void wire_sites__plan_tls(struct engine_plan *plan, struct target *t);

#endif
