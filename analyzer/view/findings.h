/* SPDX-License-Identifier: BSD-2-Clause */
/* What the collector found out about machine, server and probe places: for `doctor`. */
#ifndef MP_VIEW_FINDINGS_H
#define MP_VIEW_FINDINGS_H

#include <stddef.h>

struct error;
struct findings;
struct table;
struct trace_item;

#define FINDINGS_MAX 4096 /* more are dropped: no real machine has them */

int findings__new(struct findings **out);
/* Take one record over; other types are passed over. @findings is a struct findings: this is the
 * sink of a feed. 0 or -ENOMEM with @e. */
int findings__take(void *findings, const struct trace_item *item, struct error *e);

/* A line a finding. The table borrows from @f. 0 or -ENOMEM. */
int findings__doctor_table(struct table **out, const struct findings *f);
/* Accepts NULL. */
void findings__free(struct findings *f);

#endif
