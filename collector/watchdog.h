/* SPDX-License-Identifier: BSD-2-Clause */
/* "Attached" is said only once data flows; otherwise the reason is. What a user should know while
 * nothing, or not enough, comes out of a capture, as FINDING records. */
#ifndef MP_COLLECTOR_WATCHDOG_H
#define MP_COLLECTOR_WATCHDOG_H

#include <stdbool.h>
#include <stdint.h>

struct member;
struct mp_counters;
struct service;
struct stream;

/* Zeroed before use. */
struct watchdog {
	bool said_idle, said_flowing, said_silent;
	unsigned silent_seconds; /* rows came and no router result */
	uint64_t rows_hits, routes;
};

struct watchdog_facts {
	const struct mp_counters *counters; /* one a row of the table */
	uint64_t routes;                    /* router results that were assembled */
	uint64_t now_ns;
};

/* What could not be probed in @m. 0, or the writer's error. */
int watchdog__joined(struct stream *s, const struct member *m);
/* Once a second. 0, or the writer's error. */
int watchdog__second(struct watchdog *w, struct stream *s, const struct service *v,
		     const struct watchdog_facts *f);

#endif
