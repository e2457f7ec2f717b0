/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The requests of a vLLM service, as its API server and its engine core tell them to each other:
 * what was asked for (the whole prompt as token ids), each generated token, how it ended, the id
 * that the client sees. Rows are joined to them by these tokens (batches.h).
 */
#ifndef MP_VLLM_REQUESTS_H
#define MP_VLLM_REQUESTS_H

#include <stdbool.h>
#include <stdint.h>

#include "probe/engine/sink.h"
#include "probe/engine/wire/http.h"
#include "probe/engine/wire/vllm_message.h"

/* One request. Stays where it is as long as it is open; owned by the table. */
struct vllm_asked {
	uint64_t hash;   /* of the id between the processes; 0: not told of (before attach, lost) */
	uint32_t number; /* from 1; 0: not said yet */
	uint32_t prompt; /* tokens; ENGINE_UNKNOWN */
	uint32_t cached; /* of them; ENGINE_UNKNOWN */
	/* The prompt's first tokens, then, if that is all of them, what was generated. */
	int32_t *token;
	uint32_t tokens, capacity;
	uint32_t generated; /* by the server's word */
	uint32_t prefill;   /* positions that are computed from known tokens */
	uint64_t asked_ns, last_ns;
	uint64_t aborted_ns; /* 0: not */
	bool before_attach, inferred, preempted, open;
	bool has_sampling;
	struct engine_sampling sampling;
	uint32_t cached_told; /* by the server's word; ENGINE_UNKNOWN */
	bool doubt_said;      /* and that was said, since nothing told them apart in time */
	bool is_guess;        /* inferred for good: a guess that it is part of proved wrong */
	uint64_t tried;       /* owners.c: the run that it was last considered for */
	bool answered;        /* the response to the client was seen */
	bool sequenced;       /* the sequence of its number was used */
	char client_id[128];
};

struct vllm_requests;

/* 0 or -ENOMEM. */
int vllm_requests__new(struct vllm_requests **out);
/* Accepts NULL. */
void vllm_requests__free(struct vllm_requests *q);

/* What the processes said. 0, -ENOMEM or the sink's error. */
int vllm_requests__asked(struct vllm_requests *q, uint64_t time_ns, const struct vllm_request *r,
			 const struct engine_sink *sink);
void vllm_requests__abort(struct vllm_requests *q, uint64_t time_ns, struct vllm_text id);
int vllm_requests__output(struct vllm_requests *q, uint64_t time_ns, const struct vllm_output *o,
			  const struct engine_sink *sink);
/* @labels: "name=value" lines that its request says, "" if none. */
int vllm_requests__response(struct vllm_requests *q, const struct http_response *r,
			    const char *labels, const struct engine_sink *sink);

/* A number that no request has, for a sequence. */
uint32_t vllm_requests__number(struct vllm_requests *q);
/* Open requests, oldest first: *@at from 0; NULL at the end. */
struct vllm_asked *vllm_requests__next(struct vllm_requests *q, uint32_t *at);
/* One that nobody told of. NULL: -ENOMEM, or the sink failed (*@err). */
struct vllm_asked *vllm_requests__nameless(struct vllm_requests *q, uint64_t time_ns, int *err,
					   const struct engine_sink *sink);
/* Say that @a begins, with its first row in @context (ENGINE_UNKNOWN: it has none). */
int vllm_asked__begin(struct vllm_requests *q, struct vllm_asked *a, uint32_t context,
		      uint64_t time_ns, const struct engine_sink *sink);
int vllm_asked__end(struct vllm_requests *q, struct vllm_asked *a, uint64_t now_ns, uint32_t ending,
		    uint32_t finish, const struct engine_sink *sink);
/* True if one of @count tokens from @position on is known to be another one in @a. @token NULL: not
 * captured; so below. */
bool vllm_asked__contradicts(const struct vllm_asked *a, uint32_t position, const int64_t *token,
			     uint32_t count);

/* End what was aborted and had no row since @aborted_before_ns, and what nobody told of and had
 * none since @idle_before_ns; all there is if that is UINT64_MAX. */
int vllm_requests__expire(struct vllm_requests *q, uint64_t aborted_before_ns,
			  uint64_t idle_before_ns, uint64_t now_ns, uint32_t ending,
			  const struct engine_sink *sink);

#endif
