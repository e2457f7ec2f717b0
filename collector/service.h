/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One engine in the processes of one service, probed: from a process id to events in a ring. The
 * service is the process that was named and its descendants; those in which the engine reads
 * something are its members. Runs in the reader; what needs rights is asked of the broker.
 */
#ifndef MP_COLLECTOR_SERVICE_H
#define MP_COLLECTOR_SERVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "collector/family.h"
#include "collector/member.h"
#include "probe/engine/engine.h"
#include "probe/target/opener.h"

struct broker_client;
struct error;
struct header_names;
struct target;

#define SERVICE_MEMBERS_MAX 64
#define SERVICE_FIRST_PROCESS 1u /* id of the member in which the engine was found */

struct service {
	struct broker_client *broker; /* borrowed */
	struct opener opener;
	pid_t pid;             /* that was named */
	struct target *target; /* likewise; may be a member's too */
	const struct engine_ops *ops;
	struct engine *engine;
	const struct header_names *headers;         /* borrowed; NULL: none are read */
	struct member *member[SERVICE_MEMBERS_MAX]; /* in the order in which they joined */
	size_t members;
	uint32_t processes; /* ids given so far */
	struct family family;
	uint64_t next_look_ns; /* when to list the processes again */
	int ring_fd, counters_fd;
	struct mp_site *table;      /* shared with the kernel: MP_SITES rows; NULL before load */
	uint32_t owner[MP_SITES];   /* of a row: a member's id, 0: nobody's */
	uint64_t free_ns[MP_SITES]; /* since when it is nobody's */
	uint32_t rows;              /* ever used */
	uint64_t attached_ns;       /* when all links of the first members were there */
};

/* What happens to members; each gives 0, or an error that ends the capture. */
struct service_events {
	/* It takes part from now on; its rows are switched on after the call. */
	int (*joined)(void *ctx, struct member *m);
	/* It is no more, or could not be probed after all. Its rows are off. */
	int (*left)(void *ctx, struct member *m);
	/* Process @pid should take part and cannot. */
	int (*refused)(void *ctx, pid_t pid, const struct error *why);
	void *ctx;
};

struct service_options {
	struct broker_client *broker;
	pid_t pid;
	const struct engine_ops *ops;       /* NULL: the first that matches somewhere */
	const struct header_names *headers; /* of requests, to be read; none is NULL too */
	bool has_rights; /* all that can be had: who is refused lacks none of them */
};

/* Look at the processes: who they are, their engine, sites and model. No trace in them yet. Only
 * where the engine was found are too few places an error; another process is then left out. The
 * caller closes, also after an error. */
int service__open(struct service *s, const struct service_options *o, struct error *e);
/* Load the kernel programs with a ring of @ring_bytes and write the site table. */
int service__load(struct service *s, uint32_t ring_bytes, struct error *e);
/* Place the probes and switch them on. A required one that fails is an error in the process where
 * the engine was found; another process is then left out. */
int service__link(struct service *s, struct error *e);
/* Have measured what a hit costs here: in later answers of the broker, which this does not wait
 * for. Once; then the places of probes are frozen. 0 or -errno. */
int service__calibrate(const struct service *s);
/* Say who takes part, and who should and does not. Once, after service__link(). */
int service__begin(struct service *s, const struct service_events *on);

/* Mark the members that are gone (not the named process, whose end is that of the capture). Their
 * number: take what is left of them in the ring, then call service__drop_gone(). */
size_t service__find_gone(struct service *s);
int service__drop_gone(struct service *s, uint64_t now_ns, const struct service_events *on);
/* Look for new processes, and ask those whose time has come: about every 50 ms. */
int service__look(struct service *s, uint64_t now_ns, const struct service_events *on);

/* Take the probes away. 0 or -errno (the broker is gone, and they with it). */
int service__unlink(struct service *s);
/* Frees everything. Accepts a zeroed struct. */
void service__close(struct service *s);

#endif
