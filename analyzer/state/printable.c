/* SPDX-License-Identifier: BSD-2-Clause */
#include "analyzer/state/printable.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* Length of the UTF-8 character at @p (of @left bytes) and its code point; 0: not one. */
static size_t decode(const uint8_t *p, size_t left, uint32_t *code)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	size_t n = p[0] < 0x80             ? 1
		   : (p[0] & 0xe0) == 0xc0 ? 2
		   : (p[0] & 0xf0) == 0xe0 ? 3
		   : (p[0] & 0xf8) == 0xf0 ? 4
					   : 0;
	uint32_t c;

	if (!n || n > left)
		return 0;
	c = n == 1 ? p[0] : p[0] & (0x7f >> n);
	for (size_t i = 1; i < n; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (p[i] & 0x3f);
	}
	if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
		return 0;
	*code = c;
	return n;
}

static bool is_harmless(uint32_t c)
{
	if (c < 0x20 || (c >= 0x7f && c < 0xa0))
		return false;
	if ((c >= 0x200b && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e))
		return false;
	return !(c >= 0x2060 && c <= 0x206f) && c != 0xfeff;
}

size_t printable__length(const void *bytes, size_t left)
{
	uint32_t code = 0;
	size_t n = decode(bytes, left, &code);

	return n && is_harmless(code) ? n : 0;
}

void printable__copy(char *out, size_t room, const void *bytes, size_t size)
{
	const uint8_t *p = bytes;
	size_t used = 0;

	if (!room)
		return;
	for (size_t i = 0; i < size;) {
		uint32_t code = 0;
		size_t n = decode(p + i, size - i, &code);
		bool good = n && is_harmless(code);
		size_t wants = good ? n : 1;

		if (used + wants >= room)
			break;
		if (good)
			memcpy(out + used, p + i, n);
		else
			out[used] = '?';
		used += wants;
		i += n ? n : 1;
	}
	out[used] = '\0';
}
