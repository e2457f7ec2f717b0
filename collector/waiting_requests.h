/* SPDX-License-Identifier: BSD-2-Clause */
/* Requests whose beginning found no room in the stream. They wait until there is room or they end;
 * at most as many as the engine has under way. Their prompts are not kept. */
#ifndef MP_COLLECTOR_WAITING_REQUESTS_H
#define MP_COLLECTOR_WAITING_REQUESTS_H

#include <stdint.h>

struct engine_request;
/* A table; NULL: empty. */
struct waiting_request;

/* Copies @q. 0, -ENOMEM. */
int waiting_requests__add(struct waiting_request **all, const struct engine_request *q);
/* What was copied, to be borrowed until it is removed; NULL: @request does not wait. */
const struct engine_request *waiting_requests__find(struct waiting_request *all, uint32_t request);
/* Accepts what does not wait. */
void waiting_requests__remove(struct waiting_request **all, uint32_t request);
/* Removes all of them. */
void waiting_requests__free(struct waiting_request **all);

#endif
