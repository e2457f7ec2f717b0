/* SPDX-License-Identifier: BSD-2-Clause */
/* What the reader of heads (http_head.c) and that of bodies and framing (http.c) share. */
#ifndef MP_ENGINE_WIRE_HTTP_INTERNAL_H
#define MP_ENGINE_WIRE_HTTP_INTERNAL_H

#include "probe/engine/wire/http.h"

enum http_head_end { HEAD_MORE, HEAD_ENDED, HEAD_NONSENSE };

/* A head begins: clears the response and the line. */
void http_head__begin(struct http_stream *h);
/* Its next byte. HEAD_ENDED: the headers are in the response, the framing in the stream. */
enum http_head_end http_head__feed(struct http_stream *h, uint8_t c);
/* True if the bytes begin with a status line, at least up to the status. */
bool http_head__is_status_line(const uint8_t *bytes, size_t size);

#endif
