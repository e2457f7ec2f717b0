/* SPDX-License-Identifier: BSD-2-Clause */
/* The raw log of a capture under way: what assembly is given goes there first. Without one (a NULL
 * log) nothing happens; what cannot be written is an error by name. */
#ifndef MP_COLLECTOR_SESSION_LOG_H
#define MP_COLLECTOR_SESSION_LOG_H

#include <stddef.h>
#include <stdint.h>

#include "collector/raw_log.h"

struct error;
struct member;
struct service;

/* Begin the log on @fd (borrowed; < 0: there is to be none), once the engine is open; the stream
 * begins at @begin_ns. raw_log__close() ends it. */
int session_log__open(struct raw_log_writer **out, int fd, const struct service *v,
		      uint64_t begin_ns, struct error *e);
/* Append @size bytes. */
int session_log__append(struct raw_log_writer *w, enum raw_log_kind kind, const void *bytes,
			size_t size, struct error *e);
/* @m takes part, as @p, with @rows. */
int session_log__joined(struct raw_log_writer *w, const struct service *v, const struct member *m,
			const struct stream_process *p, const struct mp_site *rows,
			struct error *e);

#endif
