/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The process that a calibration probes: a fork that does nothing but call small functions and
 * time each call. Between two calls it walks through memory, as a server does that reads its
 * weights: a hit on code and data that fell out of the near caches costs twice a warm one. What a
 * trap drives out of the caller's nearest cache is part of the time.
 */
#ifndef MP_ATTACH_CALIBRATE_CHILD_H
#define MP_ATTACH_CALIBRATE_CHILD_H

#include <stdint.h>
#include <sys/types.h>

#include "probe/abi/site.h"

/* X(NAME, what is called) */
#define CALIBRATE_CALLS(X) \
	X(EMULATED, "a function that begins with an instruction that the kernel emulates") \
	X(STEPPED, "a function that begins with one that it must single-step") \
	X(EMULATED_TWIN, "the code of EMULATED, at a place that has no probe") \
	X(STEPPED_TWIN, "the code of STEPPED, at a place that has no probe") \
	X(ROUTER, "a function that uses or makes a router's result of one row") \
	X(ROUTER_ROWS, "the same function, with a result of CALIBRATE_ROWS rows") \
	X(ROUTER_AWAY, "the same function, with arguments that say that it is none")

enum calibrate_call {
#define X(name, text) CALIBRATE_##name,
	CALIBRATE_CALLS(X)
#undef X
		CALIBRATE_CALL_COUNT
};

#define CALIBRATE_ROWS 32u
#define CALIBRATE_EXPERTS \
	64u /* ggml's ids lie as far apart as that: no two rows are read at once */
#define CALIBRATE_K 8u
#define CALIBRATE_THREADS_MAX 4  /* more do not cost more, and take more from the target */
#define CALIBRATE_ROUND_PAIRS 40 /* all captures of a round must find room at once */
/* Readable from a function's beginning; more than its first instruction. */
#define CALIBRATE_CODE_BYTES 8

struct calibrate_child {
	pid_t pid;
	int fd; /* a socket to it */
	enum mp_program router;
};

/* Start it, to call what @router captures from (MP_PROGRAM_ROUTE, MP_PROGRAM_TENSORS), and end it
 * (also if it did not start). 0 or -errno. */
int calibrate_child__start(struct calibrate_child *c, enum mp_program router);
void calibrate_child__end(struct calibrate_child *c);

/* Whether the code of @call's function is another one than at the start, which is what a probe in
 * place makes it: 1 or 0, or -errno. */
int calibrate_child__changed(const struct calibrate_child *c, enum calibrate_call call);
/*
 * Have it call @thing and @base by turns, CALIBRATE_ROUND_PAIRS times each, in each of @threads
 * threads at the same time: how much longer @thing takes in ns (less than 0: shorter), the lower
 * quartile of its calls less that of @base, the mean over the threads; where @thing is ROUTER or
 * ROUTER_ROWS, that of the first thread, which is the one that the guard lets pass. 0 or -errno.
 */
int calibrate_child__round(const struct calibrate_child *c, enum calibrate_call thing,
			   enum calibrate_call base, unsigned threads, double *ns);

/* The function of @call, at the same address in the child; NULL: none for this CPU. All ROUTER*
 * have one. */
void (*calibrate_child__function(enum calibrate_call call))(void);
/* How its tensors look: what the kernel program @router has to know to capture from ROUTER*. */
void calibrate_child__describe(struct mp_site *out, enum mp_program router);
/* Bytes of a row of such a result. */
unsigned calibrate_child__row_bytes(enum mp_program router);

#endif
