/* SPDX-License-Identifier: BSD-2-Clause */
/* The servers that the collector found on this machine: which can be attached to, what they run and
 * what it would cost; and of the others why not. */
#ifndef MP_VIEW_SERVERS_H
#define MP_VIEW_SERVERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct error;
struct servers;
struct table;
struct trace_item;

#define SERVERS_MAX 4096 /* more are dropped: no real machine has them */

int servers__new(struct servers **out);
/* Take one record over; @servers is a struct servers: this is the sink of a feed. 0 or -ENOMEM with
 * @e. */
int servers__take(void *servers, const struct trace_item *item, struct error *e);

/* A row a server that can be attached to. 0 or -ENOMEM. */
int servers__table(struct table **out, const struct servers *s);
/* Those that cannot: how many, and a line each with the reason and what to do. */
size_t servers__refused(const struct servers *s);
void servers__print_refused(const struct servers *s, FILE *out);

/*
 * Processes whose command or model (its name or architecture) contains @name (not NULL), or that
 * listen on @port (not 0). At most @room of them are stored in @pid; the number there are.
 */
size_t servers__match(const struct servers *s, const char *name, uint16_t port, uint32_t *pid,
		      size_t room);
/* What stands in the way on this machine, whichever process it is, and what to do about it ("" if
 * nothing helps): the first such finding. False: nothing does. Both borrow from @s. */
bool servers__obstacle(const struct servers *s, const char **what, const char **remedy);
/* Accepts NULL. */
void servers__free(struct servers *s);

#endif
