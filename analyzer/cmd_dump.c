/* SPDX-License-Identifier: BSD-2-Clause */
/* moeprobe dump: every record of a recording, a line each. */
#include <errno.h>
#include <stdio.h>

#include "analyzer/command.h"
#include "analyzer/launch.h"
#include "analyzer/command_line.h"
#include "analyzer/feed.h"
#include "analyzer/standard_output.h"
#include "analyzer/view/json.h"
#include "analyzer/view/unread.h"
#include "collector/trace/reader.h"
#include "probe/base/error.h"

static const struct options_spec spec = {
	.program = "moeprobe dump",
	.usage = "FILE",
	.help = "Examples:\n"
		"  moeprobe dump a.moe | head\n"
		"  moeprobe dump a.moe --json | jq 'select(.type == \"route\")'\n\n"
		"Prints every record of a recording (or of a stream on standard input, if FILE is "
		"-), "
		"one a line; --json is a documented contract.\n",
	.operand = OPERAND_FILE,
	.operand_required = true,
	.keys = (const int[]){ OPTION_JSON, OPTION_USER, 0 },
};

struct dump {
	bool json;
	struct json_context *context;
};

static int take(void *ctx, const struct trace_item *item, struct error *e)
{
	struct dump *d = ctx;
	int err;

	errno = 0;
	err = d->json ? json_view__print(stdout, item, d->context)
		      : text_view__print(stdout, item, d->context);
	if (!err)
		return 0;
	if (err == -EIO && errno)
		err = -errno;
	return standard_output__failed("dump", err, e);
}

static int dump(const struct options *o, const struct launch *l, struct error *e)
{
	struct dump d = { .json = o->json, .context = json_context__new() };
	struct feed_sink sink = { .take = take, .ctx = &d };
	struct trace_unread unread = { 0 };
	char text[UNREAD_SIZE];
	int code = EXIT_FAILED;

	if (!d.context)
		error__set(e, EXIT_FAILED, ENOMEM, NULL, "out of memory");
	else
		code = feed__read_all(NULL, l->input, o->input, &sink, &unread, e);
	if (unread.records && e->errnum != EPIPE)
		fprintf(stderr, "moeprobe: %s\n", unread__skipped(text, &unread));
	json_context__free(d.context);
	return code;
}

static int run(struct options *o, struct error *e)
{
	struct launch l;
	int code;

	if (launch__input(&l, o, e))
		return EXIT_FAILED;
	code = dump(o, &l, e);
	launch__free(&l);
	return code;
}

const struct command command_dump = {
	.name = "dump",
	.summary = "print every record of a recording",
	.spec = &spec,
	.run = run,
};
