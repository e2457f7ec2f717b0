/* SPDX-License-Identifier: BSD-2-Clause */
/* moeprobe doctor: what works on this machine and on a server, and what to do if not. */
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>

#include "analyzer/command.h"
#include "analyzer/interrupt.h"
#include "analyzer/launch.h"
#include "analyzer/command_line.h"
#include "analyzer/feed.h"
#include "analyzer/standard_output.h"
#include "analyzer/view/findings.h"
#include "analyzer/view/table.h"
#include "probe/base/error.h"

static const struct options_spec spec = {
	.program = "moeprobe doctor",
	.usage = "[PID]",
	.help = "Examples:\n"
		"  sudo moeprobe doctor             rights and kernel\n"
		"  sudo moeprobe doctor 1234        and the probe places and their cost on process "
		"1234\n"
		"  sudo moeprobe doctor 1234 --json\n\n"
		"Says what works and what does not, and what to do about it. Nothing is attached. "
		"Exit "
		"code 0 if `moeprobe attach` would work.\n",
	.operand = OPERAND_PID,
	.keys = (const int[]){ OPTION_PID, OPTION_NAME, OPTION_PORT, OPTION_JSON, OPTION_HEADER,
			       OPTION_USER, 0 },
};

static int print_text(const struct findings *f, struct error *e)
{
	struct table *table;
	int err = findings__doctor_table(&table, f);

	if (err)
		return error__set(e, EXIT_FAILED, -err, NULL, "out of memory");
	table__print(table, stdout);
	table__free(table);
	return standard_output__flush("doctor", e);
}

static int print_json(const struct findings *f, int code, struct error *e)
{
	struct json_object *o = json_object_new_object();
	struct table *table;
	int err = findings__doctor_table(&table, f);

	if (!err) {
		json_object_object_add(o, "exit_code", json_object_new_int(code));
		json_object_object_add(o, table__name(table), table__json(table));
		printf("%s\n",
		       json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY |
								 JSON_C_TO_STRING_NOSLASHESCAPE));
		table__free(table);
	}
	json_object_put(o);
	return err ? error__set(e, EXIT_FAILED, -err, NULL, "out of memory")
		   : standard_output__flush("doctor", e);
}

/* What was found comes before the collector's last word, which is what stands in the way; JSON
 * holds the exit code, which is known after it. */
static int examine(const struct options *o, const struct launch *l, struct error *e)
{
	struct feed_sink sink = { .take = findings__take };
	struct findings *findings = NULL;
	struct feed *feed = NULL;
	int code = EXIT_FAILED, err = 0;

	if (findings__new(&findings)) {
		error__set(e, EXIT_FAILED, ENOMEM, NULL, "out of memory");
		return code;
	}
	sink.ctx = findings;
	if (feed__open(&feed, l->collector, -1, "the collector", &sink, e))
		goto out;
	feed__hold_messages(feed);
	feed__run(feed, e);
	if (!o->json)
		err = print_text(findings, e);
	code = feed__finish(feed, e);
	if (o->json)
		err = print_json(findings, code, e);
	if (err)
		code = EXIT_FAILED;
out:
	feed__free(feed);
	findings__free(findings);
	return code;
}

static int run(struct options *o, struct error *e)
{
	struct launch l;
	int code;

	interrupt__catch();
	if (launch__collector(&l, COLLECTOR_DOCTOR, o, e))
		return EXIT_FAILED;
	code = examine(o, &l, e);
	launch__free(&l);
	return code;
}

const struct command command_doctor = {
	.name = "doctor",
	.summary = "say what works on this machine and on a server",
	.spec = &spec,
	.run = run,
};
