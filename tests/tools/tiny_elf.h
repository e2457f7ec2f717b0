/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The smallest shared object that holds given code: one loaded segment with .text at
 * TINY_ELF_TEXT and the symbols of .dynsym. For tests and fuzzers of what reads code.
 */
#ifndef TESTS_TOOLS_TINY_ELF_H
#define TESTS_TOOLS_TINY_ELF_H

#include <elf.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define TINY_ELF_TEXT 0x1000u
#define TINY_ELF_SYMBOLS 8

struct tiny_symbol {
	const char *name;
	uint64_t offset, size; /* in the code */
};

static inline void tiny_elf__section(Elf64_Shdr *s, uint32_t name, uint32_t type, uint64_t offset,
				     uint64_t size, uint64_t flags, uint64_t entry)
{
	*s = (Elf64_Shdr){ .sh_name = name,
			   .sh_type = type,
			   .sh_flags = flags,
			   .sh_addr = flags & SHF_ALLOC ? offset : 0,
			   .sh_offset = offset,
			   .sh_size = size,
			   .sh_addralign = 1,
			   .sh_entsize = entry };
}

/* A descriptor of the file in memory, or -1. */
static inline int tiny_elf__open(const void *code, size_t size, const struct tiny_symbol *symbols,
				 size_t count)
{
	static const char section_names[] = "\0.text\0.dynsym\0.dynstr\0.shstrtab";
	struct {
		Elf64_Ehdr header;
		Elf64_Phdr segment;
		Elf64_Shdr section[5];
		Elf64_Sym symbol[TINY_ELF_SYMBOLS + 1];
		char names[256], sections[sizeof(section_names)];
	} f;
	size_t i, at = 1;
	int fd;

	memset(&f, 0, sizeof(f));
	memcpy(f.header.e_ident, ELFMAG, SELFMAG);
	f.header.e_ident[EI_CLASS] = ELFCLASS64;
	f.header.e_ident[EI_DATA] = ELFDATA2LSB;
	f.header.e_ident[EI_VERSION] = EV_CURRENT;
	f.header.e_type = ET_DYN;
	f.header.e_machine = EM_X86_64;
	f.header.e_version = EV_CURRENT;
	f.header.e_ehsize = sizeof(f.header);
	f.header.e_phoff = (uint64_t)((char *)&f.segment - (char *)&f);
	f.header.e_phentsize = sizeof(f.segment);
	f.header.e_phnum = 1;
	f.header.e_shoff = (uint64_t)((char *)f.section - (char *)&f);
	f.header.e_shentsize = sizeof(f.section[0]);
	f.header.e_shnum = 5;
	f.header.e_shstrndx = 4;
	f.segment = (Elf64_Phdr){ .p_type = PT_LOAD,
				  .p_flags = PF_R | PF_X,
				  .p_filesz = TINY_ELF_TEXT + size,
				  .p_memsz = TINY_ELF_TEXT + size,
				  .p_align = 0x1000 };
	for (i = 0; i < count && i < TINY_ELF_SYMBOLS; i++) {
		Elf64_Sym *s = &f.symbol[i + 1];

		s->st_name = (uint32_t)at;
		s->st_info = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC);
		s->st_shndx = 1;
		s->st_value = TINY_ELF_TEXT + symbols[i].offset;
		s->st_size = symbols[i].size;
		at += (size_t)snprintf(f.names + at, sizeof(f.names) - at, "%s", symbols[i].name) +
		      1;
	}
	memcpy(f.sections, section_names, sizeof(section_names));
	tiny_elf__section(&f.section[1], 1, SHT_PROGBITS, TINY_ELF_TEXT, size,
			  SHF_ALLOC | SHF_EXECINSTR, 0);
	tiny_elf__section(&f.section[2], 7, SHT_DYNSYM, (uint64_t)((char *)f.symbol - (char *)&f),
			  (i + 1) * sizeof(f.symbol[0]), SHF_ALLOC, sizeof(f.symbol[0]));
	f.section[2].sh_link = 3;
	f.section[2].sh_info = 1;
	tiny_elf__section(&f.section[3], 15, SHT_STRTAB, (uint64_t)(f.names - (char *)&f), at,
			  SHF_ALLOC, 0);
	tiny_elf__section(&f.section[4], 23, SHT_STRTAB, (uint64_t)(f.sections - (char *)&f),
			  sizeof(section_names), 0, 0);
	fd = memfd_create("tiny", MFD_CLOEXEC);
	if (fd < 0)
		return -1;
	if (pwrite(fd, &f, sizeof(f), 0) != (ssize_t)sizeof(f) ||
	    (size && pwrite(fd, code, size, TINY_ELF_TEXT) != (ssize_t)size)) {
		close(fd);
		return -1;
	}
	return fd;
}

#endif
