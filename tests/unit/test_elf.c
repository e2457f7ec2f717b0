/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Two sorts of ELF files: one written here byte for byte, where every answer is known, and the
 * files of this very process, where the dynamic loader and the compiler know the answers.
 */
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <lzma.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "probe/base/buffer.h"
#include "probe/base/error.h"
#include "probe/target/elf.h"

#define CODE_ADDRESS 0x2000
#define CODE_OFFSET 0x1000
#define CODE_SIZE 0x100
#define DATA_ADDRESS 0x4000
#define DATA_OFFSET (CODE_OFFSET + CODE_SIZE)
#define DATA_SIZE 8
#define SECTIONS 8

/* What goes into a file. */
struct parts {
	Elf64_Sym dynamic[16], full[16];
	size_t dynamic_count, full_count;
	struct buffer dynamic_names, full_names, debugdata;
	uint16_t machine, type;
	uint32_t link_of_dynamic; /* 0: as it should be */
};

static const uint8_t build_id[20] = "0123456789abcdefghi";

static Elf64_Sym symbol(struct buffer *names, const char *name, unsigned info, uint16_t section,
			uint64_t address, uint64_t size)
{
	Elf64_Sym s = {
		.st_info = (uint8_t)info,
		.st_shndx = section,
		.st_value = address,
		.st_size = size,
	};

	if (!names->size)
		buffer__append(names, "", 1);
	s.st_name = (uint32_t)names->size;
	buffer__append(names, name, strlen(name) + 1);
	return s;
}

static void add_dynamic(struct parts *p, const char *name, unsigned info, uint16_t section,
			uint64_t address, uint64_t size)
{
	p->dynamic[p->dynamic_count++] =
		symbol(&p->dynamic_names, name, info, section, address, size);
}

static void add_full(struct parts *p, const char *name, unsigned info, uint64_t address)
{
	p->full[p->full_count++] = symbol(&p->full_names, name, info, 1, address, 0);
}

/* Append a section's bytes and describe them. */
static void section(struct buffer *b, Elf64_Shdr *header, unsigned type, const void *bytes,
		    size_t size, size_t entry, unsigned link)
{
	while (b->size % 8)
		buffer__append(b, "", 1);
	*header = (Elf64_Shdr){ .sh_type = type,
				.sh_offset = b->size,
				.sh_size = size,
				.sh_entsize = entry,
				.sh_link = link,
				.sh_addralign = 8 };
	buffer__append(b, bytes, size);
}

static void put_sections(struct buffer *b, struct parts *p, Elf64_Shdr *s)
{
	static const char names[] = "\0.gnu_debugdata";
	struct {
		Elf64_Nhdr header;
		char name[4];
		uint8_t id[20];
	} note = { { 4, 20, NT_GNU_BUILD_ID }, "GNU", { 0 } };

	memcpy(note.id, build_id, 20);
	section(b, &s[1], SHT_DYNSYM, p->dynamic, p->dynamic_count * sizeof(Elf64_Sym),
		sizeof(Elf64_Sym), p->link_of_dynamic ? p->link_of_dynamic : 2);
	section(b, &s[2], SHT_STRTAB, p->dynamic_names.data, p->dynamic_names.size, 0, 0);
	section(b, &s[3], SHT_NOTE, &note, sizeof(note), 0, 0);
	s[3].sh_addralign = 4;
	section(b, &s[4], SHT_STRTAB, names, sizeof(names), 0, 0);
	if (p->full_count) {
		section(b, &s[5], SHT_SYMTAB, p->full, p->full_count * sizeof(Elf64_Sym),
			sizeof(Elf64_Sym), 6);
		section(b, &s[6], SHT_STRTAB, p->full_names.data, p->full_names.size, 0, 0);
	}
	if (p->debugdata.size) {
		section(b, &s[7], SHT_PROGBITS, p->debugdata.data, p->debugdata.size, 0, 0);
		s[7].sh_name = 1;
	}
}

