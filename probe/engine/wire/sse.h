/* SPDX-License-Identifier: BSD-2-Clause */
/* The events of a text/event-stream body: each is one answer's JSON, or "[DONE]". */
#ifndef MP_ENGINE_WIRE_SSE_H
#define MP_ENGINE_WIRE_SSE_H

#include "probe/engine/wire/answer.h"

/* Zero-initialise where a stream begins. */
struct sse_scan {
	struct answer_scan json;
	uint32_t events; /* with data that is not "[DONE]"; those in a gap are not counted */
	bool done;       /* "[DONE]" was there */
	uint8_t state;
	uint8_t matched;  /* bytes of what is looked for */
	bool in_event;    /* data of it was seen */
	bool has_newline; /* the last byte was '\r': a '\n' belongs to it */
};

/* The next @size bytes. Returns as answer__feed(), and goes on behind what it returned. */
size_t sse__feed(struct sse_scan *s, struct answer_facts *f, const uint8_t *bytes, size_t size);
/* Bytes are missing: goes on behind the next end of a line, and reads what ends there backwards
 * if the gap began inside an event's data. */
void sse__gap(struct sse_scan *s);

#endif
