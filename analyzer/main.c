/* SPDX-License-Identifier: BSD-2-Clause */
/* moeprobe: choose the subcommand, say what went wrong, exit. */
#include <locale.h>
#include <stdio.h>
#include <string.h>

#include "analyzer/command.h"
#include "probe/base/error.h"

static const char examples[] =
	"Examples:\n"
	"  moeprobe attach                         list the servers that can be looked at\n"
	"  sudo moeprobe attach 1234               watch process 1234, live\n"
	"  sudo moeprobe record 1234 -o a.moe -d 60  record it for a minute\n"
	"  moeprobe report a.moe                   which experts, how evenly, for whom\n"
	"  ssh host sudo moeprobe-collector 1234 | moeprobe top -\n"
	"  sudo moeprobe doctor 1234               what works here, and what to do if not\n";

static int print_help(FILE *out)
{
	fprintf(out,
		"Usage: moeprobe COMMAND [OPTION...]\n"
		"Shows which experts of a running mixture-of-experts server fire, exactly.\n\n"
		"%s\nCommands:\n",
		examples);
	for (const struct command *c = commands; c->name; c++)
		fprintf(out, "  %-8s  %s\n", c->name, c->summary);
	fprintf(out, "\nmoeprobe COMMAND --help says more; moeprobe --version.\n");
	return out == stdout ? EXIT_OK : EXIT_USAGE;
}

static int run(int argc, char **argv, struct error *e)
{
	const char *name = argc > 1 ? argv[1] : "";

	if (!strcmp(name, "--help") || !strcmp(name, "-h") || !strcmp(name, "help"))
		return print_help(stdout);
	if (!strcmp(name, "--version") || !strcmp(name, "-V")) {
		printf("moeprobe %s\n", MOEPROBE_VERSION);
		return EXIT_OK;
	}
	for (const struct command *c = commands; c->name; c++)
		if (!strcmp(name, c->name))
			return c->run(argc - 1, argv + 1, e);
	if (*name)
		fprintf(stderr, "moeprobe: '%s' is not a command\n", name);
	return print_help(stderr);
}

int main(int argc, char **argv)
{
	struct error e = { 0 };
	int code;

	setlocale(LC_CTYPE, "");
	code = run(argc, argv, &e);
	if (error__is_set(&e)) {
		error__print(&e, "moeprobe", stderr);
		code = e.exit;
	}
	if (fflush(stdout) && code == EXIT_OK) {
		fprintf(stderr, "moeprobe: failed to write standard output\n");
		code = EXIT_FAILED;
	}
	return code;
}

const struct command commands[] = {
	{ "attach", "watch a running server, or list the candidates", cmd_attach },
	{ "record", "write what a running server does to a file", cmd_record },
	{ "top", "watch a file or a stream on standard input", cmd_top },
	{ "report", "sum a recording up", cmd_report },
	{ "dump", "print every record of a recording", cmd_dump },
	{ "doctor", "say what works on this machine and on a server", cmd_doctor },
	{ NULL, NULL, NULL },
};
