/* SPDX-License-Identifier: BSD-2-Clause */
/* Giving rights away for good: what the reader does before it looks at the first foreign byte. */
#ifndef MP_COLLECTOR_SANDBOX_H
#define MP_COLLECTOR_SANDBOX_H

#include <stdbool.h>
#include <sys/types.h>

struct error;

/* Whom the reader becomes; plain data. */
struct sandbox_user {
	uid_t uid;
	gid_t gid;
	char name[64]; /* for messages */
	bool change;   /* false: it already is that user */
	bool by_sudo;  /* another user typed the command line: files are opened as that one */
	uid_t sudo_uid;
	gid_t sudo_gid;
};

/*
 * Choose the user: @name if given, else "nobody" for root, else whoever we are: the reader needs no
 * identity, since its files are opened before. Errors: an unknown name, or root (EXIT_USAGE); a
 * name while not root (EXIT_PERMISSION).
 */
int sandbox__choose(struct sandbox_user *out, const char *name, struct error *e);

/* Become @u without groups, capabilities and the chance to regain any, undumpable, verified; then
 * confine__enter(). */
int sandbox__enter(const struct sandbox_user *u, struct error *e);

/*
 * Create or overwrite @path with the rights of whoever typed the command line, mode 0600; a file
 * that was not there before is given to who called sudo, else to @u. The descriptor, or -errno with
 * @e.
 */
int sandbox__create(const struct sandbox_user *u, const char *path, struct error *e);

/* Open @path for reading with the same rights. The descriptor, or -errno with @e. */
int sandbox__open(const struct sandbox_user *u, const char *path, struct error *e);

#endif
