/* SPDX-License-Identifier: BSD-2-Clause */
/* Any bytes as a function's code: a plan, or an error, but never a crash; and a plan is on an
 * instruction boundary of the line from the entry. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "probe/attach/arch.h"
#include "probe/attach/site.h"
#include "probe/base/error.h"
#include "probe/target/elf.h"
#include "tests/tools/tiny_elf.h"

static void check_boundary(const uint8_t *code, size_t size, const struct site *s)
{
	const struct arch_ops *arch = arch__find(EM_X86_64);
	struct arch_instruction in;
	size_t at = 0;

	while (at < s->entry_bytes) {
		if (arch->decode(&in, code + at, size - at, TINY_ELF_TEXT + at) || !in.length)
			abort();
		at += in.length;
	}
	if (at != s->entry_bytes || s->file_offset != TINY_ELF_TEXT + at)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Byte 0: bits 0..5 arguments, bit 6 stack, bit 7 the symbol says no size. Byte 1: where the
 * function begins, so that there is code before it. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tiny_symbol symbol = { .name = "f" };
	struct error e = { 0 };
	struct elf *f = NULL;
	int32_t displacement;
	struct site s;
	size_t start;

	if (size < 3 || size > 65536)
		return 0;
	start = data[1] % (size - 2);
	symbol.offset = start;
	symbol.size = data[0] & 0x80 ? 0 : size - 2 - start;
	if (elf__open(&f, tiny_elf__open(data + 2, size - 2, &symbol, 1), "tiny", &e))
		abort();
	if (!site__plan(&s, f, "f", data[0] & 0x3f, data[0] & 0x40, &e)) {
		s.file_offset -= start;
		check_boundary(data + 2 + start, size - 2 - start, &s);
	}
	site__first_displacement(f, "f", data[0] & 7, 16, &displacement);
	elf__free(f);
	return 0;
}
