/* SPDX-License-Identifier: BSD-2-Clause */
/* Requests that the stream has named, so that nothing is said of one that it has not: those under
 * way, and the last KNOWN_ENDED_MAX that ended. With each, names of it that found no room yet. */
#ifndef MP_COLLECTOR_KNOWN_REQUESTS_H
#define MP_COLLECTOR_KNOWN_REQUESTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct engine_request_info;
struct known_requests;

#define KNOWN_ENDED_MAX 1024

/* NULL: out of memory. */
struct known_requests *known_requests__new(void);
/* Accepts NULL. */
void known_requests__free(struct known_requests *k);

/* @request waits to be named (@said false), or was said to begin. 0, -ENOMEM. */
int known_requests__add(struct known_requests *k, uint32_t request, bool said);
/* It was said to end; later names of it are still taken for a while. */
void known_requests__end(struct known_requests *k, uint32_t request);
/* It was dropped whole. */
void known_requests__remove(struct known_requests *k, uint32_t request);

/* True if the stream has named it. */
bool known_requests__is_said(const struct known_requests *k, uint32_t request);
/* True if it is under way, named or not. */
bool known_requests__is_open(const struct known_requests *k, uint32_t request);
/* Said to begin and not yet to end. */
size_t known_requests__begun(const struct known_requests *k);

/* Keep @i (copied; what is not empty replaces what is kept) of a request that is under way, all of
 * it as inferred as its weakest part. 0, -ENOMEM. */
int known_requests__keep(struct known_requests *k, const struct engine_request_info *i);
/* What is kept of @request, borrowed until it is forgotten; NULL: nothing. */
const struct engine_request_info *known_requests__kept(const struct known_requests *k,
						       uint32_t request);
void known_requests__forget(struct known_requests *k, uint32_t request);
/* Some named request of which something is kept, or 0. */
uint32_t known_requests__next_kept(const struct known_requests *k);

#endif
