/* SPDX-License-Identifier: BSD-2-Clause */
/* The last binding of each sequence: whose rows it has from a position on. */
#ifndef MP_ANALYZER_BINDINGS_H
#define MP_ANALYZER_BINDINGS_H

#include <stdint.h>

/* A table; NULL: empty. */
struct binding;

#define BINDINGS_MAX 8192 /* the oldest is forgotten first */

/* From @position on, @sequence belongs to @request (TRACE_UNKNOWN: to none). 0, -ENOMEM. */
int bindings__set(struct binding **all, uint32_t sequence, uint32_t request, uint32_t position);
/* The request of a row that names none; TRACE_UNKNOWN: none. */
uint32_t bindings__owner(struct binding *all, uint32_t sequence, uint32_t position);
void bindings__free(struct binding **all);

#endif
