/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/engine/aten/select.h"

#include <math.h>

#define SMALL 3         /* up to so many are sorted by insertion */
#define PARTIAL_SORT 64 /* k times this at most n: torch sorts partially */

/* torch's order: larger first, NaN before all. */
static bool before(struct scored a, struct scored b)
{
	return (isnan(a.score) && !isnan(b.score)) || a.score > b.score;
}

static void swap(struct scored *a, struct scored *b)
{
	struct scored t = *a;

	*a = *b;
	*b = t;
}

/* --- heaps (stl_heap.h) ----------------------------------------------------------------------- */

static void heap__push(struct scored *first, int64_t hole, int64_t top, struct scored value)
{
	int64_t parent = (hole - 1) / 2;

	while (hole > top && before(first[parent], value)) {
		first[hole] = first[parent];
		hole = parent;
		parent = (hole - 1) / 2;
	}
	first[hole] = value;
}

static void heap__adjust(struct scored *first, int64_t hole, int64_t length, struct scored value)
{
	const int64_t top = hole;
	int64_t child = hole;

	while (child < (length - 1) / 2) {
		child = 2 * (child + 1);
		if (before(first[child], first[child - 1]))
			child--;
		first[hole] = first[child];
		hole = child;
	}
	if (!(length & 1) && child == (length - 2) / 2) {
		child = 2 * (child + 1);
		first[hole] = first[child - 1];
		hole = child - 1;
	}
	heap__push(first, hole, top, value);
}

/* The first @k of @n become a heap, and then the @k first by order. */
static void heap__select(struct scored *first, int64_t k, int64_t n)
{
	for (int64_t parent = (k - 2) / 2; k >= 2 && parent >= 0; parent--)
		heap__adjust(first, parent, k, first[parent]);
	for (int64_t i = k; i < n; i++) {
		struct scored value = first[i];

		if (!before(value, first[0]))
			continue;
		first[i] = first[0];
		heap__adjust(first, 0, k, value);
	}
}

/* --- introselect (stl_algo.h) ------------------------------------------------------------------
 */

static void median_to_first(struct scored *result, struct scored *a, struct scored *b,
			    struct scored *c)
{
	if (before(*a, *b)) {
		if (before(*b, *c))
			swap(result, b);
		else if (before(*a, *c))
			swap(result, c);
		else
			swap(result, a);
	} else if (before(*a, *c)) {
		swap(result, a);
	} else if (before(*b, *c)) {
		swap(result, c);
	} else {
		swap(result, b);
	}
}

/* Around the pivot at @first; it bounds both scans, since it is the median of three of them. */
static struct scored *partition(struct scored *first, struct scored *last)
{
	const struct scored *pivot = first;
	struct scored *low = first + 1, *high = last;

	median_to_first(first, first + 1, first + (last - first) / 2, last - 1);
	for (;;) {
		while (before(*low, *pivot))
			low++;
		high--;
		while (before(*pivot, *high))
			high--;
		if (!(low < high))
			return low;
		swap(low, high);
		low++;
	}
}

static void insertion_sort(struct scored *first, struct scored *last)
{
	for (struct scored *i = first + 1; i < last; i++) {
		struct scored value = *i, *to = i;

		for (; to > first && before(value, to[-1]); to--)
			*to = to[-1];
		*to = value;
	}
}

static void nth_element(struct scored *first, struct scored *nth, struct scored *last)
{
	unsigned depth = 0;

	for (int64_t n = last - first; n > 1; n >>= 1)
		depth += 2;
	while (last - first > SMALL) {
		struct scored *cut;

		if (!depth--) {
			heap__select(first, nth + 1 - first, last - first);
			swap(first, nth);
			return;
		}
		cut = partition(first, last);
		if (cut <= nth)
			first = cut;
		else
			last = cut;
	}
	insertion_sort(first, last);
}

/* The least of the chosen is as good as one that was not. */
static bool is_tied(const struct scored *queue, uint32_t n, uint32_t k)
{
	struct scored least = queue[0];

	for (uint32_t i = 1; i < k; i++)
		if (before(least, queue[i]))
			least = queue[i];
	for (uint32_t i = k; i < n; i++)
		if (!before(least, queue[i]))
			return true;
	return false;
}

bool select__top(struct scored *queue, uint32_t n, uint32_t k)
{
	if ((uint64_t)k * PARTIAL_SORT <= n)
		heap__select(queue, k, n);
	else
		nth_element(queue, queue + k - 1, queue + n);
	return is_tied(queue, n, k);
}
