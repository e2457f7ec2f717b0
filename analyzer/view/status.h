/* SPDX-License-Identifier: BSD-2-Clause */
/* What stands beside every number, also when it is zero: coverage, loss, invalid, cost. */
#ifndef MP_VIEW_STATUS_H
#define MP_VIEW_STATUS_H

#include <stdbool.h>
#include <stdio.h>

struct error;
struct state;

/* As text for people; "-" where it is not known. */
struct status {
	char coverage[32]; /* "98.2 %", as metric/coverage.h defines it */
	char missing[240]; /* "cached 1.2 %, lost 0.3 %": every cause, of all rows; "" if none */
	char loss[80];     /* "0" or "12 (0.3 %)" */
	const char *loss_cause;  /* in words, of most of it; NULL if nothing was lost */
	const char *loss_remedy; /* what to do about that; NULL likewise */
	char invalid[32];        /* "0" */
	char slowdown[32];       /* of the server, estimated for the last interval */
	char collector[32];      /* its share of a CPU in the last interval */
	bool any_loss, any_invalid;
};

void status__of(struct status *out, const struct state *s);

/* EXIT_OK; or EXIT_LOSS, with @e, if more than @most_percent of the decisions was lost (negative:
 * there is no limit). @source is for the message. */
int status__check_loss(const struct state *s, double most_percent, const char *source,
		       struct error *e);

/* The same if less than @least_percent of the rows x layers of ended requests was seen, or none
 * ended: what is not known is not enough. */
int status__check_coverage(const struct state *s, double least_percent, const char *source,
			   struct error *e);
/* The same if router results came and every one was lost. */
int status__check_any(const struct state *s, const char *source, struct error *e);

/* The lines that end a capture: how long, how much, and the status. */
void status__print_summary(const struct state *s, FILE *out);

/* key=value, for programs that read the plain text view: a line that begins with t=, and lines that
 * go on with it and begin with two spaces. */
void status__print_line(const struct state *s, FILE *out);

/* "cached prefix", "lost", ...: short names of the causes of enum trace_missing. */
const char *missing__short_name(unsigned cause_index);

#endif
