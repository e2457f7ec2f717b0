/* SPDX-License-Identifier: BSD-2-Clause */
/* Questions to the DWARF of an ELF file. */
#ifndef MP_TARGET_ELF_DWARF_H
#define MP_TARGET_ELF_DWARF_H

#include <stdint.h>

/* Offset in bytes of @member in struct @type, out of the debug sections of @fd (borrowed).
 * 0; -ENOENT without DWARF or such a member; another -errno. */
int elf_dwarf__member_offset(int fd, const char *type, const char *member, uint32_t *offset);

#endif
