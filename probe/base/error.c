/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/base/error.h"

#include <stdarg.h>
#include <string.h>

/* Names in a message come from strangers (file names, command lines): what would move a
 * terminal's cursor or begin a line of its own becomes '?'. */
static void clean(char *text, const char *allowed)
{
	for (; *text; text++)
		if (((unsigned char)*text < ' ' && !strchr(allowed, *text)) || *text == 0x7f)
			*text = '?';
}

int error__set(struct error *e, enum exit_code exit, int errnum, const char *remedy,
	       const char *fmt, ...)
{
	va_list ap;

	if (!e || error__is_set(e))
		return -errnum;
	e->errnum = errnum;
	e->exit = exit;
	va_start(ap, fmt);
	vsnprintf(e->what, sizeof(e->what), fmt, ap);
	va_end(ap);
	clean(e->what, "");
	snprintf(e->remedy, sizeof(e->remedy), "%s", remedy ? remedy : "");
	clean(e->remedy, "\n");
	return -errnum;
}

void error__clear(struct error *e)
{
	if (e)
		memset(e, 0, sizeof(*e));
}

bool error__is_set(const struct error *e)
{
	return e && e->what[0] != '\0';
}

void error__print(const struct error *e, const char *program, FILE *out)
{
	fprintf(out, "%s: %s\n", program, error__is_set(e) ? e->what : "failed (no reason given)");
	if (e && e->remedy[0])
		fprintf(out, "  try: %s\n", e->remedy);
}
