/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * libelf reads by pread here, and so do we, never by mapping: a file that is cut while we read
 * gives an error then, and not a SIGBUS. Only what is asked for is read (a few symbols and code
 * bytes).
 */
#include "probe/target/elf.h"

#include <elfutils/libdwelf.h>
#include <errno.h>
#include <gelf.h>
#include <libelf.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "probe/base/buffer.h"
#include "probe/base/error.h"
#include "probe/target/elf_debugdata.h"
#include "probe/target/elf_dwarf.h"
#include "probe/target/elf_table.h"

#define BYTES_MAX (16u << 20) /* of one elf__bytes() */
#define SEGMENTS_MAX 4096

/* A part of the file that is loaded at an address. */
struct segment {
	uint64_t address, offset, file_size;
};

struct elf {
	int fd;
	char *name;
	Elf *elf;
	uint16_t machine;
	struct segment *segments;
	size_t segment_count;
	const uint8_t *build_id;
	size_t build_id_size;
	struct elf_table dynamic, full;
	bool dynamic_read, full_read;
	Elf *embedded; /* where @full comes from if it is .gnu_debugdata, else NULL */
	struct buffer embedded_image;
	struct buffer functions; /* uint64_t addresses of both tables, in no order */
	bool functions_read;
};

/* Our own ELF header, by the linker: what machine and class we can probe. */
extern const ElfW(Ehdr) __ehdr_start __attribute__((visibility("hidden")));

static int unsupported(const struct elf *f, struct error *e, const char *reason)
{
	return error__set(e, EXIT_UNSUPPORTED, EINVAL, NULL, "elf: failed to open '%s': %s",
			  f->name, reason);
}

static int check_header(struct elf *f, struct error *e)
{
	GElf_Ehdr header;

	if (elf_kind(f->elf) != ELF_K_ELF || !gelf_getehdr(f->elf, &header))
		return unsupported(f, e, "not an ELF file");
	if (header.e_ident[EI_CLASS] != __ehdr_start.e_ident[EI_CLASS] ||
	    header.e_ident[EI_DATA] != __ehdr_start.e_ident[EI_DATA] ||
	    header.e_machine != __ehdr_start.e_machine)
		return unsupported(f, e, "built for another machine than this one");
	if (header.e_type != ET_EXEC && header.e_type != ET_DYN)
		return unsupported(f, e, "neither a program nor a shared library");
	f->machine = header.e_machine;
	return 0;
}

static int read_segments(struct elf *f, struct error *e)
{
	size_t count;

	if (elf_getphdrnum(f->elf, &count) || count > SEGMENTS_MAX)
		return unsupported(f, e, "its program headers are damaged");
	f->segments = calloc(count + 1, sizeof(*f->segments));
	if (!f->segments)
		return error__set(e, EXIT_FAILED, ENOMEM, NULL,
				  "elf: failed to open '%s': out of memory", f->name);
	for (size_t i = 0; i < count; i++) {
		GElf_Phdr header;

		if (!gelf_getphdr(f->elf, (int)i, &header))
			return unsupported(f, e, "its program headers are damaged");
		if (header.p_type != PT_LOAD)
			continue;
		f->segments[f->segment_count++] = (struct segment){
			.address = header.p_vaddr,
			.offset = header.p_offset,
			.file_size = header.p_filesz,
		};
	}
	return 0;
}

static void read_build_id(struct elf *f)
{
	const void *bytes = NULL;
	ssize_t n = dwelf_elf_gnu_build_id(f->elf, &bytes);

	if (n > 0) {
		f->build_id = bytes;
		f->build_id_size = (size_t)n;
	}
}

int elf__open(struct elf **out, int fd, const char *name, struct error *e)
{
	struct elf *f;
	struct stat st;
	int err;

	*out = NULL;
	f = calloc(1, sizeof(*f));
	if (f)
		f->name = strdup(name);
	if (!f || !f->name) {
		free(f);
		close(fd);
		return error__set(e, EXIT_FAILED, ENOMEM, NULL,
				  "elf: failed to open '%s': out of memory", name);
	}
	f->fd = fd;
	elf_version(EV_CURRENT);
	if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
		err = unsupported(f, e, "not a regular file");
		goto out;
	}
	f->elf = elf_begin(fd, ELF_C_READ, NULL);
	if (!f->elf) {
		err = unsupported(f, e, elf_errmsg(-1));
		goto out;
	}
	err = check_header(f, e);
	if (!err)
		err = read_segments(f, e);
	if (err)
		goto out;
	read_build_id(f);
	*out = f;
	return 0;
out:
	elf__free(f);
	return err;
}

void elf__free(struct elf *f)
{
	if (!f)
		return;
	buffer__free(&f->functions);
	free(f->segments);
	elf_end(f->embedded); /* accepts NULL, like the next */
	buffer__free(&f->embedded_image);
	elf_end(f->elf);
	close(f->fd);
	free(f->name);
	free(f);
}

