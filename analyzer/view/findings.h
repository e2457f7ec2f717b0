/* SPDX-License-Identifier: BSD-2-Clause */
/* What the collector found out about machine, servers and probe places: for `doctor`, and for the
 * list of servers that can be attached to. */
#ifndef MP_VIEW_FINDINGS_H
#define MP_VIEW_FINDINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct error;
struct findings;
struct table;
struct trace_item;

#define FINDINGS_MAX 4096 /* more are dropped: no real machine has them */

int findings__new(struct findings **out);
/* Take one record over; other types are passed over. @findings is a struct findings: this is the
 * sink of a session. 0 or -ENOMEM with @e. */
int findings__take(void *findings, const struct trace_item *item, struct error *e);

/* A line a finding. The table borrows from @f. 0 or -ENOMEM. */
int findings__doctor_table(struct table **out, const struct findings *f);
/* A line a process, a column for each name that findings about processes have. The same. */
int findings__candidate_table(struct table **out, struct findings *f);

/*
 * Processes of which a finding's value contains @name (not NULL: engine, command, model, ...), or
 * that have @port (not 0). At most @room of them are stored in @pid; the number there are.
 */
size_t findings__match(const struct findings *f, const char *name, uint16_t port, uint32_t *pid,
		       size_t room);
/* What stands in the way on this machine, whichever process it is, and what to do about it ("" if
 * nothing helps): the first such finding. False: nothing does. Both borrow from @f. */
bool findings__obstacle(const struct findings *f, const char **what, const char **remedy);
/* Accepts NULL. */
void findings__free(struct findings *f);

#endif
