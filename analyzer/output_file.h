/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The file of -o. What stood there before survives until there is something to put in its place:
 * we write beside it, and rename once the first record came. We have no rights by then, so a
 * child that keeps those of whoever typed the command waits to rename, or, if we end before, to
 * remove. It reads nothing but one byte of ours. What cannot be renamed any more stays where it is:
 * it is written on, and said at the end.
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
/* Put it in its place, or leave it beside for good; the first call does it. */
void output_file__publish(struct output_file *o);
/* True once either happened: it will not be removed. */
bool output_file__published(const struct output_file *o);
/*
 * Where what was written is to be found: the path that was asked for, if our file is there, else
 * where the kernel says. An error (EXIT_FAILED) says that it is elsewhere, and why. The string is
 * @o's.
 */
const char *output_file__where(struct output_file *o, struct error *e);
/* Close; what was not put in its place is removed. Accepts NULL. */
void output_file__free(struct output_file *o);

#endif