/* The file's bytes; frees what @p holds. */
static struct buffer assemble(struct parts *p)
{
	struct buffer b = { 0 };
	Elf64_Shdr sections[SECTIONS] = { { 0 } };
	Elf64_Phdr segments[3] = {
		{ .p_type = PT_LOAD,
		  .p_flags = PF_R | PF_X,
		  .p_offset = CODE_OFFSET,
		  .p_vaddr = CODE_ADDRESS,
		  .p_filesz = CODE_SIZE,
		  .p_memsz = CODE_SIZE },
		{ .p_type = PT_LOAD,
		  .p_flags = PF_R | PF_W,
		  .p_offset = DATA_OFFSET,
		  .p_vaddr = DATA_ADDRESS,
		  .p_filesz = DATA_SIZE,
		  .p_memsz = 0x100 },
		{ .p_type = PT_NOTE, .p_align = 4 },
	};
	Elf64_Ehdr header = {
		.e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT },
		.e_type = p->type ? p->type : ET_DYN,
		.e_machine = p->machine,
		.e_version = EV_CURRENT,
		.e_phoff = sizeof(header),
		.e_ehsize = sizeof(header),
		.e_phentsize = sizeof(segments[0]),
		.e_phnum = 3,
		.e_shentsize = sizeof(sections[0]),
		.e_shnum = SECTIONS,
		.e_shstrndx = 4,
	};

	buffer__extend(&b, DATA_OFFSET + DATA_SIZE);
	for (int i = 0; i < CODE_SIZE; i++)
		b.data[CODE_OFFSET + i] = (uint8_t)i;
	put_sections(&b, p, sections);
	segments[2].p_offset = sections[3].sh_offset;
	segments[2].p_filesz = segments[2].p_memsz = sections[3].sh_size;
	header.e_shoff = (b.size + 7) & ~7ull;
	buffer__extend(&b, header.e_shoff - b.size);
	buffer__append(&b, sections, sizeof(sections));
	memcpy(b.data, &header, sizeof(header));
	memcpy(b.data + sizeof(header), segments, sizeof(segments));
	buffer__free(&p->dynamic_names);
	buffer__free(&p->full_names);
	buffer__free(&p->debugdata);
	return b;
}

extern const ElfW(Ehdr) __ehdr_start __attribute__((visibility("hidden")));

static struct parts empty_parts(void)
{
	struct parts p = { .machine = __ehdr_start.e_machine };

	add_dynamic(&p, "", 0, SHN_UNDEF, 0, 0);
	return p;
}

static struct parts usual_parts(void)
{
	const unsigned function = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC);
	const unsigned local = ELF64_ST_INFO(STB_LOCAL, STT_FUNC);
	struct parts p = empty_parts();

	add_dynamic(&p, "imported", function, SHN_UNDEF, 0, 0);
	add_dynamic(&p, "exported", function, 1, 0x2010, 0x20);
	add_dynamic(&p, "both", ELF64_ST_INFO(STB_WEAK, STT_FUNC), 1, 0x2040, 4);
	add_dynamic(&p, "zeros", ELF64_ST_INFO(STB_GLOBAL, STT_OBJECT), 1, 0x4008, 8);
	add_dynamic(&p, "resolver", ELF64_ST_INFO(STB_GLOBAL, STT_GNU_IFUNC), 1, 0x2050, 8);
	add_full(&p, "", 0, 0);
	add_full(&p, "source.c", ELF64_ST_INFO(STB_LOCAL, STT_FILE), 0);
	add_full(&p, "hidden", local, 0x2080);
	add_full(&p, "twice", local, 0x2090);
	add_full(&p, "twice", function, 0x20a0);
	add_full(&p, "both", function, 0x20f0);
	return p;
}

static int descriptor_of(const struct buffer *b)
{
	int fd = memfd_create("elf", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, b->data, b->size), b->size);
	return fd;
}

static struct elf *open_parts(struct parts *p)
{
	struct buffer b = assemble(p);
	struct error e = { 0 };
	struct elf *f;

	assert_int_equal(elf__open(&f, descriptor_of(&b), "made", &e), 0);
	assert_false(error__is_set(&e));
	buffer__free(&b);
	return f;
}

