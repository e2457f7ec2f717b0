/* SPDX-License-Identifier: BSD-2-Clause */
/* An ELF file read through a descriptor, by elfutils. Hostile input: nothing is trusted. */
#ifndef MP_TARGET_ELF_H
#define MP_TARGET_ELF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct elf;
struct error;

/* Offset of what has an address but no bytes in the file (zero-initialised data). */
#define ELF_NOT_IN_FILE UINT64_MAX

struct elf_symbol {
	uint64_t address;     /* as linked */
	uint64_t size;        /* 0: not said */
	uint64_t file_offset; /* of its first byte: what a uprobe wants; ELF_NOT_IN_FILE */
	bool local;
};

/* Takes @fd in every case. @name is for messages (a path). Errors: not an ELF file, another
 * machine or class (EXIT_UNSUPPORTED). */
int elf__open(struct elf **out, int fd, const char *name, struct error *e);
/* Accepts NULL. */
void elf__free(struct elf *f);
const char *elf__name(const struct elf *f);
/* ELF e_machine. */
uint16_t elf__machine(const struct elf *f);
/* GNU build-id bytes (borrowed) and length, 0 if there is none. */
size_t elf__build_id(const struct elf *f, const uint8_t **bytes);

/* The defined function or object @name in .dynsym, else .symtab (also of an embedded
 * .gnu_debugdata). 0, -ENOENT, or another -errno. */
int elf__symbol(struct elf *f, const char *name, struct elf_symbol *out);
/* True if no symbol table beyond imports is left. */
bool elf__is_stripped(struct elf *f);
/* The function symbols by ascending address up to and including the first above @address: size
 * bound of a function whose symbol says 0. -ENOENT if none. */
int elf__next_symbol(struct elf *f, uint64_t address, uint64_t *next);
/* @n bytes as linked at @address (code or read-only data), borrowed; NULL if not in the file. */
const uint8_t *elf__bytes(struct elf *f, uint64_t address, size_t n);
/* Offset in bytes of @member in struct @type by DWARF; -ENOENT without DWARF or such a member. */
int elf__member_offset(struct elf *f, const char *type, const char *member, uint32_t *offset);

#endif
