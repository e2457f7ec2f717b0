/* SPDX-License-Identifier: BSD-2-Clause */
/* What the processes of a vLLM service send: which connections carry messages between them and
 * which responses to clients, and what these say of requests. */
#ifndef MP_VLLM_CHANNELS_H
#define MP_VLLM_CHANNELS_H

#include <stdint.h>

#include "probe/engine/capture.h"
#include "probe/engine/sink.h"

struct header_names;
struct vllm_channels;
struct vllm_requests;

/* @requests is borrowed. 0 or -ENOMEM. */
int vllm_channels__new(struct vllm_channels **out, struct vllm_requests *requests);
/* Accepts NULL. */
void vllm_channels__free(struct vllm_channels *s);

/* Which headers of requests become labels; copied. */
void vllm_channels__headers(struct vllm_channels *s, const struct header_names *names);
/* A piece (MP_EVENT_BYTES). 0, -ENOMEM, the sink's error; -EBADMSG: it contradicts itself. */
int vllm_channels__piece(struct vllm_channels *s, const struct capture *c,
			 const struct engine_sink *sink);
/* Process @tgid is gone: close its connections. */
int vllm_channels__leave(struct vllm_channels *s, uint32_t tgid, uint64_t now_ns,
			 const struct engine_sink *sink);

#endif