static void finds_symbols(void **state)
{
	struct parts p = usual_parts();
	struct elf *f = open_parts(&p);
	struct elf_symbol s;

	assert_string_equal(elf__name(f), "made");
	assert_int_equal(elf__machine(f), __ehdr_start.e_machine);
	assert_int_equal(elf__symbol(f, "exported", &s), 0);
	assert_int_equal(s.address, 0x2010);
	assert_int_equal(s.size, 0x20);
	assert_int_equal(s.file_offset, CODE_OFFSET + 0x10);
	assert_false(s.local);
	assert_int_equal(elf__symbol(f, "hidden", &s), 0);
	assert_int_equal(s.file_offset, CODE_OFFSET + 0x80);
	assert_int_equal(s.size, 0);
	assert_true(s.local);
	assert_int_equal(elf__symbol(f, "twice", &s), 0);
	assert_int_equal(s.address, 0x20a0);
	assert_int_equal(elf__symbol(f, "both", &s), 0);
	assert_int_equal(s.address, 0x2040);
	assert_int_equal(elf__symbol(f, "zeros", &s), 0);
	assert_true(s.file_offset == ELF_NOT_IN_FILE);
	assert_int_equal(elf__symbol(f, "imported", &s), -ENOENT);
	assert_int_equal(s.address, 0);
	assert_int_equal(elf__symbol(f, "resolver", &s), -ENOENT);
	assert_int_equal(elf__symbol(f, "source.c", &s), -ENOENT);
	assert_int_equal(elf__symbol(f, "", &s), -ENOENT);
	assert_int_equal(elf__symbol(f, "export", &s), -ENOENT);
	assert_false(elf__is_stripped(f));
	elf__free(f);
}

static void steps_to_the_next_function(void **state)
{
	static const uint64_t steps[][2] = {
		{ 0, 0x2010 },      { 0x2010, 0x2040 }, { 0x203f, 0x2040 }, { 0x2040, 0x2080 },
		{ 0x2080, 0x2090 }, { 0x2090, 0x20a0 }, { 0x20a0, 0x20f0 },
	};
	struct parts p = usual_parts();
	struct elf *f = open_parts(&p);
	uint64_t next;

	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		assert_int_equal(elf__next_symbol(f, steps[i][0], &next), 0);
		assert_int_equal(next, steps[i][1]);
	}
	assert_int_equal(elf__next_symbol(f, 0x20f0, &next), -ENOENT);
	assert_int_equal(elf__next_symbol(f, UINT64_MAX, &next), -ENOENT);
	assert_int_equal(next, 0);
	elf__free(f);
}

static void gives_bytes_by_address(void **state)
{
	struct parts p = usual_parts();
	struct elf *f = open_parts(&p);
	const uint8_t *b, *id;

	b = elf__bytes(f, 0x2010, 4);
	assert_non_null(b);
	assert_memory_equal(b, "\x10\x11\x12\x13", 4);
	assert_non_null(elf__bytes(f, 0x2000, CODE_SIZE));
	assert_non_null(elf__bytes(f, 0x20ff, 1));
	assert_null(elf__bytes(f, 0x20ff, 2));
	assert_null(elf__bytes(f, 0x2000, CODE_SIZE + 1));
	assert_null(elf__bytes(f, 0x2000, SIZE_MAX));
	assert_null(elf__bytes(f, 0x2000, 0));
	assert_null(elf__bytes(f, 0x1fff, 1));
	assert_null(elf__bytes(f, 0x4008, 1));
	assert_null(elf__bytes(f, UINT64_MAX, 1));
	assert_memory_equal(b, "\x10\x11\x12\x13", 4); /* still ours */
	assert_int_equal(elf__build_id(f, &id), 20);
	assert_memory_equal(id, build_id, 20);
	elf__free(f);
}

static void knows_a_stripped_file(void **state)
{
	struct parts p = empty_parts();
	struct elf *f;
	uint64_t next;
	uint32_t offset;

	add_dynamic(&p, "imported", ELF64_ST_INFO(STB_GLOBAL, STT_FUNC), SHN_UNDEF, 0, 0);
	f = open_parts(&p);
	assert_true(elf__is_stripped(f));
	assert_int_equal(elf__next_symbol(f, 0, &next), -ENOENT);
	assert_int_equal(elf__member_offset(f, "a", "b", &offset), -ENOENT);
	elf__free(f);
}

static void pack(struct buffer *out, const struct buffer *in)
{
	size_t bound = lzma_stream_buffer_bound(in->size), used = 0;
	uint8_t *p = buffer__extend(out, bound);

	assert_non_null(p);
	assert_int_equal(lzma_easy_buffer_encode(6, LZMA_CHECK_CRC32, NULL, in->data, in->size, p,
						 &used, bound),
			 LZMA_OK);
	out->size = used;
}

