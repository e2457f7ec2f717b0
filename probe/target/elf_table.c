/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/target/elf_table.h"

#include <errno.h>
#include <gelf.h>
#include <stdlib.h>
#include <string.h>

/* So that many long, overlapping names of a hostile table cost no more than long ones. Names
 * that differ only behind this share a chain. */
#define HASHED_BYTES 512

static uint32_t hash_name(const char *name)
{
	uint32_t h = 2166136261u; /* FNV-1a */

	for (size_t i = 0; i < HASHED_BYTES && name[i]; i++)
		h = (h ^ (uint8_t)name[i]) * 16777619u;
	return h;
}

static Elf_Scn *find_section(Elf *elf, unsigned type, GElf_Shdr *header)
{
	Elf_Scn *section = NULL;

	while ((section = elf_nextscn(elf, section)))
		if (gelf_getshdr(section, header) && header->sh_type == type)
			return section;
	return NULL;
}

/* The string table of a symbol section, NUL-terminated at its end: then every offset below its
 * size is a string. */
static const Elf_Data *string_table(Elf *elf, const GElf_Shdr *symbols)
{
	Elf_Scn *section = elf_getscn(elf, symbols->sh_link);
	const Elf_Data *data;
	GElf_Shdr header;

	if (!section || !gelf_getshdr(section, &header) || header.sh_type != SHT_STRTAB)
		return NULL;
	data = elf_getdata(section, NULL);
	if (!data || !data->d_buf || !data->d_size || ((const char *)data->d_buf)[data->d_size - 1])
		return NULL;
	return data;
}

static bool is_wanted(const GElf_Sym *s)
{
	unsigned type = GELF_ST_TYPE(s->st_info);

	return s->st_shndx != SHN_UNDEF && (type == STT_FUNC || type == STT_OBJECT);
}

static void add_symbols(struct elf_table *t, Elf_Data *symbols, const Elf_Data *names, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct elf_named *item = &t->items[t->count];
		GElf_Sym s;

		if (!gelf_getsym(symbols, (int)i, &s) || !is_wanted(&s) || !s.st_name ||
		    s.st_name >= names->d_size)
			continue;
		*item = (struct elf_named){
			.name = (const char *)names->d_buf + s.st_name,
			.address = s.st_value,
			.size = s.st_size,
			.local = GELF_ST_BIND(s.st_info) == STB_LOCAL,
			.function = GELF_ST_TYPE(s.st_info) == STT_FUNC,
		};
		t->count++;
	}
}

static int build_index(struct elf_table *t)
{
	t->buckets = 16;
	while (t->buckets < t->count)
		t->buckets *= 2;
	t->heads = malloc(t->buckets * sizeof(*t->heads));
	if (!t->heads)
		return -ENOMEM;
	for (size_t i = 0; i < t->buckets; i++)
		t->heads[i] = ELF_TABLE_END;
	for (size_t i = t->count; i-- > 0;) { /* the first of equal names ends up in front */
		uint32_t *head = &t->heads[hash_name(t->items[i].name) & (t->buckets - 1)];

		t->items[i].next = *head;
		*head = (uint32_t)i;
	}
	return 0;
}

int elf_table__read(struct elf_table *out, Elf *elf, unsigned type)
{
	const Elf_Data *names;
	Elf_Scn *section;
	Elf_Data *symbols;
	GElf_Shdr header;
	size_t count;
	int err;

	memset(out, 0, sizeof(*out));
	section = find_section(elf, type, &header);
	if (!section)
		return 0;
	symbols = elf_getdata(section, NULL);
	names = string_table(elf, &header);
	if (!symbols || !symbols->d_buf || !names)
		return -EINVAL;
	count = symbols->d_size / gelf_fsize(elf, ELF_T_SYM, 1, EV_CURRENT);
	if (count >= INT32_MAX)
		return -EINVAL;
	out->items = malloc((count + 1) * sizeof(*out->items));
	if (!out->items)
		return -ENOMEM;
	add_symbols(out, symbols, names, count);
	err = build_index(out);
	if (err)
		elf_table__free(out);
	return err;
}

void elf_table__free(struct elf_table *t)
{
	free(t->items);
	free(t->heads);
	memset(t, 0, sizeof(*t));
}

const struct elf_named *elf_table__find(const struct elf_table *t, const char *name)
{
	const struct elf_named *found = NULL;
	uint32_t at;

	if (!t->count)
		return NULL;
	at = t->heads[hash_name(name) & (t->buckets - 1)];
	for (; at != ELF_TABLE_END; at = t->items[at].next) {
		if (strcmp(t->items[at].name, name))
			continue;
		if (!t->items[at].local)
			return &t->items[at];
		if (!found)
			found = &t->items[at];
	}
	return found;
}
