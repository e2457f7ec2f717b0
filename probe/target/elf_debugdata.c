/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/target/elf_debugdata.h"

#include <errno.h>
#include <gelf.h>
#include <lzma.h>
#include <string.h>

/* xz can pack a gigabyte of zeros into some hundred kilobytes: bound both sides. */
#define PACKED_MAX (16u << 20)
#define IMAGE_MAX (64u << 20)
#define DECODER_MEMORY_MAX (32u << 20)
#define CHUNK (256u << 10)
#define SECTIONS_MAX 4096

static Elf_Data *find_packed(Elf *elf)
{
	Elf_Scn *section = NULL;
	GElf_Shdr header;
	size_t names;

	if (elf_getshdrstrndx(elf, &names))
		return NULL;
	for (int i = 0; i < SECTIONS_MAX && (section = elf_nextscn(elf, section)); i++) {
		const char *name;

		if (!gelf_getshdr(section, &header) || header.sh_type != SHT_PROGBITS)
			continue;
		name = elf_strptr(elf, names, header.sh_name);
		if (name && !strcmp(name, ".gnu_debugdata"))
			return header.sh_size <= PACKED_MAX ? elf_rawdata(section, NULL) : NULL;
	}
	return NULL;
}

static int unpack(lzma_stream *z, struct buffer *image)
{
	for (;;) {
		lzma_ret status;

		if (image->size > IMAGE_MAX)
			return -EFBIG;
		if (buffer__reserve(image, CHUNK))
			return -ENOMEM;
		z->next_out = image->data + image->size;
		z->avail_out = CHUNK;
		status = lzma_code(z, LZMA_FINISH);
		image->size += CHUNK - z->avail_out;
		if (status == LZMA_STREAM_END)
			return 0;
		if (status != LZMA_OK)
			return status == LZMA_MEMLIMIT_ERROR ? -EFBIG : -EINVAL;
	}
}

int elf_debugdata__open(Elf **out, struct buffer *image, Elf *elf)
{
	lzma_stream z = LZMA_STREAM_INIT;
	Elf_Data *packed = find_packed(elf);
	int err;

	*out = NULL;
	memset(image, 0, sizeof(*image));
	if (!packed || !packed->d_buf)
		return -ENOENT;
	if (lzma_stream_decoder(&z, DECODER_MEMORY_MAX, 0) != LZMA_OK)
		return -ENOMEM;
	z.next_in = packed->d_buf;
	z.avail_in = packed->d_size;
	err = unpack(&z, image);
	lzma_end(&z);
	if (!err) {
		*out = elf_memory((char *)image->data, image->size);
		if (!*out || elf_kind(*out) != ELF_K_ELF)
			err = -EINVAL;
	}
	if (err) {
		elf_end(*out);
		*out = NULL;
		buffer__free(image);
	}
	return err;
}
