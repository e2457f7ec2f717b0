/* SPDX-License-Identifier: BSD-2-Clause */
/* One symbol table, indexed once: by name, and its functions' addresses. */
#ifndef MP_TARGET_ELF_TABLE_H
#define MP_TARGET_ELF_TABLE_H

#include <libelf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct elf_named {
	const char *name; /* in the file's string table */
	uint64_t address, size;
	bool local, function;
	uint32_t next; /* of the same hash; ELF_TABLE_END */
};

#define ELF_TABLE_END UINT32_MAX

/* Zero-initialised: an empty table. Names are borrowed from @elf of elf_table__read(). */
struct elf_table {
	struct elf_named *items;
	uint32_t *heads; /* @buckets of them; a power of two */
	size_t count, buckets;
};

/*
 * Index the defined functions and objects in the first section of @type (SHT_DYNSYM, SHT_SYMTAB)
 * of @elf, which must outlive the table. No such section: 0 and an empty table. -EINVAL if it is
 * damaged, -ENOMEM.
 */
int elf_table__read(struct elf_table *out, Elf *elf, unsigned type);
/* Free and zero. Accepts a zeroed one. */
void elf_table__free(struct elf_table *t);
/* The symbol @name, global before local, or NULL; borrowed. */
const struct elf_named *elf_table__find(const struct elf_table *t, const char *name);

#endif
