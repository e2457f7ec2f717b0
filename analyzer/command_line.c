/* SPDX-License-Identifier: BSD-2-Clause */
#include "analyzer/command_line.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* argp's groups order the help; within a group it sorts by name. */
static const struct argp_option all_options[] = {
	{ "pid", OPTION_PID, "PID", 0, "The server's process", 1 },
	{ "name", OPTION_NAME, "NAME", 0,
	  "The server whose command or model (name, architecture) has NAME in it", 1 },
	{ "port", OPTION_PORT, "PORT", 0, "The server that listens on PORT", 1 },
	{ "duration", OPTION_DURATION, "SEC", 0,
	  "End after SEC seconds (0.001 at least; also 2m, 1h)", 2 },
	{ "output", OPTION_OUTPUT, "FILE", 0, "Write here (mode 0600); - is standard output", 2 },
	{ "detail", OPTION_DETAIL, "DETAIL", 0,
	  "What reaches the file: requests (expert counts a request; the default), routes (expert "
	  "ids and weights of every token) or tokens (token ids too: reveals the text)",
	  2 },
	{ "speed", OPTION_SPEED, "X", 0, "Replay a file X times as fast (default 1; 0: at once)",
	  2 },
	{ "json", OPTION_JSON, NULL, 0, "Write JSON", 3 },
	{ "no-tui", OPTION_NO_TUI, NULL, 0, "Plain text once a second, also on a terminal", 3 },
	{ "max-loss", OPTION_MAX_LOSS, "PERCENT", 0,
	  "Exit with 6 if more of the decisions was lost, of what the probes delivered or should "
	  "have; what was computed before, or is of no probe, is not in it: --min-coverage",
	  4 },
	{ "min-coverage", OPTION_MIN_COVERAGE, "PERCENT", 0,
	  "Exit with 6 if less of the ended requests was seen, or none ended", 4 },
	{ "ring", OPTION_RING, "BYTES", 0,
	  "Size of the kernel's ring: a power of two from 64K to 16M (default 8M)", 4 },
	{ "header", OPTION_HEADER, "NAME", 0,
	  "Read this header of the requests that the server receives; each request has it as a "
	  "label. Up to four times. Every system call of the machine takes longer meanwhile",
	  4 },
	{ "user", OPTION_USER, "NAME", 0,
	  "As root, become NAME (default: the user of sudo, else nobody)", 4 },
	{ "help", OPTION_HELP, NULL, 0, "Show this help", -1 },
	{ "usage", OPTION_USAGE, NULL, OPTION_HIDDEN, NULL, -1 }, /* argp's messages name it */
};

#define ALL_OPTIONS (sizeof(all_options) / sizeof(*all_options))

/* The whole of @text as a number, @suffix what follows it. */
static int parse_number(const char *text, double *out, const char **suffix)
{
	char *end;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	errno = 0;
	*out = strtod(text, &end);
	if (errno || end == text || !isfinite(*out) || text[1] == 'x' || text[1] == 'X')
		return -EINVAL;
	*suffix = end;
	return 0;
}

static int parse_unsigned(const char *text, uint64_t most, uint64_t *out, const char **suffix)
{
	unsigned long long value;
	char *end;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno || value > most)
		return -EINVAL;
	*out = value;
	*suffix = end;
	return 0;
}

int parse__pid(const char *text, pid_t *out)
{
	const char *suffix;
	uint64_t value;

	if (parse_unsigned(text, INT32_MAX, &value, &suffix) || *suffix || !value)
		return -EINVAL;
	*out = (pid_t)value;
	return 0;
}

int parse__port(const char *text, uint16_t *out)
{
	const char *suffix;
	uint64_t value;

	if (parse_unsigned(text, UINT16_MAX, &value, &suffix) || *suffix || !value)
		return -EINVAL;
	*out = (uint16_t)value;
	return 0;
}

int parse__duration(const char *text, double *seconds)
{
	static const struct {
		const char *suffix;
		double factor;
	} unit[] = { { "", 1 }, { "s", 1 }, { "m", 60 }, { "h", 3600 } };
	const char *suffix;
	double value;

	if (parse_number(text, &value, &suffix))
		return -EINVAL;
	for (size_t i = 0; i < sizeof(unit) / sizeof(*unit); i++) {
		if (strcmp(suffix, unit[i].suffix) != 0)
			continue;
		value *= unit[i].factor;
		if (value < DURATION_MIN_S || value > DURATION_MAX_S)
			return -EINVAL;
		*seconds = value;
		return 0;
	}
	return -EINVAL;
}

