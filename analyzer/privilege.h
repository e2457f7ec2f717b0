/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * moeprobe never stays root: it opens what the command line names with the rights of whoever
 * typed it, starts the collector, and becomes an ordinary user before it reads a byte of the
 * stream.
 */
#ifndef MP_ANALYZER_PRIVILEGE_H
#define MP_ANALYZER_PRIVILEGE_H

#include <stdbool.h>
#include <sys/types.h>

struct error;

/* Whom we become, and with whose rights files are opened before. */
struct identity {
	bool is_root; /* we run as root now; else nothing changes but no_new_privs */
	uid_t uid;
	gid_t gid;
	char name[64]; /* "" if the user has no name */
	bool by_sudo;  /* another user typed the command line: files are opened as that one */
	uid_t sudo_uid;
	gid_t sudo_gid;
};

/*
 * --user @user (may be NULL), else the user of sudo, else nobody. Errors: no such user, or one
 * that is root too (EXIT_USAGE); --user without being root (EXIT_PERMISSION).
 */
int identity__find(struct identity *out, const char *user, struct error *e);

/* Open @path for reading, "-": standard input (duplicated). */
int identity__open_file(const struct identity *id, int *fd, const char *path, struct error *e);

/* Become the identity for good: groups, ids, capabilities, no_new_privs; checked. */
int identity__become(const struct identity *id, struct error *e);

#endif
