/* SPDX-License-Identifier: BSD-2-Clause */
/* Sums of counters over the last stretch of stream time, in whole buckets. */
#ifndef MP_STATE_WINDOW_H
#define MP_STATE_WINDOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Covers the current, unfinished bucket and the buckets - 1 before it. Buckets begin at multiples
 * of bucket_ns of stream time, so that a replay shows at t what the live view showed at t.
 * Zero-initialise before use.
 */
struct window {
	uint64_t bucket_ns;
	uint32_t buckets;
	size_t cells;
	bool begun;
	uint64_t first_ns; /* time of the first advance */
	uint64_t head;     /* number of the current bucket: time / bucket_ns */
	uint32_t *count;   /* [buckets][cells] */
	uint64_t *sum;     /* [cells] */
};

/* 0 or -ENOMEM. */
int window__init(struct window *w, uint64_t bucket_ns, uint32_t buckets, size_t cells);
/* Stream time is @now_ns: forget what is too old. Time never goes back. */
void window__advance(struct window *w, uint64_t now_ns);
/* Add @n to @cell (< cells) in the current bucket. */
void window__add(struct window *w, size_t cell, uint32_t n);
uint64_t window__sum(const struct window *w, size_t cell);
/* Stream time that the sums cover at @now_ns: less than the whole window at its begin. */
uint64_t window__span_ns(const struct window *w, uint64_t now_ns);
/* Free and zero. */
void window__free(struct window *w);

#endif
