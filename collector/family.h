/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The processes below the one that the command line names: which there are, and when each is to be
 * asked whether it takes part. A worker maps its libraries seconds after it was started, so that a
 * "no" is asked again, soon and often at first; then only of what has become another program, and
 * seldom of what has mapped further libraries: it may load its model when it is first asked to.
 * Plain data and arithmetic: no clock, no file.
 */
#ifndef MP_COLLECTOR_FAMILY_H
#define MP_COLLECTOR_FAMILY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "collector/broker_protocol.h"

struct error;

struct relative {
	pid_t pid;
	bool member;       /* takes part: not to be asked */
	bool there;        /* in the last list */
	struct error *why; /* why it does not take part although it should; NULL */
	bool told;         /* the user was told so */
	unsigned asked;    /* times, since it was new */
	uint64_t since_ns; /* when it was new: first seen, another program, or had grown */
	uint64_t next_ns;  /* when to ask */
	uint64_t asked_ns; /* when it was asked last */
	uint64_t inode;    /* of its program when it was asked */
	uint64_t start_ticks;
	size_t libraries; /* mapped then */
};

/* Zeroed before use. @relative: parents before their children. */
struct family {
	struct relative relative[BROKER_KIN_MAX];
	size_t count;
};

/* The processes there are now: new ones are to be asked at once, those not in the list and no
 * members are forgotten. */
void family__update(struct family *f, const struct kin *kin, size_t count, uint64_t now_ns);
void family__free(struct family *f);

struct relative *family__find(struct family *f, pid_t pid);
/* The first that is to be asked now; NULL. */
struct relative *family__due(struct family *f, uint64_t now_ns);
/* It was asked, as a process with @libraries whose program is @inode. True if that is news: else
 * the answer would be the same. Says when to ask again. */
bool relative__ask(struct relative *r, uint64_t start_ticks, uint64_t inode, size_t libraries,
		   uint64_t now_ns);
/* So old, and asked so lately, that only another program in it would be news: what it has mapped
 * need not be read. */
bool relative__is_settled(const struct relative *r, uint64_t now_ns);
/* It could not be looked at: it is ending, most likely. */
void relative__postpone(struct relative *r, uint64_t now_ns);
/* As if it had just appeared. */
void relative__renew(struct relative *r, uint64_t now_ns);

#endif
