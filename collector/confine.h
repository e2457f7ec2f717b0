/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a process that parses hostile bytes may ask of the kernel. Rights are given away before
 * (sandbox.h); this bounds what nobody needs a right for: starting programs, talking to the
 * network, opening files, signals, memory.
 */
#ifndef MP_COLLECTOR_CONFINE_H
#define MP_COLLECTOR_CONFINE_H

struct error;

/* Sanitizers open files, start a helper that traces us, and map terabytes: their builds allow that
 * and have no bound on memory, so only other builds are confined in full. */
#if defined(__SANITIZE_ADDRESS__)
#define CONFINE_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CONFINE_SANITIZED 1
#endif
#endif
#ifndef CONFINE_SANITIZED
#define CONFINE_SANITIZED 0
#endif

#define CONFINE_DATA_BYTES \
	(4ull << 30)       /* of writable memory: debug sections are unpacked to it \
			    */
#define CONFINE_FILES 1024 /* descriptors: each library of a target takes one */

/*
 * Bound this process for good, verified: resources, then system calls. From then on it opens no
 * file and starts no process; calls that only a process taken over would make kill it (SIGSYS),
 * all others that the reader does not make give EPERM. A kernel without system-call filters is a
 * warning, every other failure an error.
 */
int confine__enter(struct error *e);

#endif
