/* SPDX-License-Identifier: BSD-2-Clause */
/* Names of HTTP headers that a user chose. */
#ifndef MP_BASE_HEADER_NAME_H
#define MP_BASE_HEADER_NAME_H

#include <stdbool.h>
#include <stdint.h>

#define HEADER_NAMES_MAX 4
#define HEADER_NAME_BYTES 64 /* with the final NUL */

/* Plain data, zeroed before use. Names are in lower case. */
struct header_names {
	uint32_t count;
	char name[HEADER_NAMES_MAX][HEADER_NAME_BYTES];
};

/* Add @text. 0, also if it is there already; -EINVAL: it is no header's name (a token of RFC 9110)
 * or too long; -ENOSPC: there are HEADER_NAMES_MAX. */
int header_names__add(struct header_names *h, const char *text);
/* False if untrusted bytes are not what header_names__add() makes. */
bool header_names__is_sane(const struct header_names *h);

#endif
