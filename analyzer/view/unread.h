/* SPDX-License-Identifier: BSD-2-Clause */
/* What a stream held and nobody saw, in words: it is said beside every result. */
#ifndef MP_VIEW_UNREAD_H
#define MP_VIEW_UNREAD_H

struct trace_unread;

#define UNREAD_SIZE 160 /* bytes that hold any of the sentences */

/* "skipped: 3 records of 2 types that this version does not know". Writes into @out and returns
 * it. */
char *unread__skipped(char out[UNREAD_SIZE], const struct trace_unread *u);
/* "damaged: 2 blocks (12,345 bytes) could not be read: the totals are incomplete". The same. */
char *unread__damaged(char out[UNREAD_SIZE], const struct trace_unread *u);

#endif
