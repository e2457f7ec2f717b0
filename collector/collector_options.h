/* SPDX-License-Identifier: BSD-2-Clause */
/* The command line of moeprobe-collector. */
#ifndef MP_COLLECTOR_COLLECTOR_OPTIONS_H
#define MP_COLLECTOR_COLLECTOR_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "probe/base/header_name.h"

struct error;

/* Plain data; strings belong to argv. */
struct collector_options {
	pid_t pid;            /* 0: none named */
	uint64_t duration_ns; /* 0: until stopped */
	uint32_t ring_bytes;
	const char *raw_log;         /* NULL: none */
	const char *replay;          /* NULL: none */
	const char *user;            /* NULL: chosen by sandbox__choose */
	const char *program;         /* for messages */
	struct header_names headers; /* of requests, to be read */
	bool list, doctor, verbose;
};

/* The program's name for messages, also when the command line cannot be read. */
const char *collector_options__program(int argc, char **argv);
/* 0; 1: it was --help or --version, and is done; -EINVAL with EXIT_USAGE. */
int collector_options__parse(struct collector_options *o, int argc, char **argv, struct error *e);

#endif
