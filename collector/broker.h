/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The broker: the process that keeps the rights. It opens files of the target read-only, loads
 * our kernel programs, places probes, and passes descriptors to the reader. Of what comes from the
 * target it parses two lines that the kernel writes (/proc/PID/stat, status) and the first bytes of
 * a model file; it refuses what is outside broker_protocol.h's bounds.
 */
#ifndef MP_COLLECTOR_BROKER_H
#define MP_COLLECTOR_BROKER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct broker;
struct broker_request;
struct broker_response;
struct error;

struct broker_options {
	pid_t pid;    /* whose files may be opened and who may be probed, with descendants
		       that are the same user's; 0: none */
	bool any_pid; /* open (not probe) files of every process: for the list of candidates */
	bool verbose; /* say what libbpf says */
	bool heads;   /* the command line asks for headers of requests: their heads may be read */
};

/* Errors: the process does not exist (EXIT_NO_TARGET). The caller frees. */
int broker__new(struct broker **out, const struct broker_options *o, struct error *e);
/* Takes all probes away. Accepts NULL. */
void broker__free(struct broker *b);

/* Place probes by multi-uprobe links, which this kernel has. Before LOAD. */
void broker__set_multi(struct broker *b, bool multi);

/* The reader will ask for LOAD with a ring of @ring_bytes: begin. Only in the process that serves.
 */
void broker__expect(struct broker *b, uint32_t ring_bytes);

/* Answer one request: fills @response; the number of descriptors put into @fds, which the caller
 * closes. Never fails otherwise. */
unsigned broker__answer(struct broker *b, const struct broker_request *request,
			struct broker_response *response, int *fds);

/* Answer requests on @fd until its other end is closed. 0 or -errno. */
int broker__serve(struct broker *b, int fd);

#endif