const char *elf__name(const struct elf *f)
{
	return f->name;
}

uint16_t elf__machine(const struct elf *f)
{
	return f->machine;
}

size_t elf__build_id(const struct elf *f, const uint8_t **bytes)
{
	*bytes = f->build_id;
	return f->build_id_size;
}

/* The bytes from @address on, at least one of them in the file: their offset, and how many.
 * False if there are none. */
static bool locate(const struct elf *f, uint64_t address, uint64_t *offset, uint64_t *left)
{
	for (size_t i = 0; i < f->segment_count; i++) {
		const struct segment *s = &f->segments[i];

		if (address < s->address || address - s->address >= s->file_size)
			continue;
		*left = s->file_size - (address - s->address);
		return !__builtin_add_overflow(s->offset, address - s->address, offset);
	}
	return false;
}

static int read_dynamic(struct elf *f)
{
	int err;

	if (f->dynamic_read)
		return 0;
	err = elf_table__open(&f->dynamic, f->elf, f->fd, NULL, SHT_DYNSYM);
	f->dynamic_read = !err;
	return err;
}

/* A damaged image is as good as none: the file itself is whole. */
static void read_embedded(struct elf *f)
{
	GElf_Ehdr header;

	if (elf_debugdata__open(&f->embedded, &f->embedded_image, f->elf))
		return;
	if (!gelf_getehdr(f->embedded, &header) ||
	    header.e_ident[EI_CLASS] != __ehdr_start.e_ident[EI_CLASS] ||
	    header.e_ident[EI_DATA] != __ehdr_start.e_ident[EI_DATA] ||
	    elf_table__open(&f->full, f->embedded, -1, &f->embedded_image, SHT_SYMTAB))
		f->full = (struct elf_table){ 0 };
}

static int read_full(struct elf *f)
{
	int err;

	if (f->full_read)
		return 0;
	err = elf_table__open(&f->full, f->elf, f->fd, NULL, SHT_SYMTAB);
	if (err)
		return err;
	if (!f->full.symbols.size)
		read_embedded(f);
	f->full_read = true;
	return 0;
}

int elf__symbol(struct elf *f, const char *name, struct elf_symbol *out)
{
	struct elf_named found;
	uint64_t left;
	int err;

	memset(out, 0, sizeof(*out));
	err = read_dynamic(f);
	if (!err)
		err = elf_table__find(&f->dynamic, name, &found);
	if (err == -ENOENT) {
		err = read_full(f);
		if (!err)
			err = elf_table__find(&f->full, name, &found);
	}
	if (err)
		return err;
	out->address = found.address;
	out->size = found.size;
	out->local = found.local;
	if (!locate(f, found.address, &out->file_offset, &left))
		out->file_offset = ELF_NOT_IN_FILE;
	return 0;
}

bool elf__is_stripped(struct elf *f)
{
	return (read_dynamic(f) || !elf_table__defines(&f->dynamic)) &&
	       (read_full(f) || !elf_table__defines(&f->full));
}

static int read_functions(struct elf *f)
{
	int err;

	if (f->functions_read)
		return 0;
	err = read_dynamic(f);
	if (!err)
		err = read_full(f);
	if (!err)
		err = elf_table__functions(&f->dynamic, &f->functions);
	if (!err)
		err = elf_table__functions(&f->full, &f->functions);
	if (err)
		buffer__free(&f->functions);
	f->functions_read = !err;
	return err;
}

/* They are not sorted: it is asked for a few places, of maybe half a million. */
int elf__next_symbol(struct elf *f, uint64_t address, uint64_t *next)
{
	const uint64_t *function;
	uint64_t best = UINT64_MAX;
	bool found = false;
	int err;

	*next = 0;
	err = read_functions(f);
	if (err)
		return err;
	function = (const uint64_t *)(const void *)f->functions.data;
	for (size_t i = 0; i < f->functions.size / sizeof(*function); i++) {
		if (function[i] <= address || function[i] > best)
			continue;
		best = function[i];
		found = true;
	}
	if (!found)
		return -ENOENT;
	*next = best;
	return 0;
}

const uint8_t *elf__bytes(struct elf *f, uint64_t address, size_t n)
{
	const Elf_Data *data;
	uint64_t offset, left;

	if (!n || n > BYTES_MAX || !locate(f, address, &offset, &left) || n > left ||
	    offset > INT64_MAX)
		return NULL;
	data = elf_getdata_rawchunk(f->elf, (int64_t)offset, n, ELF_T_BYTE);
	return data && data->d_size >= n ? data->d_buf : NULL;
}

int elf__member_offset(struct elf *f, const char *type, const char *member, uint32_t *offset)
{
	return elf_dwarf__member_offset(f->fd, type, member, offset);
}
