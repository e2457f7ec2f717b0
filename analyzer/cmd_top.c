/* SPDX-License-Identifier: BSD-2-Clause */
/* moeprobe top: watch a recording again, or a stream from elsewhere. */
#include <stdio.h>
#include <sys/stat.h>

#include "analyzer/command.h"
#include "analyzer/interrupt.h"
#include "analyzer/launch.h"
#include "analyzer/command_line.h"
#include "analyzer/watch.h"
#include "probe/base/error.h"

static const struct options_spec spec = {
	.program = "moeprobe top",
	.usage = "FILE",
	.help = "Examples:\n"
		"  moeprobe top a.moe               replay a recording as it happened\n"
		"  moeprobe top a.moe --speed 10    ten times as fast; 0: at once\n"
		"  ssh host sudo moeprobe-collector 1234 | moeprobe top -\n\n"
		"Shows a recording, or a stream on standard input (FILE is -), as `moeprobe "
		"attach` "
		"shows a running server.\n",
	.operand = OPERAND_FILE,
	.operand_required = true,
	.keys = (const int[]){ OPTION_SPEED, OPTION_NO_TUI, OPTION_MAX_LOSS, OPTION_MIN_COVERAGE,
			       OPTION_USER, 0 },
};

static int run(struct options *o, struct error *e)
{
	struct watch w = { .summary = stdout };
	struct launch l;
	struct stat st;
	int code;

	interrupt__catch();
	if (launch__input(&l, o, e))
		return EXIT_FAILED;
	w.options = o;
	w.launch = &l;
	w.source = o->input[0] == '-' && !o->input[1] ? "standard input" : o->input;
	w.view = watch__choose_view(o);
	w.replay = !fstat(l.input, &st) && S_ISREG(st.st_mode);
	code = watch__run(&w, e);
	launch__free(&l);
	return code;
}

const struct command command_top = {
	.name = "top",
	.summary = "watch a file or a stream on standard input",
	.spec = &spec,
	.run = run,
};
