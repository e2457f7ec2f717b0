/* SPDX-License-Identifier: BSD-2-Clause */
/* A subcommand: a file cmd_NAME.c, a line here and one in main.c's array of all of them. */
#ifndef MP_ANALYZER_COMMAND_H
#define MP_ANALYZER_COMMAND_H

struct error;
struct options;
struct options_spec;

struct command {
	const char *name;
	const char *summary; /* for the list in --help */
	const struct options_spec *spec;
	/* Called once the command line is read. The exit code; with @e set, main says it and exits
	 * by it. */
	int (*run)(struct options *o, struct error *e);
};

extern const struct command command_attach, command_record, command_top, command_report,
	command_dump, command_doctor;

#endif
