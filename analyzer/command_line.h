/* SPDX-License-Identifier: BSD-2-Clause */
/* The command line: one table of options that the subcommands choose from, read by argp. */
#ifndef MP_ANALYZER_COMMAND_LINE_H
#define MP_ANALYZER_COMMAND_LINE_H

#include <argp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "analyzer/reduce.h"
#include "probe/base/header_name.h"

/* What the user asked for. Strings are borrowed from argv; NULL or 0: not given. */
struct options {
	bool help;
	pid_t pid;
	const char *name;
	uint16_t port;
	double duration_s;
	const char *output, *input;
	enum detail detail;
	bool json, no_tui;
	const char *user;
	double max_loss_percent, min_coverage_percent; /* negative: not given */
	uint64_t ring_bytes;
	struct header_names headers; /* of requests, to be read */
	double speed;                /* of a replay; 0: as fast as it can be read */
};

enum option_key {
	OPTION_PID = 'p',
	OPTION_DURATION = 'd',
	OPTION_OUTPUT = 'o',
	OPTION_HELP = 'h',
	OPTION_NAME = 256,
	OPTION_PORT,
	OPTION_DETAIL,
	OPTION_JSON,
	OPTION_NO_TUI,
	OPTION_USER,
	OPTION_MAX_LOSS,
	OPTION_MIN_COVERAGE,
	OPTION_RING,
	OPTION_HEADER,
	OPTION_SPEED,
	OPTION_USAGE,
};

enum operand { OPERAND_NONE, OPERAND_PID, OPERAND_FILE };

/* One subcommand's command line. */
struct options_spec {
	const char *program; /* "moeprobe attach" */
	const char *usage;   /* "[PID]" */
	const char *help;    /* examples first, then what it does */
	enum operand operand;
	bool operand_required;
	const int *keys; /* enum option_key, ended by 0; help and usage are always there */
};

/*
 * Read @argv (argv[0] is skipped). 0; or -EINVAL, after the reason was said on standard error.
 * With @out->help set, the help was printed on standard output and there is nothing to do.
 */
int command_line__parse(const struct options_spec *spec, int argc, char **argv,
			struct options *out);

/* What the collector takes: a bad value is refused here, in the user's own words. */
#define DURATION_MIN_S 0.001
#define DURATION_MAX_S 1e9
#define RING_MIN (64u << 10)
#define RING_MAX (16u << 20)

/* The parsers of values: 0 or -EINVAL, @out unchanged on error. */
int parse__pid(const char *text, pid_t *out);
int parse__port(const char *text, uint16_t *out);
/* "10", "1.5", "90s", "2m", "1h"; DURATION_MIN_S to DURATION_MAX_S */
int parse__duration(const char *text, double *seconds);
/* 0 .. 100, an ending "%" is accepted */
int parse__percent(const char *text, double *out);
/* "65536", "64K", "16M" */
int parse__bytes(const char *text, uint64_t *out);
/* The same, a power of two from RING_MIN to RING_MAX */
int parse__ring(const char *text, uint64_t *out);

#endif
