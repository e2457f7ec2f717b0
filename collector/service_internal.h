/* SPDX-License-Identifier: BSD-2-Clause */
/* Shared by service.c (members, rows, probes) and service_look.c (which processes there are). */
#ifndef MP_COLLECTOR_SERVICE_INTERNAL_H
#define MP_COLLECTOR_SERVICE_INTERNAL_H

#include <stdint.h>

#include "collector/service.h"

/* Rows that a member left get another owner only after this time: a program of it may have been
 * interrupted in the kernel with its row in hand. */
#define ROWS_REST_NS 5000000000ull

/* A member that runs @t, which it takes, under a new id; there must be room for it. NULL: no
 * memory. */
struct member *service__add_member(struct service *s, struct target *t);
/* Its probes must be gone. The process is looked at anew. */
void service__remove_member(struct service *s, size_t at, uint64_t now_ns);

/* A block of the site table for its plan, written if there is a table. -ENOSPC with @e. */
int service__take_rows(struct service *s, struct member *m, uint64_t now_ns, struct error *e);
void service__write_rows(struct service *s, struct member *m);
void service__free_rows(struct service *s, const struct member *m, uint64_t now_ns);

/* Remember why @pid does not take part; it is told by service__begin() or service__look(). */
void service__refuse(struct service *s, pid_t pid, const struct error *why);

#endif
