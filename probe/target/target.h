/* SPDX-License-Identifier: BSD-2-Clause */
/* A process that we look at: who it is and which files it has mapped. */
#ifndef MP_TARGET_TARGET_H
#define MP_TARGET_TARGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct elf;
struct error;
struct opener;
struct target;

/* One line of /proc/PID/maps that is backed by a file. @path is as the kernel prints it, without
 * " (deleted)"; borrowed from the target. */
struct mapping {
	uint64_t start, end; /* addresses */
	uint64_t offset;     /* in the file, bytes */
	uint64_t device, inode;
	bool executable;
	bool deleted;
	const char *path;
};

struct target_info {
	pid_t pid;
	pid_t parent;
	pid_t namespace_pid; /* as the process itself sees it (NSpid); 0: unknown */
	uint32_t threads;
	uint64_t start_ticks;         /* field 22 of /proc/PID/stat: with pid, an identity */
	uint64_t pid_namespace_inode; /* 0: not readable */
	char command[64];             /* comm */
	char executable[256];         /* path of its program, cut from the left; "" if unknown */
};

/*
 * Read who @pid is and what it has mapped. Errors: no such process (EXIT_NO_TARGET), no rights
 * (EXIT_PERMISSION), a zombie or kernel thread (EXIT_UNSUPPORTED). The caller frees; @o must
 * outlive the target.
 */
int target__open(struct target **out, pid_t pid, const struct opener *o, struct error *e);
/* Accepts NULL. */
void target__free(struct target *t);

const struct target_info *target__info(const struct target *t);
const struct opener *target__opener(const struct target *t);
/* File-backed mappings by address; borrowed. */
const struct mapping *target__mappings(const struct target *t, size_t *count);
/* True while (pid, start_ticks) is still the process that was opened and its executable has not
 * changed (no exec since). */
bool target__is_same(const struct target *t);
/* False while it is ending: its memory goes first, which takes a while for a large model, and only
 * then the process. One that is no longer the same and has memory is another program. */
bool target__has_memory(const struct target *t);
/* Arguments of the command line: NUL-separated bytes, borrowed; may be empty. */
const char *target__cmdline(const struct target *t, size_t *size);

/*
 * The mapped ELF file whose executable mapping is @m, parsed; borrowed, cached in the target.
 * Errors name the file.
 */
int target__elf(struct target *t, const struct mapping *m, struct elf **out, struct error *e);
/* The next distinct file with an executable mapping, from *@at (start at 0); NULL at the end. */
const struct mapping *target__next_library(const struct target *t, size_t *at);

/* All process ids now in /proc, ascending; the caller frees *@pids. */
int target__list_pids(pid_t **pids, size_t *count, const struct opener *o);
/* Local TCP ports on which @pid listens, at most @max. Number found, or -errno. */
int target__listening_ports(pid_t pid, const struct opener *o, uint16_t *ports, size_t max);

#endif
