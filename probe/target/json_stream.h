/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * JSON as it comes, in pieces and in constant memory: for files of which little is wanted and that
 * may be too large to be held as a tree (a safetensors header may take 100 MB, which a tree makes
 * gigabytes). It is lenient: of what is no JSON it makes tokens that mean nothing to anybody.
 */
#ifndef MP_TARGET_JSON_STREAM_H
#define MP_TARGET_JSON_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define JSON_TEXT_MAX 256 /* with NUL; a longer text is cut and says so */
#define JSON_DEPTH_MAX 64

enum json_token {
	JSON_BEGIN, /* of an object or array */
	JSON_END,
	JSON_KEY,
	JSON_STRING,
	JSON_BARE, /* a number, true, false, null */
};

struct json_stream {
	/* Called for each token; @text is NUL-terminated, as the file writes it (escapes stay), and
	 * empty for BEGIN and END. */
	void (*token)(void *ctx, enum json_token kind, const char *text);
	void *ctx;
	unsigned depth; /* objects and arrays around the token */
	bool cut;       /* the token's text was longer */
	bool broken;    /* more ends than beginnings, or too deep: no more tokens */
	/* what has begun */
	bool in_string, escaped, has_text, is_string, begun;
	size_t length;
	char text[JSON_TEXT_MAX];
};

/* The next @n bytes. Begin with a zeroed stream that has @token and @ctx. */
void json_stream__feed(struct json_stream *s, const void *bytes, size_t n);
/* True if what was fed is one object or array that has ended. */
bool json_stream__is_whole(const struct json_stream *s);

#endif
