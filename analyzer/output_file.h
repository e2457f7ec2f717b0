/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The file of -o. What stood there before survives until there is something to put in its place:
 * we write beside it, and rename once the first record came. We have no rights by then, so a
 * child that keeps those of whoever typed the command waits to rename, or, if we end before, to
 * remove. It reads nothing but one byte of ours.
 */
#ifndef MP_ANALYZER_OUTPUT_FILE_H
#define MP_ANALYZER_OUTPUT_FILE_H

#include <stdbool.h>

struct error;
struct identity;
struct output_file;

/*
 * Prepare to write @path with the rights of whoever typed the command; call before they are given
 * up. "-", /dev/stdout and the like are our own descriptors; devices and pipes are written
 * directly. A link, and a file that is neither empty nor a recording, is refused.
 */
int output_file__open(struct output_file **out, const struct identity *id, const char *path,
		      struct error *e);
int output_file__fd(const struct output_file *o);
/* Put it in its place; the first call does it. */
int output_file__publish(struct output_file *o, struct error *e);
bool output_file__published(const struct output_file *o);
/* Close; what was not put in its place is removed. Accepts NULL. */
void output_file__free(struct output_file *o);

#endif
