/* SPDX-License-Identifier: BSD-2-Clause */
#include "analyzer/state/window.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int window__init(struct window *w, uint64_t bucket_ns, uint32_t buckets, size_t cells)
{
	memset(w, 0, sizeof(*w));
	w->count = calloc(cells ? cells : 1, buckets * sizeof(*w->count));
	w->sum = calloc(cells ? cells : 1, sizeof(*w->sum));
	if (!w->count || !w->sum) {
		window__free(w);
		return -ENOMEM;
	}
	w->bucket_ns = bucket_ns;
	w->buckets = buckets;
	w->cells = cells;
	return 0;
}

static void forget_bucket(struct window *w, uint64_t number)
{
	uint32_t *count = w->count + (size_t)(number % w->buckets) * w->cells;

	for (size_t i = 0; i < w->cells; i++)
		w->sum[i] -= count[i];
	memset(count, 0, w->cells * sizeof(*count));
}

void window__advance(struct window *w, uint64_t now_ns)
{
	uint64_t number;

	if (!w->buckets)
		return;
	number = now_ns / w->bucket_ns;
	if (!w->begun) {
		w->begun = true;
		w->first_ns = now_ns;
		w->head = number;
		return;
	}
	if (number <= w->head)
		return;
	if (number - w->head >= w->buckets) {
		memset(w->count, 0, w->cells * w->buckets * sizeof(*w->count));
		memset(w->sum, 0, w->cells * sizeof(*w->sum));
		w->head = number;
		return;
	}
	while (w->head < number)
		forget_bucket(w, ++w->head);
}

void window__add(struct window *w, size_t cell, uint32_t n)
{
	uint32_t *count;

	if (cell >= w->cells || !w->buckets)
		return;
	count = w->count + (size_t)(w->head % w->buckets) * w->cells + cell;
	if (n > UINT32_MAX - *count)
		n = UINT32_MAX - *count;
	*count += n;
	w->sum[cell] += n;
}

uint64_t window__sum(const struct window *w, size_t cell)
{
	return cell < w->cells ? w->sum[cell] : 0;
}

uint64_t window__span_ns(const struct window *w, uint64_t now_ns)
{
	uint64_t oldest_ns;

	if (!w->begun)
		return 0;
	oldest_ns = w->head < w->buckets ? 0 : (w->head - w->buckets + 1) * w->bucket_ns;
	if (oldest_ns < w->first_ns)
		oldest_ns = w->first_ns;
	return now_ns > oldest_ns ? now_ns - oldest_ns : 0;
}

void window__free(struct window *w)
{
	free(w->count);
	free(w->sum);
	memset(w, 0, sizeof(*w));
}