int parse__percent(const char *text, double *out)
{
	const char *suffix;
	double value;

	if (parse_number(text, &value, &suffix) || value > 100 ||
	    (*suffix && strcmp(suffix, "%") != 0))
		return -EINVAL;
	*out = value;
	return 0;
}

int parse__bytes(const char *text, uint64_t *out)
{
	static const char letters[] = "KMG";
	const char *suffix, *letter;
	unsigned shift = 0;
	uint64_t value;

	if (parse_unsigned(text, UINT32_MAX, &value, &suffix) || !value)
		return -EINVAL;
	if (*suffix) {
		letter = strchr(letters, *suffix);
		if (!letter || suffix[1])
			return -EINVAL;
		shift = 10 * (unsigned)(letter - letters + 1);
	}
	*out = value << shift;
	return 0;
}

int parse__ring(const char *text, uint64_t *out)
{
	uint64_t bytes;

	if (parse__bytes(text, &bytes) || bytes < RING_MIN || bytes > RING_MAX ||
	    bytes & (bytes - 1))
		return -EINVAL;
	*out = bytes;
	return 0;
}

struct parse {
	const struct options_spec *spec;
	struct options *out;
	struct argp_state *state;
};

/* Say what is wrong with @arg; argp adds the program's name and where help is. */
static error_t bad_value(struct argp_state *state, const char *option, const char *arg,
			 const char *wants)
{
	argp_error(state, "%s: '%s' is not %s", option, arg, wants);
	return EINVAL;
}

static error_t parse_detail(struct argp_state *state, const char *arg, enum detail *out)
{
	int err = detail__parse(out, arg);

	if (err == -ENOTSUP) {
		argp_error(state,
			   "--detail: '%s' is not available yet: this version records "
			   "requests, routes or tokens",
			   arg);
		return EINVAL;
	}
	return err ? bad_value(state, "--detail", arg, "requests, routes or tokens") : 0;
}

static error_t parse_speed(struct argp_state *state, const char *arg, double *out)
{
	const char *suffix;

	if (parse_number(arg, out, &suffix) || (*suffix && strcmp(suffix, "x") != 0))
		return bad_value(state, "--speed", arg, "a number from 0 (0: at once)");
	return 0;
}

static error_t parse_ring(struct argp_state *state, const char *arg, uint64_t *out)
{
	if (!parse__ring(arg, out))
		return 0;
	return bad_value(state, "--ring", arg, "a power of two from 64K to 16M bytes");
}

static error_t parse_header(struct argp_state *state, const char *arg, struct header_names *out)
{
	int err = header_names__add(out, arg);

	if (err == -ENOSPC) {
		argp_error(state, "--header: '%s' is one too many: four headers can be read", arg);
		return EINVAL;
	}
	return err ? bad_value(state, "--header", arg, "a header's name (x-request-id)") : 0;
}

static error_t parse_operand(struct argp_state *state, char *arg)
{
	struct parse *p = state->input;
	struct options *o = p->out;

	if (p->spec->operand == OPERAND_FILE && !o->input) {
		o->input = arg;
		return 0;
	}
	if (p->spec->operand == OPERAND_PID && !o->pid) {
		if (!parse__pid(arg, &o->pid))
			return 0;
		return bad_value(state, "PID", arg,
				 "a process id (to look one up: --name, --port)");
	}
	argp_error(state, "too many arguments: '%s'", arg);
	return EINVAL;
}

static error_t check_whole(struct argp_state *state)
{
	struct parse *p = state->input;
	struct options *o = p->out;
	int ways = (o->pid != 0) + (o->name != NULL) + (o->port != 0);

	if (o->help)
		return 0;
	if (ways > 1) {
		argp_error(state, "give one of PID, --name and --port");
		return EINVAL;
	}
	if (!p->spec->operand_required)
		return 0;
	if (p->spec->operand == OPERAND_FILE ? !o->input : !ways) {
		argp_error(state, p->spec->operand == OPERAND_FILE
					  ? "which FILE? (- is standard input)"
					  : "which server? Give a PID, --name or --port; `moeprobe "
					    "attach` lists candidates");
		return EINVAL;
	}
	return 0;
}

