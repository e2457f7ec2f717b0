/* SPDX-License-Identifier: BSD-2-Clause */
/* moeprobe record: write what a running server does to a file, as little as is asked for. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "analyzer/command.h"
#include "analyzer/interrupt.h"
#include "analyzer/launch.h"
#include "analyzer/command_line.h"
#include "analyzer/output_file.h"
#include "analyzer/reduce.h"
#include "analyzer/view/format.h"
#include "analyzer/view/live_view.h"
#include "analyzer/watch.h"
#include "collector/trace/writer.h"
#include "probe/base/error.h"

static const struct options_spec spec = {
	.program = "moeprobe record",
	.usage = "PID",
	.help = "Examples:\n"
		"  sudo moeprobe record 1234 -o a.moe -d 60\n"
		"  sudo moeprobe record 1234 -o a.moe --detail routes\n"
		"  sudo moeprobe record --port 8080 -o - | zstd > a.zst\n\n"
		"Writes what a running server's routers choose to a file that only you can read "
		"(mode "
		"0600), until Ctrl-C (SIGINT, or SIGTERM: the file is whole either way) or for -d "
		"SEC. Expert ids reveal text: the default detail "
		"keeps "
		"counts only. To view it: moeprobe report FILE, moeprobe top FILE.\n",
	.operand = OPERAND_PID,
	.operand_required = true,
	.keys = (const int[]){ OPTION_PID, OPTION_NAME, OPTION_PORT, OPTION_DURATION, OPTION_OUTPUT,
			       OPTION_DETAIL, OPTION_MAX_LOSS, OPTION_MIN_COVERAGE, OPTION_RING,
			       OPTION_HEADER, OPTION_USER, 0 },
};

static const char *detail_name(enum detail d)
{
	static const char *const name[] = {
#define X(id, text, holds) [DETAIL_##id] = text,
		DETAILS(X)
#undef X
	};

	return name[d];
}

static bool is_standard_output(const struct options *o)
{
	return !strcmp(o->output, "-");
}

/* What is only known once the capture is over: how much there is, and how to look at it. By what
 * was written: a limit that was exceeded takes nothing from the file. */
static void say_result(const struct options *o, const char *where,
		       const struct trace_writer *writer, const struct reducer *reducer, FILE *out)
{
	const enum reducer_outcome outcome = reducer__outcome(reducer);
	char size[FORMAT_SIZE];

	format__bytes(size, sizeof(size), trace_writer__bytes(writer));
	if (outcome != REDUCER_NOT_WRITTEN)
		fprintf(out, "recorded %s to ", size);
	else
		fprintf(out, "not all was written to ");
	fprintf(out, "%s%s (detail %s)", is_standard_output(o) ? "standard output" : where,
		outcome == REDUCER_BROKEN_OFF ? " until the stream broke off" : "",
		detail_name(o->detail));
	if (!is_standard_output(o))
		fprintf(out, "; to view it: moeprobe report %s", where);
	fputc('\n', out);
	if (reducer__dropped(reducer))
		fprintf(out, "left out: %" PRIu64 " choices that fitted no model or step\n",
			reducer__dropped(reducer));
}

static int record(const struct options *o, const struct launch *l, struct error *e)
{
	struct trace_writer_options writing = { .codec = TRACE_CODEC_ZSTD };
	FILE *out = is_standard_output(o) ? stderr : stdout;
	struct watch w = { .options = o, .launch = l, .view = &live_progress, .summary = out };
	struct trace_writer *writer = NULL;
	struct reducer *reducer = NULL;
	char source[64];
	int code = EXIT_FAILED;
	const char *where;

	snprintf(source, sizeof(source), "process %d", (int)o->pid);
	w.source = source;
	if (trace_writer__open(&writer, output_file__fd(l->output),
			       is_standard_output(o) ? "standard output" : o->output, &writing, e))
		return code;
	if (reducer__new(&reducer, o->detail, writer)) {
		error__set(e, EXIT_FAILED, ENOMEM, NULL, "out of memory");
		goto out;
	}
	w.reducer = reducer;
	w.writer = writer;
	w.output = l->output;
	code = watch__run(&w, e);
	where = output_file__published(l->output) ? output_file__where(l->output, e) : NULL;
	if (where && trace_writer__records(writer) > 1 && e->errnum != EPIPE)
		say_result(o, where, writer, reducer, out);
out:
	reducer__free(reducer);
	trace_writer__free(writer);
	return code;
}

static int run(struct options *o, struct error *e)
{
	struct launch l;
	int code;

	if (!o->output) {
		fprintf(stderr, "moeprobe record: where to? Give -o FILE\n");
		return EXIT_USAGE;
	}
	if (is_standard_output(o) && isatty(STDOUT_FILENO)) {
		fprintf(stderr, "moeprobe record: standard output is a terminal; give -o FILE\n");
		return EXIT_USAGE;
	}
	interrupt__catch();
	if (launch__collector(&l, COLLECTOR_ATTACH, o, e))
		return EXIT_FAILED;
	code = record(o, &l, e);
	launch__free(&l);
	return code;
}

const struct command command_record = {
	.name = "record",
	.summary = "write what a running server does to a file",
	.spec = &spec,
	.run = run,
};
