/* SPDX-License-Identifier: BSD-2-Clause */
/* A recording summed up as tables: what it holds, who asked, which experts, what is missing. */
#ifndef MP_VIEW_REPORT_H
#define MP_VIEW_REPORT_H

#include <stdio.h>

struct report;
struct state;

/* Built at once; @s is not needed afterwards. 0 or -ENOMEM. */
int report__build(struct report **out, const struct state *s, const char *source);
void report__print(const struct report *r, FILE *out);
/* One JSON object, a key for each table. 0, -ENOMEM or -EIO. */
int report__print_json(const struct report *r, FILE *out);
/* Accepts NULL. */
void report__free(struct report *r);

#endif
