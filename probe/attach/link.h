/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Probes put in place and taken away. One multi-uprobe link a file and program where the kernel
 * has them (6.6; the raw system call, since libbpf 1.1 has no wrapper), else single links.
 * Links are descriptors, never pinned: they vanish with the process that holds them.
 */
#ifndef MP_ATTACH_LINK_H
#define MP_ATTACH_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct error;
struct uprobe_links;

#define LINK_PLACES_MAX 64

struct link_request {
	int program_fd;          /* a loaded BPF program of type kprobe (uprobe.multi if multi) */
	int file_fd;             /* the probed file; borrowed */
	pid_t pid;               /* only this process; the programs check again */
	size_t count;            /* places, 1 .. LINK_PLACES_MAX */
	const uint64_t *offsets; /* in the file, bytes */
	const uint64_t *cookies; /* one a place */
	bool multi; /* ability uprobe_multi is there and the program was loaded for it */
};

/* Put the probes in place. Errors keep nothing: EXIT_PERMISSION, EXIT_NO_TARGET (gone),
 * EXIT_UNSUPPORTED (the kernel refuses the place). The caller closes. */
int uprobe_links__open(struct uprobe_links **out, const struct link_request *r, struct error *e);
/* Take them away; accepts NULL. */
void uprobe_links__close(struct uprobe_links *l);

#endif
