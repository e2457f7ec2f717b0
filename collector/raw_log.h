/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Raw events as they came out of the ring, with all else that assembly was given meanwhile, in that
 * order, and what is needed to assemble them again without the target: to debug and to fuzz
 * assembly. Private to one build, which the header checks.
 *
 *   log = struct raw_log_header, saved[saved_bytes], entry*
 *   entry = u32 kind, u32 bytes, bytes
 */
#ifndef MP_COLLECTOR_RAW_LOG_H
#define MP_COLLECTOR_RAW_LOG_H

#include <stddef.h>
#include <stdint.h>

#include "collector/stream.h"
#include "probe/abi/site.h"

struct error;
struct raw_log_reader;
struct raw_log_writer;

#define RAW_LOG_MAGIC "mp-raw-3"
#define RAW_LOG_ENTRY_MAX (1u << 20)  /* bytes of an entry */
#define RAW_LOG_SAVED_MAX (16u << 20) /* bytes of what the engine saved */

enum raw_log_kind {
	RAW_LOG_EVENT = 1,    /* struct mp_event and payload */
	RAW_LOG_COUNTERS = 2, /* struct mp_counters[], as of then: a whole number of rows */
	RAW_LOG_TICK = 3,     /* u64 now_ns */
	RAW_LOG_STOP = 4,     /* u64 now_ns, u64 enum trace_stop: the last one */
	RAW_LOG_JOIN = 5,     /* struct raw_log_member, mp_site[sites], what the engine saved */
	RAW_LOG_LEAVE = 6,    /* u64 now_ns, u64 pid */
	RAW_LOG_REPORT = 7,   /* u64 now_ns: losses so far were said */
	RAW_LOG_MISSED = 8,   /* u64 events that were delivered and never came */
};

/* A process takes part. */
struct raw_log_member {
	struct stream_process process;
	uint32_t first, sites; /* rows */
	uint32_t opened;       /* 1: the engine knows it by what the header's saved bytes say */
	uint32_t saved_bytes;
};

/* Strings are NUL-terminated. */
struct raw_log_header {
	char magic[8];
	uint32_t header_bytes, event_bytes, site_bytes, counter_bytes; /* sizes of this build */
	uint32_t member_bytes;
	uint32_t saved_bytes;
	char engine[32];
	uint64_t attached_ns;
	uint64_t begin_ns; /* of the stream */
};

/* Begin a log on @fd (borrowed): magic and sizes of @h are filled in here. */
int raw_log__create(struct raw_log_writer **out, int fd, struct raw_log_header *h,
		    const void *saved, struct error *e);
/* Append a JOIN; @rows and @saved as @m says. 0 or -errno. */
int raw_log__join(struct raw_log_writer *w, const struct raw_log_member *m,
		  const struct mp_site *rows, const void *saved);
/* Append an entry (buffered). 0 or -errno. */
int raw_log__append(struct raw_log_writer *w, enum raw_log_kind kind, const void *bytes,
		    size_t size);
/* Flush and forget; -errno if anything was not written, named in @e. Accepts NULL. */
int raw_log__close(struct raw_log_writer *w, struct error *e);

/* Check @size bytes in memory (borrowed) and their header. Errors: not a log, or of another
 * build (EXIT_UNSUPPORTED), damaged. */
int raw_log__open(struct raw_log_reader **out, const void *bytes, size_t size, struct error *e);
const struct raw_log_header *raw_log__header(const struct raw_log_reader *r);
const void *raw_log__saved(const struct raw_log_reader *r);
/* The parts of a JOIN entry of @size bytes at @bytes, borrowed from there; -EBADMSG. */
int raw_log__parse_join(const void *bytes, size_t size, const struct raw_log_member **m,
			const struct mp_site **rows, const void **saved);
/* The next entry; its bytes are aligned to 8 and borrowed until the next call. 1; 0: the end;
 * -EBADMSG: it is cut off or impossible. */
int raw_log__next(struct raw_log_reader *r, uint32_t *kind, const void **bytes, size_t *size);
/* Likewise, if the next entry is of @kind; 0 also if it is of another one, or cut off. The bytes
 * that raw_log__next() gave stay valid, those that this gave only until it is called again. */
int raw_log__next_if(struct raw_log_reader *r, enum raw_log_kind kind, const void **bytes,
		     size_t *size);
/* Accepts NULL. */
void raw_log__free(struct raw_log_reader *r);

#endif
