/* SPDX-License-Identifier: BSD-2-Clause */
/* The symbols that some distributions leave in a stripped file: an ELF image, compressed by xz,
 * in the section .gnu_debugdata. */
#ifndef MP_TARGET_ELF_DEBUGDATA_H
#define MP_TARGET_ELF_DEBUGDATA_H

#include <libelf.h>

#include "probe/base/buffer.h"

/*
 * Unpack that image of @elf into @image (the caller frees it, after *@out) and open it as *@out.
 * 0; -ENOENT without such a section; -EINVAL if it is damaged; -EFBIG if it would grow beyond
 * 64 MB; -ENOMEM.
 */
int elf_debugdata__open(Elf **out, struct buffer *image, Elf *elf);

#endif
