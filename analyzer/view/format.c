/* SPDX-License-Identifier: BSD-2-Clause */
#include "analyzer/view/format.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "collector/trace/records.h"

char *format__count(char *out, size_t size, uint64_t n)
{
	char digits[24];
	int length = snprintf(digits, sizeof(digits), "%" PRIu64, n);
	size_t used = 0;

	for (int i = 0; i < length && used + 2 < size; i++) {
		if (i && (length - i) % 3 == 0)
			out[used++] = ',';
		out[used++] = digits[i];
	}
	out[used] = '\0';
	return out;
}

char *format__known(char *out, size_t size, uint32_t n)
{
	if (n != TRACE_UNKNOWN)
		return format__count(out, size, n);
	snprintf(out, size, "-");
	return out;
}

char *format__share(char *out, size_t size, double share)
{
	if (share < 0)
		snprintf(out, size, "-");
	else if (share == 0)
		snprintf(out, size, "0 %%");
	else if (share < 0.0005)
		snprintf(out, size, "<0.1 %%");
	else if (share < 1 && share >= 0.9995)
		snprintf(out, size, "99.9 %%"); /* not all is never shown as all */
	else
		snprintf(out, size, share == 1 ? "%.0f %%" : "%.1f %%", 100 * share);
	return out;
}

char *format__rate(char *out, size_t size, double per_second)
{
	if (per_second < 0)
		snprintf(out, size, "-");
	else
		snprintf(out, size, per_second < 99.95 ? "%.1f" : "%.0f", per_second);
	return out;
}

char *format__duration(char *out, size_t size, uint64_t ns)
{
	double s = (double)ns / 1e9;
	uint64_t whole = ns / 1000000000ull;

	if (s < 99.95)
		snprintf(out, size, "%.1f s", s);
	else if (whole < 3600)
		snprintf(out, size, "%" PRIu64 " min %02" PRIu64 " s", whole / 60, whole % 60);
	else
		snprintf(out, size, "%" PRIu64 " h %02" PRIu64 " min", whole / 3600,
			 whole / 60 % 60);
	return out;
}

char *format__bytes(char *out, size_t size, uint64_t bytes)
{
	static const char *const unit[] = { "kB", "MB", "GB", "TB" };
	double value = (double)bytes / 1000;
	size_t i = 0;

	if (bytes < 1000) {
		snprintf(out, size, "%" PRIu64 " B", bytes);
		return out;
	}
	while (value >= 999.5 && i + 1 < sizeof(unit) / sizeof(*unit)) {
		value /= 1000;
		i++;
	}
	snprintf(out, size, value < 9.95 ? "%.1f %s" : "%.0f %s", value, unit[i]);
	return out;
}
