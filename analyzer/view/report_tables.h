/* SPDX-License-Identifier: BSD-2-Clause */
/* The tables of a report, for report.c only. Each gives a new table; 0 or -ENOMEM. */
#ifndef MP_VIEW_REPORT_TABLES_H
#define MP_VIEW_REPORT_TABLES_H

struct state;
struct table;

int report__capture(struct table **out, const struct state *s, const char *source);
int report__models(struct table **out, const struct state *s, const char *source);
int report__layers(struct table **out, const struct state *s, const char *source);
int report__requests(struct table **out, const struct state *s, const char *source);
int report__coverage(struct table **out, const struct state *s, const char *source);
int report__loss(struct table **out, const struct state *s, const char *source);
int report__invalid(struct table **out, const struct state *s, const char *source);
int report__cost(struct table **out, const struct state *s, const char *source);
/* What the collector found wrong. */
int report__warnings(struct table **out, const struct state *s, const char *source);
/* What the recording's detail cannot answer. */
int report__unanswered(struct table **out, const struct state *s, const char *source);

#endif