static void unpacks_gnu_debugdata(void **state)
{
	struct parts inner = usual_parts(), outer = empty_parts();
	struct buffer image = assemble(&inner);
	struct elf_symbol s;
	struct elf *f;

	pack(&outer.debugdata, &image);
	buffer__free(&image);
	f = open_parts(&outer);
	assert_int_equal(elf__symbol(f, "hidden", &s), 0);
	assert_int_equal(s.file_offset, CODE_OFFSET + 0x80);
	assert_false(elf__is_stripped(f));
	elf__free(f);
}

/* Good symbols before 200 MB of zeros, in some kilobytes; and bytes that are no xz at all. */
static void refuses_a_bomb_in_gnu_debugdata(void **state)
{
	struct parts inner = usual_parts(), bomb = empty_parts(), noise = empty_parts();
	struct buffer image = assemble(&inner);
	struct elf_symbol s;
	struct elf *f;

	assert_non_null(buffer__extend(&image, 200u << 20));
	pack(&bomb.debugdata, &image);
	buffer__free(&image);
	assert_true(bomb.debugdata.size < 100000);
	f = open_parts(&bomb);
	assert_int_equal(elf__symbol(f, "hidden", &s), -ENOENT);
	assert_true(elf__is_stripped(f));
	elf__free(f);
	buffer__append(&noise.debugdata, "no xz stream", 12);
	f = open_parts(&noise);
	assert_int_equal(elf__symbol(f, "hidden", &s), -ENOENT);
	elf__free(f);
}

static void refuse(const struct buffer *b, const char *why)
{
	struct error e = { 0 };
	struct elf *f = (struct elf *)&e;

	assert_int_equal(elf__open(&f, descriptor_of(b), "a.so", &e), -EINVAL);
	assert_null(f);
	assert_int_equal(e.exit, EXIT_UNSUPPORTED);
	assert_string_equal(e.what, why);
}

static void refuses_other_files(void **state)
{
	struct parts foreign = empty_parts(), object = empty_parts();
	struct buffer b = { 0 };
	struct error e = { 0 };
	struct elf *f;
	int ends[2];

	refuse(&b, "elf: failed to open 'a.so': not an ELF file");
	buffer__append(&b, "#!/bin/sh\n", 10);
	refuse(&b, "elf: failed to open 'a.so': not an ELF file");
	buffer__free(&b);
	foreign.machine = EM_S390;
	b = assemble(&foreign);
	refuse(&b, "elf: failed to open 'a.so': built for another machine than this one");
	buffer__free(&b);
	object.type = ET_REL;
	b = assemble(&object);
	refuse(&b, "elf: failed to open 'a.so': neither a program nor a shared library");
	buffer__free(&b);
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(elf__open(&f, ends[0], "a.so", &e), -EINVAL);
	assert_string_equal(e.what, "elf: failed to open 'a.so': not a regular file");
	assert_int_equal(fcntl(ends[0], F_GETFD), -1); /* taken also then */
	close(ends[1]);
	elf__free(NULL);
}

static void refuses_a_damaged_table(void **state)
{
	struct parts wrong_link = usual_parts(), open_end = usual_parts();
	struct elf_symbol s;
	struct elf *f;

	wrong_link.link_of_dynamic = 3; /* a note is no string table */
	f = open_parts(&wrong_link);
	assert_int_equal(elf__symbol(f, "exported", &s), -EINVAL);
	elf__free(f);
	buffer__append(&open_end.dynamic_names, "x", 1); /* no NUL at the end */
	f = open_parts(&open_end);
	assert_int_equal(elf__symbol(f, "exported", &s), -EINVAL);
	elf__free(f);
}

/* Every question on @f, for what it does to memory (sanitizers watch). */
static void ask_everything(struct elf *f)
{
	struct elf_symbol s;
	uint32_t offset;
	uint64_t next;

	elf__symbol(f, "exported", &s);
	elf__symbol(f, "hidden", &s);
	elf__is_stripped(f);
	elf__next_symbol(f, 0x2010, &next);
	elf__bytes(f, 0x2010, 16);
	elf__member_offset(f, "a", "b", &offset);
}

static void survives_every_cut(void **state)
{
	struct parts p = usual_parts();
	struct buffer b = assemble(&p);
	size_t whole = b.size;

	for (b.size = 0; b.size < whole; b.size += b.size < 0x1100 && b.size > 0x200 ? 97 : 1) {
		struct error e = { 0 };
		struct elf *f;

		if (elf__open(&f, descriptor_of(&b), "cut", &e))
			continue;
		ask_everything(f);
		elf__free(f);
	}
	buffer__free(&b);
}

