/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Raw events as they came out of the ring, with what is needed to assemble them again without
 * the target: to debug and to fuzz assembly. Private to one build, which the header checks.
 *
 *   log = struct raw_log_header, mp_site[sites], saved[saved_bytes], entry*
 *   entry = u32 kind, u32 bytes, bytes
 */
#ifndef MP_COLLECTOR_RAW_LOG_H
#define MP_COLLECTOR_RAW_LOG_H

#include <stddef.h>
#include <stdint.h>

#include "probe/abi/site.h"

struct error;
struct raw_log_reader;
struct raw_log_writer;

#define RAW_LOG_MAGIC "mp-raw-1"
#define RAW_LOG_ENTRY_MAX (1u << 20)  /* bytes of an entry */
#define RAW_LOG_SAVED_MAX (16u << 20) /* bytes of what the engine saved */

enum raw_log_kind {
	RAW_LOG_EVENT = 1,    /* struct mp_event and payload */
	RAW_LOG_COUNTERS = 2, /* struct mp_counters[sites], as of then */
	RAW_LOG_TICK = 3,     /* u64 now_ns */
	RAW_LOG_STOP = 4,     /* u64 now_ns, u64 enum trace_stop: the last one */
};

/* Strings are NUL-terminated. */
struct raw_log_header {
	char magic[8];
	uint32_t header_bytes, event_bytes, site_bytes, counter_bytes; /* sizes of this build */
	char engine[32], version[64], command[64];
	uint8_t build_id[20];
	uint32_t sites;
	uint32_t saved_bytes;
	uint32_t pid, parent, threads;
	uint64_t start_ticks, pid_namespace_inode, attached_ns;
};

/* Begin a log on @fd (borrowed): magic and sizes of @h are filled in here. */
int raw_log__create(struct raw_log_writer **out, int fd, struct raw_log_header *h,
		    const struct mp_site *sites, const void *saved, struct error *e);
/* Append an entry (buffered). 0 or -errno. */
int raw_log__append(struct raw_log_writer *w, enum raw_log_kind kind, const void *bytes,
		    size_t size);
/* Flush and forget; -errno if anything was not written, named in @e. Accepts NULL. */
int raw_log__close(struct raw_log_writer *w, struct error *e);

/* Check @size bytes in memory (borrowed) and their header. Errors: not a log, or of another
 * build (EXIT_UNSUPPORTED), damaged. */
int raw_log__open(struct raw_log_reader **out, const void *bytes, size_t size, struct error *e);
const struct raw_log_header *raw_log__header(const struct raw_log_reader *r);
/* @sites of the header; borrowed, 8-byte aligned. */
const struct mp_site *raw_log__sites(const struct raw_log_reader *r);
const void *raw_log__saved(const struct raw_log_reader *r);
/* The next entry; its bytes are aligned to 8 and borrowed until the next call. 1; 0: the end;
 * -EBADMSG: it is cut off or impossible. */
int raw_log__next(struct raw_log_reader *r, uint32_t *kind, const void **bytes, size_t *size);
/* Accepts NULL. */
void raw_log__free(struct raw_log_reader *r);

#endif
