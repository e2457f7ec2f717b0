/* SPDX-License-Identifier: BSD-2-Clause */
/* An ELF file with every question that we ask one. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "probe/base/error.h"
#include "probe/target/elf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define require(condition) \
	do { \
		if (!(condition)) \
			abort(); \
	} while (0)

static volatile uint8_t sink;

/* Reads every byte, so that the sanitizer sees a range that is not ours. */
static void read_all(const uint8_t *bytes, size_t n)
{
	for (size_t i = 0; bytes && i < n; i++)
		sink = bytes[i];
}

static void ask(struct elf *f)
{
	const uint8_t *bytes;
	struct elf_symbol s;
	uint64_t next = 0;
	uint32_t offset;
	size_t n;

	n = elf__build_id(f, &bytes);
	read_all(bytes, n);
	if (!elf__symbol(f, "exported", &s) || !elf__symbol(f, "hidden", &s))
		read_all(elf__bytes(f, s.address, s.size), s.size);
	elf__is_stripped(f);
	for (int i = 0; i < 16; i++) {
		uint64_t last = next;

		if (elf__next_symbol(f, last, &next))
			break;
		require(next > last);
		read_all(elf__bytes(f, next, 16), 16);
	}
	elf__member_offset(f, "measured", "last", &offset);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct error e = { 0 };
	struct elf *f;
	int fd = memfd_create("elf", MFD_CLOEXEC);

	require(fd >= 0 && write(fd, data, size) == (ssize_t)size);
	if (elf__open(&f, fd, "fuzz", &e)) {
		require(!f && error__is_set(&e));
		return 0;
	}
	ask(f);
	elf__free(f);
	return 0;
}