/* A file that shrinks under us gives an error, not a signal. */
static void survives_shrinking(void **state)
{
	struct parts p = usual_parts();
	struct buffer b = assemble(&p);
	struct error e = { 0 };
	struct elf_symbol s;
	struct elf *f;
	int fd = descriptor_of(&b);

	assert_int_equal(elf__open(&f, fd, "shrinking", &e), 0);
	assert_int_equal(ftruncate(fd, 64), 0);
	assert_int_equal(elf__symbol(f, "exported", &s), -EINVAL);
	assert_null(elf__bytes(f, 0x2010, 4));
	ask_everything(f);
	elf__free(f);
	buffer__free(&b);
}

/* A library that the loader has loaded: it knows where a symbol is, and memory has its bytes. */
static void agrees_with_the_loader(void **state)
{
	const uint8_t *there =
		(const uint8_t *)(uintptr_t)dlsym(RTLD_DEFAULT, "_cmocka_run_group_tests");
	struct error e = { 0 };
	const uint8_t *bytes;
	struct elf_symbol s;
	struct elf *f;
	Dl_info info;

	assert_non_null(there);
	assert_true(dladdr(there, &info));
	assert_int_equal(
		elf__open(&f, open(info.dli_fname, O_RDONLY | O_CLOEXEC), info.dli_fname, &e), 0);
	assert_int_equal(elf__symbol(f, "_cmocka_run_group_tests", &s), 0);
	assert_true(s.address == (uint64_t)(there - (const uint8_t *)info.dli_fbase));
	assert_true(s.size > 16);
	bytes = elf__bytes(f, s.address, s.size);
	assert_non_null(bytes);
	assert_memory_equal(bytes, there, s.size);
	elf__free(f);
}

struct base {
	char first;
};

struct measured {
	char tag;
	uint64_t wide;
	union {
		uint32_t in_union;
		uint8_t bytes[12];
	};
	struct {
		uint16_t inner_one, inner_two;
	};
	struct base named;
	char last;
};

/* Keeps the type in the debug information. */
static volatile struct measured sample = { .tag = 1 };

static void measures_members_by_dwarf(void **state)
{
	static const struct {
		const char *member;
		size_t offset;
	} cases[] = {
		{ "tag", 0 },
		{ "wide", offsetof(struct measured, wide) },
		{ "in_union", offsetof(struct measured, in_union) },
		{ "bytes", offsetof(struct measured, bytes) },
		{ "inner_two", offsetof(struct measured, inner_two) },
		{ "named", offsetof(struct measured, named) },
		{ "last", offsetof(struct measured, last) },
	};
	struct error e = { 0 };
	uint32_t offset;
	struct elf *f;

	assert_int_equal(sample.tag, 1);
	assert_int_equal(elf__open(&f, open("/proc/self/exe", O_RDONLY | O_CLOEXEC), "self", &e),
			 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(elf__member_offset(f, "measured", cases[i].member, &offset), 0);
		assert_int_equal(offset, cases[i].offset);
	}
	assert_int_equal(elf__member_offset(f, "measured", "first", &offset), -ENOENT);
	assert_int_equal(elf__member_offset(f, "elf_symbol", "file_offset", &offset), 0);
	assert_int_equal(offset, offsetof(struct elf_symbol, file_offset));
	assert_int_equal(elf__member_offset(f, "no_such_type", "tag", &offset), -ENOENT);
	assert_int_equal(offset, 0);
	elf__free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_symbols),
		cmocka_unit_test(steps_to_the_next_function),
		cmocka_unit_test(gives_bytes_by_address),
		cmocka_unit_test(knows_a_stripped_file),
		cmocka_unit_test(unpacks_gnu_debugdata),
		cmocka_unit_test(refuses_a_bomb_in_gnu_debugdata),
		cmocka_unit_test(refuses_other_files),
		cmocka_unit_test(refuses_a_damaged_table),
		cmocka_unit_test(survives_every_cut),
		cmocka_unit_test(survives_shrinking),
		cmocka_unit_test(agrees_with_the_loader),
		cmocka_unit_test(measures_members_by_dwarf),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
