/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The stage for the tests of the kernel programs: they are loaded and linked to a process whose
 * every byte is known (tests/tools/ggml_double.c or aten_double.c), so that what arrives can be
 * compared byte by byte and every counter is an exact number.
 */
#ifndef TESTS_UNIT_BPF_PLAY_H
#define TESTS_UNIT_BPF_PLAY_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include <cmocka.h>

#include "probe/abi/event.h"
#include "probe/abi/site.h"
#include "tests/tools/ggml_double.h"

/* Rows of the table in the tests with ggml_double; MUL_BEHIND is disabled at first. */
enum { MUL, MUL_BEHIND, SET_INPUTS, LOG, POST, NOTHING, PLACES };

/* What is played: the program that is looked at, and which of its functions row i is linked to. */
#define STAGE_PLACES_MAX 12
struct stage {
	const char *name; /* of the program, in tests/tools */
	uint32_t ring_bytes;
	bool by_namespace;                   /* process ids are asked for by namespace */
	void (*fill)(struct mp_site *table); /* once `play` runs, before it is linked */
	size_t places;
	struct {
		const char *program, *function;
	} place[STAGE_PLACES_MAX];
};

/* The double, running. */
struct play {
	pid_t pid;
	FILE *to, *from;
};

/* Copies of what the ring delivered, in order. */
struct heard {
	struct mp_event **event;
	size_t count;
};

extern struct play play;      /* the one that the table names */
extern struct mp_site *table; /* the live table of sites */

void play__start(struct play *p);
void play__stop(struct play *p);
/* Give a command and wait until it is done; play__begin() does not wait. */
void play__do(struct play *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
void play__begin(struct play *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* True once the command of play__begin() is done; waits @ms for it. */
bool play__done(struct play *p, int ms);

/* The double's tensors have two layouts: one of their own (at first), one in ggml's order. */
struct mp_tensor_layout play__layout(bool like_ggml);

/* Load the programs, start `play`, link every row. 0, also where nothing can be tested. */
int play__raise(const struct stage *stage);
/* Group fixtures with ggml_double: a ring of 16 MiB or 64 KiB. */
int play__start_large(void **state);
int play__start_tiny(void **state);
int play__stop_all(void **state);
/* Why nothing can be tested here, or NULL. */
const char *play__skip_reason(void);

#define SKIP_IF_UNABLE() \
	do { \
		if (play__skip_reason()) { \
			print_message("skipped: %s\n", play__skip_reason()); \
			skip(); \
		} \
	} while (0)

/* All that is in the ring now, or appended to what was heard before. Free with heard__free(). */
struct heard play__listen(void);
void play__listen_more(struct heard *h);
void heard__free(struct heard *h);
uint64_t bytes_heard(const struct heard *h);

/* What row @row counted since the last call for it. */
struct mp_counters counted(uint32_t row);
void assert_counters_equal(const struct mp_counters *is, const struct mp_counters *wanted);
/* Compare all counters of @row since last time with those named; the rest must be 0. */
#define assert_counted(row, ...) \
	do { \
		struct mp_counters is_ = counted(row), wanted_ = { __VA_ARGS__ }; \
		assert_counters_equal(&is_, &wanted_); \
	} while (0)

/* Head of chunk @i of a capture whose first event is @first. */
void assert_chunk(const struct mp_event *e, const struct mp_event *first, uint16_t i);
/* One ROUTE chunk, and a whole capture from event @at on, are those of @seed. */
void assert_route_contents(const struct mp_event *e, uint32_t seed, uint32_t k, uint32_t experts);
void assert_route(const struct heard *h, size_t at, uint32_t seed, uint32_t k, uint32_t rows,
		  uint32_t experts);

#endif
