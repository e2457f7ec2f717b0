/* SPDX-License-Identifier: BSD-2-Clause */
/* The collector as our child: its stream, its messages, and how it is ended. */
#ifndef MP_ANALYZER_SPAWN_H
#define MP_ANALYZER_SPAWN_H

#include <stdbool.h>
#include <stddef.h>

struct error;
struct options;
struct collector;

/* What the collector is asked to do. */
enum collector_task { COLLECTOR_ATTACH, COLLECTOR_LIST, COLLECTOR_DOCTOR };

/*
 * Start the collector: moeprobe-collector beside our own program, else in PATH. Call before
 * privileges are dropped. It ends when it is stopped, and whenever we end, however that happens.
 */
int collector__start(struct collector **out, enum collector_task task, const struct options *o,
		     struct error *e);

/* Non-blocking descriptors of its stream and of its messages; -1 once it closed them. */
int collector__stream_fd(const struct collector *c);
int collector__message_fd(const struct collector *c);

/*
 * The next whole line of its messages, without its end, valid until the next call; NULL: none
 * now. At its end a line without an end is handed out too.
 */
const char *collector__message(struct collector *c);

/* Ask it to stop: it detaches, sends what it has, and END. Again: nothing more happens. */
void collector__stop(struct collector *c);
/* Wait for its end; its exit code, or EXIT_FAILED (with @e set) if a signal ended it. */
int collector__wait(struct collector *c, struct error *e);
/* Stop and forget it without waiting. Accepts NULL. */
void collector__free(struct collector *c);

#endif
