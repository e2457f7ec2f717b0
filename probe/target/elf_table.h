/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One symbol table, read in pieces: it is not kept. A library may have half a million symbols and
 * 80 MB of names, of which a handful are looked for. Where there is a hash table (.gnu.hash) for
 * that, it takes a few reads; else the names are searched.
 */
#ifndef MP_TARGET_ELF_TABLE_H
#define MP_TARGET_ELF_TABLE_H

#include <libelf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "probe/base/buffer.h"

struct elf_named {
	uint64_t address, size;
	bool local;
};

/* A part of the file. */
struct elf_part {
	uint64_t offset, size;
};

/* Zero-initialised: an empty table. */
struct elf_table {
	int fd;                     /* of the file, borrowed; unless there is an image */
	const struct buffer *image; /* borrowed */
	struct elf_part symbols, names, hash;
};

/*
 * The first section of @type (SHT_DYNSYM, SHT_SYMTAB) of @elf, whose class and byte order must be
 * ours and whose bytes are those of @fd, or of @image if that is not NULL; both must outlive the
 * table. No such section: 0 and an empty table. -EINVAL if it is damaged.
 */
int elf_table__open(struct elf_table *out, Elf *elf, int fd, const struct buffer *image,
		    unsigned type);
/* The defined function or object @name, global before local. 0, -ENOENT, -EINVAL, -ENOMEM. */
int elf_table__find(const struct elf_table *t, const char *name, struct elf_named *out);
/* Append the addresses of its defined functions to @out, 8 bytes each. -EINVAL, -ENOMEM. */
int elf_table__functions(const struct elf_table *t, struct buffer *out);
/* True if anything is defined in it. */
bool elf_table__defines(const struct elf_table *t);

#endif
