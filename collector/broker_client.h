/* SPDX-License-Identifier: BSD-2-Clause */
/* The reader's side of the broker: an opener, kernel programs, links. */
#ifndef MP_COLLECTOR_BROKER_CLIENT_H
#define MP_COLLECTOR_BROKER_CLIENT_H

#include <stdint.h>

#include "collector/broker_protocol.h"
#include "probe/target/opener.h"

struct error;

/* Plain data; @fd is borrowed. Zeroed but for @fd before use. */
struct broker_client {
	int fd;
	uint64_t cpu_ns;        /* of the broker, as of the last answer */
	struct hit_costs costs; /* zeros while they are not measured */
};

/* What probe/target wants, answered by the broker. @c must outlive it. -EPIPE from any callback:
 * the broker is gone. */
struct opener broker_client__opener(struct broker_client *c);

/* Load the kernel programs; @fds[BROKER_FDS_MAX] are the caller's to close. */
int broker_client__load(struct broker_client *c, uint32_t ring_bytes, int *fds, struct error *e);

/* Place @count (1 .. LINK_PLACES_MAX) probes of @program in the file that @pid has mapped at
 * [start, end). */
struct broker_places {
	pid_t pid;
	uint64_t start, end;
	enum mp_program program;
	uint32_t count;
	uint64_t offset[LINK_PLACES_MAX], cookie[LINK_PLACES_MAX];
};
int broker_client__link(struct broker_client *c, const struct broker_places *p, struct error *e);
/* Take away the probes of process @pid, or all (0). 0 or -errno. */
int broker_client__unlink(struct broker_client *c, pid_t pid);

/* The named process and its descendants, as kin__list(), at most BROKER_KIN_MAX. Their number, or
 * -errno (-ESRCH: it is gone). */
int broker_client__kin(struct broker_client *c, struct kin *out);

/* Have the time of a hit measured in the background, with @threads that hit at the same time. */
int broker_client__calibrate(struct broker_client *c, enum mp_program router, uint32_t threads);

#endif
