/* SPDX-License-Identifier: BSD-2-Clause */
/* Files that a process names: opened for the reader with that process's own rights. */
#ifndef MP_COLLECTOR_TARGET_FILE_H
#define MP_COLLECTOR_TARGET_FILE_H

#include <stdbool.h>
#include <sys/types.h>

struct file_user;

/* With whose rights process @pid opens files, by the kernel's word. 0 or -errno. */
int target_file__user(pid_t pid, struct file_user *out);

/*
 * The model file @path as process @pid sees it, if that process itself could open it: a regular
 * file that begins as GGUF files do, or one of a model folder that is named and begins as those
 * are, since models are all that is asked for by name. Where @path is a link, what it leads to is
 * named so too, or is a blob of a model in a hub's cache. A descriptor for reading, or -errno
 * (-EACCES: not the process's to read, or no model).
 */
int target_file__open_model(pid_t pid, const char *path);

/* True if @path is named as weights in a model folder are: that a process has them open may be
 * told. */
bool target_file__is_weights(const char *path);

#endif