static error_t show_help(struct argp_state *state, struct options *o, unsigned flags)
{
	if (!o->help)
		argp_state_help(state, stdout, flags);
	o->help = true;
	return 0;
}

static error_t parse_key(int key, char *arg, struct argp_state *state)
{
	struct parse *p = state->input;
	struct options *o = p->out;

	switch (key) {
	case OPTION_PID:
		return parse__pid(arg, &o->pid) ? bad_value(state, "-p", arg, "a process id") : 0;
	case OPTION_NAME:
		o->name = arg;
		return *arg ? 0 : bad_value(state, "--name", arg, "a name");
	case OPTION_PORT:
		return parse__port(arg, &o->port)
			       ? bad_value(state, "--port", arg, "a port from 1 to 65535")
			       : 0;
	case OPTION_DURATION:
		return parse__duration(arg, &o->duration_s)
			       ? bad_value(state, "-d", arg,
					   "a time from 0.001 to 1e9 seconds (90, 1.5, 2m, 1h)")
			       : 0;
	case OPTION_OUTPUT:
		o->output = arg;
		return 0;
	case OPTION_DETAIL:
		return parse_detail(state, arg, &o->detail);
	case OPTION_SPEED:
		return parse_speed(state, arg, &o->speed);
	case OPTION_JSON:
		o->json = true;
		return 0;
	case OPTION_NO_TUI:
		o->no_tui = true;
		return 0;
	case OPTION_USER:
		o->user = arg;
		return 0;
	case OPTION_MAX_LOSS:
		return parse__percent(arg, &o->max_loss_percent)
			       ? bad_value(state, "--max-loss", arg, "a percentage from 0 to 100")
			       : 0;
	case OPTION_MIN_COVERAGE:
		return parse__percent(arg, &o->min_coverage_percent)
			       ? bad_value(state, "--min-coverage", arg,
					   "a percentage from 0 to 100")
			       : 0;
	case OPTION_RING:
		return parse_ring(state, arg, &o->ring_bytes);
	case OPTION_HEADER:
		return parse_header(state, arg, &o->headers);
	case OPTION_HELP:
		return show_help(state, o, ARGP_HELP_USAGE | ARGP_HELP_LONG | ARGP_HELP_DOC);
	case OPTION_USAGE:
		return show_help(state, o, ARGP_HELP_USAGE);
	case ARGP_KEY_ARG:
		return parse_operand(state, arg);
	case ARGP_KEY_END:
		return check_whole(state);
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static void choose_options(const int *keys, struct argp_option out[ALL_OPTIONS + 1])
{
	size_t used = 0;

	for (size_t i = 0; i < ALL_OPTIONS; i++) {
		const int *key = keys;

		while (*key && *key != all_options[i].key)
			key++;
		if (*key || all_options[i].key == OPTION_HELP || all_options[i].key == OPTION_USAGE)
			out[used++] = all_options[i];
	}
	memset(&out[used], 0, sizeof(*out));
}

int command_line__parse(const struct options_spec *spec, int argc, char **argv, struct options *out)
{
	struct argp_option chosen[ALL_OPTIONS + 1];
	struct argp argp = {
		.options = chosen,
		.parser = parse_key,
		.args_doc = spec->usage,
		.doc = spec->help,
	};
	struct parse parse = { .spec = spec, .out = out };
	char *name = argv[0];
	error_t err;

	memset(out, 0, sizeof(*out));
	out->max_loss_percent = out->min_coverage_percent = -1;
	out->speed = 1;
	choose_options(spec->keys, chosen);
	setenv("ARGP_HELP_FMT", "no-dup-args-note", 0);
	/* argp takes the program's name for its messages from here. */
	argv[0] = (char *)spec->program;
	err = argp_parse(&argp, argc, argv, ARGP_NO_EXIT | ARGP_NO_HELP, NULL, &parse);
	argv[0] = name;
	if (out->help)
		return 0;
	return err ? -EINVAL : 0;
}
