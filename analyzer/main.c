/* SPDX-License-Identifier: BSD-2-Clause */
/* moeprobe: choose the subcommand, say what went wrong, exit. */
#include <errno.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "analyzer/command.h"
#include "analyzer/command_line.h"
#include "analyzer/standard_output.h"
#include "probe/base/error.h"

/* Who reads our output has enough of it (| head): nobody is left to tell, and the code is the one
 * that a shell sees of a program that the signal ended, which may happen as well. */
#define READER_GONE (128 + SIGPIPE)

static const char examples[] =
	"Examples:\n"
	"  moeprobe attach                         list the servers that can be looked at\n"
	"  sudo moeprobe attach 1234               watch process 1234, live\n"
	"  sudo moeprobe record 1234 -o a.moe -d 60  record it for a minute\n"
	"  moeprobe report a.moe                   which experts, how evenly, for whom\n"
	"  ssh host sudo moeprobe-collector 1234 | moeprobe top -\n"
	"  sudo moeprobe doctor 1234               what works here, and what to do if not\n";

static const struct command *const commands[] = {
	&command_attach, &command_record, &command_top,
	&command_report, &command_dump,   &command_doctor,
};
#define COMMANDS (sizeof(commands) / sizeof(*commands))

static int print_help(FILE *out)
{
	fprintf(out,
		"Usage: moeprobe COMMAND [OPTION...]\n"
		"Shows which experts of a running mixture-of-experts server fire, exactly.\n\n"
		"%s\nCommands:\n",
		examples);
	for (size_t i = 0; i < COMMANDS; i++)
		fprintf(out, "  %-8s  %s\n", commands[i]->name, commands[i]->summary);
	fprintf(out, "\nmoeprobe COMMAND --help says more; moeprobe --version.\n");
	return out == stdout ? EXIT_OK : EXIT_USAGE;
}

static int run_command(const struct command *c, int argc, char **argv, struct error *e)
{
	struct options o;

	if (command_line__parse(c->spec, argc, argv, &o))
		return EXIT_USAGE;
	return o.help ? EXIT_OK : c->run(&o, e);
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
	for (size_t i = 0; i < COMMANDS; i++)
		if (!strcmp(name, commands[i]->name))
			return run_command(commands[i], argc - 1, argv + 1, e);
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
	if (code == EXIT_OK && !error__is_set(&e))
		standard_output__flush("output", &e);
	if (!error__is_set(&e))
		return code;
	if (e.errnum == EPIPE)
		return READER_GONE;
	error__print(&e, "moeprobe", stderr);
	return e.exit;
}
