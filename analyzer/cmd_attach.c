/* SPDX-License-Identifier: BSD-2-Clause */
/* moeprobe attach: watch a running server; without one, list the candidates. */
#include <errno.h>
#include <stdio.h>

#include "analyzer/command.h"
#include "analyzer/interrupt.h"
#include "analyzer/launch.h"
#include "analyzer/command_line.h"
#include "analyzer/feed.h"
#include "analyzer/standard_output.h"
#include "analyzer/view/lines.h"
#include "analyzer/view/servers.h"
#include "analyzer/view/table.h"
#include "analyzer/watch.h"
#include "probe/base/error.h"

static const struct options_spec spec = {
	.program = "moeprobe attach",
	.usage = "[PID]",
	.help = "Examples:\n"
		"  moeprobe attach                  list the servers that run here\n"
		"  sudo moeprobe attach 1234        watch process 1234\n"
		"  sudo moeprobe attach --port 8080 watch the server on port 8080\n"
		"  sudo moeprobe attach 1234 --no-tui -d 10 | grep decisions=\n\n"
		"Shows which experts of a running server fire, live. The server is neither stopped "
		"nor "
		"changed; ending moeprobe, in whatever way, detaches.\n",
	.operand = OPERAND_PID,
	.keys = (const int[]){ OPTION_PID, OPTION_NAME, OPTION_PORT, OPTION_DURATION, OPTION_NO_TUI,
			       OPTION_MAX_LOSS, OPTION_MIN_COVERAGE, OPTION_RING, OPTION_HEADER,
			       OPTION_USER, 0 },
};

/* The exit code: an empty list is an answer, unless we had no right to look. */
static int print_servers(const struct servers *s, struct error *e)
{
	const char *what = NULL, *remedy = NULL;
	size_t refused = servers__refused(s);
	struct table *table;

	if (servers__table(&table, s)) {
		error__set(e, EXIT_FAILED, ENOMEM, NULL, "out of memory");
		return EXIT_FAILED;
	}
	servers__obstacle(s, &what, &remedy);
	if (!table__rows(table) && !refused && what) {
		table__free(table);
		error__set(e, EXIT_PERMISSION, EACCES, remedy,
			   "attach: failed to find a server: %s", what);
		return EXIT_PERMISSION;
	}
	if (table__rows(table)) {
		table__note(table, "cost: what probes take of a decode step, in each thread that "
				   "computes it");
		table__note(table,
			    "choose one: sudo moeprobe attach PID (or --name NAME, --port PORT)");
		table__print(table, stdout);
	} else {
		puts("no server that can be attached to was found");
	}
	table__free(table);
	if (refused) {
		puts("\nServers that cannot be attached to");
		servers__print_refused(s, stdout);
	}
	if (what)
		lines__print(stdout, 2, "%s; for the whole list: %s", what, remedy);
	return standard_output__flush("attach", e) ? EXIT_FAILED : EXIT_OK;
}

static int list(struct options *o, struct error *e)
{
	struct feed_sink sink = { .take = servers__take };
	struct servers *servers = NULL;
	struct launch l;
	int code = EXIT_FAILED;

	if (launch__collector(&l, COLLECTOR_LIST, o, e))
		return code;
	if (servers__new(&servers)) {
		error__set(e, EXIT_FAILED, ENOMEM, NULL, "out of memory");
		goto out;
	}
	sink.ctx = servers;
	code = feed__read_all(l.collector, -1, "the list of servers", &sink, NULL, e);
	if (code == EXIT_OK)
		code = print_servers(servers, e);
out:
	servers__free(servers);
	launch__free(&l);
	return code;
}

static int run(struct options *o, struct error *e)
{
	struct watch w = { .summary = stdout };
	struct launch l;
	char source[64];
	int code;

	interrupt__catch();
	if (!o->pid && !o->name && !o->port)
		return list(o, e);
	if (launch__collector(&l, COLLECTOR_ATTACH, o, e))
		return EXIT_FAILED;
	snprintf(source, sizeof(source), "process %d", (int)o->pid);
	w.options = o;
	w.launch = &l;
	w.source = source;
	w.view = watch__choose_view(o);
	code = watch__run(&w, e);
	launch__free(&l);
	return code;
}

const struct command command_attach = {
	.name = "attach",
	.summary = "watch a running server, or list the candidates",
	.spec = &spec,
	.run = run,
};
