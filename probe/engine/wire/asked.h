/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a client asked for on one connection: the heads of its HTTP/1 requests, as the process
 * received them, of which only the values of chosen headers are kept, until the response begins.
 *
 * Never another request's. A head says something only where it is certain that it is the next
 * request of its connection, and that the next response is to it: it stands where the one before it
 * ended, by its length and that of its body; nothing waits for a response; nothing was lost. A
 * connection where that cannot be said (pipelined requests, a body in chunks and then another
 * request, a response that was not seen) says nothing until it is opened anew.
 */
#ifndef MP_ENGINE_WIRE_ASKED_H
#define MP_ENGINE_WIRE_ASKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "probe/base/header_name.h"

struct mp_event_bytes;

enum {
	ASKED_VALUE_BYTES = 128,  /* of a value, with the final NUL; longer ones are cut */
	ASKED_LABELS_BYTES = 512, /* of all that a request says, likewise; what has no room is not
				     said */
};

/* The part of a head that one call brought. Borrowed for the call. */
struct asked_part {
	uint64_t position; /* in the connection, of the call's first byte */
	uint64_t length;   /* bytes of the call: the body's beginning too */
	const uint8_t *head;
	size_t head_size;
	bool opens;  /* the connection is a new one */
	bool begins; /* a request begins with it */
	bool ends;   /* the head ends with it */
	bool lost;   /* parts before it are missing */
};

/* One connection. Opaque; zero-initialise. Holds no memory of its own. */
struct wire_asked {
	bool spoiled;  /* nothing is certain any more */
	bool is_known; /* @next is where the next request begins */
	bool reading;  /* in a head */
	bool waiting;  /* a whole head waits for its response */
	uint64_t next;
	uint64_t at;     /* while reading: where the next part begins */
	uint64_t length; /* of the body */
	bool has_length, is_chunked;
	struct {
		uint8_t name_size, value_size;
		bool is_first, in_value, too_long;
		char name[HEADER_NAME_BYTES], value[ASKED_VALUE_BYTES];
	} line;
	struct {
		bool there, twice;
		char text[ASKED_VALUE_BYTES];
	} value[HEADER_NAMES_MAX];
};

_Static_assert(sizeof(struct wire_asked) < 1024, "a connection costs less than 1 KiB");

/* What the event says that has @head and @bytes behind it, all of it at hand; false: it contradicts
 * itself. */
bool asked_part__read(struct asked_part *out, const struct mp_event_bytes *head,
		      const uint8_t *bytes);

/* The next part that was received. @answering: a response is being sent there. */
void wire_asked__part(struct wire_asked *a, const struct header_names *names,
		      const struct asked_part *p, bool answering);
/* A response begins: what its request said, lines "name=value", into @labels
 * (ASKED_LABELS_BYTES); "" if that is nothing, or not certain. */
void wire_asked__answer(struct wire_asked *a, const struct header_names *names, char *labels);
/* What was sent there is missing: of whom the next response is cannot be said. */
void wire_asked__lost(struct wire_asked *a);

#endif
