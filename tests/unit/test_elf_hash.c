/* SPDX-License-Identifier: BSD-2-Clause */
/* Symbols found by a library's hash table, and tables that lie. */
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "probe/base/buffer.h"
#include "probe/base/error.h"
#include "probe/target/elf.h"

static int descriptor_of(const struct buffer *b)
{
	int fd = memfd_create("elf", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, b->data, b->size), b->size);
	return fd;
}

/* The bytes of a file. */
static struct buffer bytes_of(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct buffer b = { 0 };
	ssize_t n = 1;

	assert_true(fd >= 0);
	while (n > 0) {
		assert_int_equal(buffer__reserve(&b, 1 << 16), 0);
		n = read(fd, b.data + b.size, 1 << 16);
		b.size += n > 0 ? (size_t)n : 0;
	}
	close(fd);
	return b;
}

static Elf64_Shdr *section_of(struct buffer *b, uint32_t type)
{
	const Elf64_Ehdr *header = (const Elf64_Ehdr *)(const void *)b->data;
	Elf64_Shdr *s = (Elf64_Shdr *)(void *)(b->data + header->e_shoff);

	for (size_t i = 0; i < header->e_shnum; i++)
		if (s[i].sh_type == type)
			return &s[i];
	fail();
	return NULL;
}

/* What hash table there is decides which symbols are found, never whether we survive; where there
 * is none, the names are searched. */
static void survives_damaged_hashes(void **state)
{
	static const uint32_t odd[] = { 0, 1, 0x7fffffff, UINT32_MAX };
	struct error e = { 0 };
	struct elf_symbol s;
	struct buffer b;
	struct elf *f;
	Dl_info info;
	uint32_t *words;

	assert_true(dladdr(dlsym(RTLD_DEFAULT, "_cmocka_run_group_tests"), &info));
	b = bytes_of(info.dli_fname);
	words = (uint32_t *)(void *)(b.data + section_of(&b, SHT_GNU_HASH)->sh_offset);
	for (size_t word = 0; word < section_of(&b, SHT_GNU_HASH)->sh_size / 4; word++) {
		uint32_t kept = words[word];

		for (size_t i = 0; i < sizeof(odd) / sizeof(*odd); i++) {
			words[word] = odd[i];
			assert_int_equal(elf__open(&f, descriptor_of(&b), "odd", &e), 0);
			elf__symbol(f, "_cmocka_run_group_tests", &s);
			assert_int_not_equal(elf__symbol(f, "nowhere", &s), 0);
			elf__free(f);
		}
		words[word] = kept;
	}
	section_of(&b, SHT_GNU_HASH)->sh_size = 20; /* a header and half a word */
	assert_int_equal(elf__open(&f, descriptor_of(&b), "cut", &e), 0);
	assert_int_equal(elf__symbol(f, "_cmocka_run_group_tests", &s), -EINVAL);
	elf__free(f);
	section_of(&b, SHT_GNU_HASH)->sh_type = SHT_PROGBITS;
	assert_int_equal(elf__open(&f, descriptor_of(&b), "without", &e), 0);
	assert_int_equal(elf__symbol(f, "_cmocka_run_group_tests", &s), 0);
	elf__free(f);
	buffer__free(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(survives_damaged_hashes),
	};

	return cmocka_run_group_tests_name("elf_hash", tests, NULL, NULL);
}
