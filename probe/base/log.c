/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/base/log.h"

#include <stdarg.h>
#include <stdio.h>

static enum log_level shown = LOG_WARN;

void log__set_level(enum log_level level)
{
	shown = level;
}

void log__write(enum log_level level, const char *module, const char *fmt, ...)
{
	char line[1024];
	va_list ap;

	if (level > shown)
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	for (char *c = line; *c; c++) /* names of strangers must not steer a terminal */
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = '?';
	fprintf(stderr, "%s: %s\n", module, line);
}
