/* SPDX-License-Identifier: BSD-2-Clause */
/* moeprobe report: sum a recording up. */
#include <errno.h>
#include <stdio.h>

#include "analyzer/command.h"
#include "analyzer/launch.h"
#include "analyzer/command_line.h"
#include "analyzer/feed.h"
#include "analyzer/standard_output.h"
#include "analyzer/state/state.h"
#include "analyzer/view/report.h"
#include "analyzer/view/status.h"
#include "probe/base/error.h"

static const struct options_spec spec = {
	.program = "moeprobe report",
	.usage = "FILE",
	.help = "Examples:\n"
		"  moeprobe report a.moe\n"
		"  moeprobe report a.moe --json | jq '.layers[] | {layer, max_over_mean}'\n"
		"  moeprobe report a.moe --max-loss 1 || echo lossy\n\n"
		"Sums a recording (or a stream on standard input, if FILE is -) up: the model, how "
		"evenly its experts are used, every request, and what is missing and why. "
		"Coverage is what was seen of what was computed while requests ran: seen / "
		"(expected - cached - not computed), in rows x layers of ended requests.\n",
	.operand = OPERAND_FILE,
	.operand_required = true,
	.keys = (const int[]){ OPTION_JSON, OPTION_MAX_LOSS, OPTION_MIN_COVERAGE, OPTION_USER, 0 },
};

static int take(void *ctx, const struct trace_item *item, struct error *e)
{
	if (!state__apply(ctx, item))
		return 0;
	return error__set(e, EXIT_FAILED, ENOMEM, NULL, "out of memory");
}

static int print(const struct state *s, const struct options *o, struct error *e)
{
	struct report *report;
	int err = report__build(&report, s, o->input);

	if (!err && o->json)
		err = report__print_json(report, stdout);
	else if (!err)
		report__print(report, stdout);
	report__free(report);
	if (err == -ENOMEM)
		return error__set(e, EXIT_FAILED, ENOMEM, NULL, "out of memory");
	return err ? standard_output__failed("report", err, e)
		   : standard_output__flush("report", e);
}

/* What precedes a damage is good data: it is reported, then the damage is. */
static int report(const struct options *o, const struct launch *l, struct error *e)
{
	struct feed_sink sink = { .take = take };
	struct trace_unread unread;
	struct state *state = NULL;
	int code = EXIT_FAILED;

	if (state__new(&state)) {
		error__set(e, EXIT_FAILED, ENOMEM, NULL, "out of memory");
		return code;
	}
	sink.ctx = state;
	code = feed__read_all(NULL, l->input, o->input, &sink, &unread, e);
	state__set_unread(state, &unread);
	if (state__summary(state)->records && print(state, o, e))
		code = EXIT_FAILED;
	if (code == EXIT_OK)
		code = status__check_loss(state, o->max_loss_percent, "report", e);
	if (code == EXIT_OK)
		code = status__check_coverage(state, o->min_coverage_percent, "report", e);
	state__free(state);
	return code;
}

static int run(struct options *o, struct error *e)
{
	struct launch l;
	int code;

	if (launch__input(&l, o, e))
		return EXIT_FAILED;
	code = report(o, &l, e);
	launch__free(&l);
	return code;
}

const struct command command_report = {
	.name = "report",
	.summary = "sum a recording up",
	.spec = &spec,
	.run = run,
};
