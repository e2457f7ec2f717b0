/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the reader may ask of the broker, over a SOCK_SEQPACKET socket pair: one fixed-size
 * request, one fixed-size response, descriptors beside it (SCM_RIGHTS). This list is all that a
 * reader taken over by hostile bytes can do with our rights.
 */
#ifndef MP_COLLECTOR_BROKER_PROTOCOL_H
#define MP_COLLECTOR_BROKER_PROTOCOL_H

#include <limits.h>
#include <stdint.h>

#include "collector/kin.h"
#include "probe/abi/site.h"
#include "probe/attach/calibrate.h"
#include "probe/attach/link.h"
#include "probe/base/error.h"

#define BROKER_TEXT_SIZE 512
#define BROKER_LINKS_MAX 128 /* links held at one time */
#define BROKER_KIN_MAX 256   /* processes of a service; more are not looked at */
#define BROKER_RING_MIN (64u << 10)
#define BROKER_RING_MAX (16u << 20) /* it is mapped twice */

/* X(NAME, what it does and gives) */
#define BROKER_OPERATIONS(X) \
	X(OPEN_PROC, "open a file of /proc/PID: one descriptor") \
	X(OPEN_MAPPED, "open the file mapped at an address range: one descriptor") \
	X(OPEN_PATH, "open a model file by its name, with the process's own rights") \
	X(OPEN_LIST, "open /proc, to see which processes there are: one descriptor") \
	X(LIST_KIN, "which descendants the process has: their ids and parents") \
	X(READ_FD_LINK, "which socket or model's weights a descriptor of the process is: text") \
	X(READ_VARIABLE, "where the process's environment says that models are kept: text") \
	X(LOAD, "load the kernel programs, once: descriptors of ring, sites, counters") \
	X(LINK, "place probes of one program in one mapped file") \
	X(UNLINK, "take away the probes of one process, or all") \
	X(CALIBRATE, "measure the time of a hit on a child of ours; told in later answers")

enum broker_operation {
#define X(name, text) BROKER_##name,
	BROKER_OPERATIONS(X)
#undef X
		BROKER_OPERATION_COUNT
};

/* Descriptors of a LOAD response, in this order. */
enum { BROKER_FD_RING, BROKER_FD_SITES, BROKER_FD_COUNTERS, BROKER_FDS_MAX };

struct broker_request {
	uint32_t operation;  /* enum broker_operation */
	int32_t pid;         /* UNLINK: 0 for all */
	uint64_t start, end; /* OPEN_MAPPED, LINK: the mapping */
	union {
		uint32_t file;       /* OPEN_PROC: enum proc_file */
		int32_t fd;          /* READ_FD_LINK */
		uint32_t variable;   /* READ_VARIABLE: enum proc_variable */
		uint32_t ring_bytes; /* LOAD */
		struct {
			uint32_t threads; /* that hit at the same time */
			uint32_t router;  /* enum mp_program: ROUTE or TENSORS */
		} calibrate;              /* CALIBRATE */
		char path[PATH_MAX];      /* OPEN_PATH: NUL-terminated */
		struct {
			uint32_t program; /* enum mp_program */
			uint32_t count;
			uint64_t offset[LINK_PLACES_MAX], cookie[LINK_PLACES_MAX];
		} places; /* LINK */
	};
};

struct broker_response {
	int32_t result;              /* 0 or -errno */
	uint32_t kin_count;          /* LIST_KIN */
	uint64_t cpu_ns;             /* processor time of the broker and its children so far */
	struct hit_costs costs;      /* after CALIBRATE, once they are known */
	char text[BROKER_TEXT_SIZE]; /* READ_FD_LINK, READ_VARIABLE */
	struct kin kin[BROKER_KIN_MAX];
	struct error error; /* LOAD, LINK: why not */
};

#endif
