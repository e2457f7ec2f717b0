/* SPDX-License-Identifier: BSD-2-Clause */
/* A subcommand. All of them are one array, commands[], in main.c. */
#ifndef MP_ANALYZER_COMMAND_H
#define MP_ANALYZER_COMMAND_H

struct error;

struct command {
	const char *name;
	const char *summary; /* for the list in --help */
	/* argv[0] is the subcommand. The exit code; with @e set, main says it and exits by it. */
	int (*run)(int argc, char **argv, struct error *e);
};

extern const struct command commands[]; /* ended by a NULL name */

int cmd_attach(int argc, char **argv, struct error *e);
int cmd_record(int argc, char **argv, struct error *e);
int cmd_top(int argc, char **argv, struct error *e);
int cmd_report(int argc, char **argv, struct error *e);
int cmd_dump(int argc, char **argv, struct error *e);
int cmd_doctor(int argc, char **argv, struct error *e);

#endif
