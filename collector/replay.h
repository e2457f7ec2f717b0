/* SPDX-License-Identifier: BSD-2-Clause */
/* A raw log assembled again: no target, no rights, the same code path as a live capture. */
#ifndef MP_COLLECTOR_REPLAY_H
#define MP_COLLECTOR_REPLAY_H

#include <stddef.h>

struct error;

/* Turn the raw log in @bytes (untrusted) into a stream on @out. */
int replay__run(const void *bytes, size_t size, int out, struct error *e);
/* The same for a file. */
int replay__run_file(int in, int out, struct error *e);

#endif
