/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Captures put together from the chunks that the kernel cut them into. A thread makes one capture
 * after the other, so its chunks arrive in order and never interleave with those of its next
 * one. Where the rest of one does not come, the kernel gave it up (ring full, memory not readable)
 * and counted it: it is dropped without a word. What we drop ourselves is counted here, once.
 */
#ifndef MP_ENGINE_CAPTURE_H
#define MP_ENGINE_CAPTURE_H

#include <stddef.h>
#include <stdint.h>

#include "probe/abi/event.h"

struct captures;

/* A complete capture: its chunks in order, each a whole event. Borrowed until the next call. */
struct capture {
	size_t chunks;
	const struct mp_event *const *chunk;
};

/* 0 or -ENOMEM. The caller frees. */
int captures__new(struct captures **out);
/* Accepts NULL. */
void captures__free(struct captures *c);

/*
 * Take one event whose @ev->size bytes are readable and include the head. 1: *@out is complete
 * with it. 0: more chunks are to come, or it belongs to a capture that was dropped. -EINVAL:
 * its numbers contradict each other (dropped and not counted: it is no loss). -ENOMEM.
 */
int captures__add(struct captures *c, const struct mp_event *ev, struct capture *out);

/* Drop what has waited since before @before_ns (UINT64_MAX: all). It is counted only if more of it
 * comes all the same. */
void captures__expire(struct captures *c, uint64_t before_ns);

/* Captures that we dropped since the last call; in *@rows the rows of the router results among
 * them. */
uint64_t captures__take_dropped(struct captures *c, uint64_t *rows);

#endif
