/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/target/elf_table.h"

#include <errno.h>
#include <gelf.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PIECE_BYTES (256u << 10)
#define NAME_BYTES_MAX 4096u
/* Places of one name in a table of names: linkers write each once, or as the tail of another. */
#define PLACES_MAX 32
#define CHAIN_PIECE 64
#define SAME_HASH_MAX 64 /* more are an attack */

static int read_at(const struct elf_table *t, uint64_t at, void *to, size_t n)
{
	ssize_t got;

	if (t->image) {
		if (at > t->image->size || n > t->image->size - at)
			return -EINVAL;
		memcpy(to, t->image->data + at, n);
		return 0;
	}
	while (n) {
		got = at <= INT64_MAX ? pread(t->fd, to, n, (off_t)at) : 0;
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return -EINVAL; /* it was cut */
		at += (uint64_t)got;
		n -= (size_t)got;
		to = (char *)to + got;
	}
	return 0;
}

/* --- sections ------------------------------------------------------------------------------- */

static Elf_Scn *find_section(Elf *elf, unsigned type, GElf_Shdr *header)
{
	Elf_Scn *section = NULL;

	while ((section = elf_nextscn(elf, section)))
		if (gelf_getshdr(section, header) && header->sh_type == type)
			return section;
	return NULL;
}

/* The names must end with a NUL: then every offset below their size is a string. */
static int find_names(struct elf_table *t, Elf *elf, const GElf_Shdr *symbols)
{
	Elf_Scn *section = elf_getscn(elf, symbols->sh_link);
	GElf_Shdr header;
	char last;
	int err;

	if (!section || !gelf_getshdr(section, &header) || header.sh_type != SHT_STRTAB ||
	    !header.sh_size || header.sh_offset > INT64_MAX || header.sh_size > INT64_MAX)
		return -EINVAL;
	t->names = (struct elf_part){ header.sh_offset, header.sh_size };
	err = read_at(t, t->names.offset + t->names.size - 1, &last, 1);
	return err ? err : last ? -EINVAL : 0;
}

int elf_table__open(struct elf_table *out, Elf *elf, int fd, const struct buffer *image,
		    unsigned type)
{
	Elf_Scn *section;
	GElf_Shdr header;
	int err;

	*out = (struct elf_table){ .fd = fd, .image = image };
	section = find_section(elf, type, &header);
	if (!section)
		return 0;
	if (header.sh_offset > INT64_MAX || header.sh_size / sizeof(ElfW(Sym)) >= INT32_MAX)
		return -EINVAL;
	err = find_names(out, elf, &header);
	if (err)
		return err;
	out->symbols = (struct elf_part){ header.sh_offset, header.sh_size };
	if (type == SHT_DYNSYM && find_section(elf, SHT_GNU_HASH, &header) &&
	    header.sh_offset <= INT64_MAX && header.sh_link == elf_ndxscn(section))
		out->hash = (struct elf_part){ header.sh_offset, header.sh_size };
	return 0;
}

/* --- all symbols ---------------------------------------------------------------------------- */

static bool is_wanted(const struct elf_table *t, const ElfW(Sym) * s)
{
	unsigned type = GELF_ST_TYPE(s->st_info);

	return s->st_shndx != SHN_UNDEF && (type == STT_FUNC || type == STT_OBJECT) && s->st_name &&
	       s->st_name < t->names.size;
}

/* Calls @visit with each defined function and object until it gives something else than 0, which is
 * the result. */
static int walk(const struct elf_table *t, int (*visit)(void *ctx, const ElfW(Sym) * s), void *ctx)
{
	const uint64_t all = t->symbols.size / sizeof(ElfW(Sym));
	const size_t many = PIECE_BYTES / sizeof(ElfW(Sym));
	ElfW(Sym) *piece = all ? malloc(many * sizeof(*piece)) : NULL;
	int err = all && !piece ? -ENOMEM : 0;

	for (uint64_t at = 0; at < all && !err; at += many) {
		size_t n = all - at < many ? (size_t)(all - at) : many;

		err = read_at(t, t->symbols.offset + at * sizeof(*piece), piece,
			      n * sizeof(*piece));
		for (size_t i = 0; i < n && !err; i++)
			if (is_wanted(t, &piece[i]))
				err = visit(ctx, &piece[i]);
	}
	free(piece);
	return err;
}

static int add_function(void *out, const ElfW(Sym) * s)
{
	const uint64_t address = s->st_value;

	return GELF_ST_TYPE(s->st_info) == STT_FUNC ? buffer__append(out, &address, sizeof(address))
						    : 0;
}

int elf_table__functions(const struct elf_table *t, struct buffer *out)
{
	return walk(t, add_function, out);
}

static int stop(void *ctx, const ElfW(Sym) * s)
{
	return 1;
}

bool elf_table__defines(const struct elf_table *t)
{
	return walk(t, stop, NULL) == 1;
}

/* --- one symbol, by search ------------------------------------------------------------------ */

struct search {
	size_t places;
	uint64_t place[PLACES_MAX]; /* of the name, in the names */
	bool found;
	ElfW(Sym) symbol;
};

/* All places of @name, @size bytes with its NUL. */
static int find_places(const struct elf_table *t, const char *name, size_t size, struct search *s)
{
	char *piece = malloc(PIECE_BYTES);
	int err = piece ? 0 : -ENOMEM;
	size_t n;

	for (uint64_t at = 0; t->names.size - at >= size && !err; at += n - (size - 1)) {
		const char *from = piece, *found;

		n = t->names.size - at < PIECE_BYTES ? (size_t)(t->names.size - at) : PIECE_BYTES;
		err = read_at(t, t->names.offset + at, piece, n);
		while (!err && s->places < PLACES_MAX &&
		       (found = memmem(from, n - (size_t)(from - piece), name, size))) {
			s->place[s->places++] = at + (uint64_t)(found - piece);
			from = found + 1;
		}
	}
	free(piece);
	return err;
}

static int note_named(void *ctx, const ElfW(Sym) * s)
{
	bool global = GELF_ST_BIND(s->st_info) != STB_LOCAL;
	struct search *search = ctx;

	for (size_t i = 0; i < search->places; i++) {
		if (search->place[i] != s->st_name || (search->found && !global))
			continue;
		search->found = true;
		search->symbol = *s;
		return global;
	}
	return 0;
}

static int find_by_search(const struct elf_table *t, const char *name, size_t size, ElfW(Sym) * out)
{
	struct search s = { 0 };
	int err = find_places(t, name, size, &s);

	if (!err && s.places)
		err = walk(t, note_named, &s);
	*out = s.symbol;
	return err < 0 ? err : s.found ? 0 : -ENOENT;
}

/* --- one symbol, by its hash ---------------------------------------------------------------- */

struct hash_header {
	uint32_t buckets, first, words, shift;
};

static uint32_t hash_of(const char *name)
{
	uint32_t h = 5381;

	for (; *name; name++)
		h = h * 33 + (uint8_t)*name;
	return h;
}

/* Is symbol @i the one? 0, -ENOENT or -EINVAL. */
static int check_symbol(const struct elf_table *t, uint64_t i, const char *name, size_t size,
			ElfW(Sym) * out)
{
	char there[NAME_BYTES_MAX];
	int err;

	if (i >= t->symbols.size / sizeof(*out))
		return -EINVAL;
	err = read_at(t, t->symbols.offset + i * sizeof(*out), out, sizeof(*out));
	if (err || !is_wanted(t, out) || t->names.size - out->st_name < size)
		return err ? err : -ENOENT;
	err = read_at(t, t->names.offset + out->st_name, there, size);
	return err ? err : memcmp(there, name, size) ? -ENOENT : 0;
}

/* The symbols of a bucket follow one another from @i on; so do their hashes from @chain on, whose
 * lowest bit says which is the last. */
static int follow_chain(const struct elf_table *t, struct elf_part chain, uint64_t i,
			const char *name, size_t size, ElfW(Sym) * out)
{
	uint32_t hash = hash_of(name), hashes[CHAIN_PIECE];
	size_t n = 0, at = 0, same = 0;
	int err;

	for (;; at++, i++) {
		if (at == n) {
			n = chain.size / sizeof(*hashes) < CHAIN_PIECE
				    ? (size_t)(chain.size / sizeof(*hashes))
				    : CHAIN_PIECE;
			at = 0;
			if (!n || read_at(t, chain.offset, hashes, n * sizeof(*hashes)))
				return -EINVAL;
			chain.offset += n * sizeof(*hashes);
			chain.size -= n * sizeof(*hashes);
		}
		if ((hashes[at] | 1) == (hash | 1)) {
			err = check_symbol(t, i, name, size, out);
			if (err != -ENOENT)
				return err;
			if (++same == SAME_HASH_MAX)
				return -EINVAL;
		}
		if (hashes[at] & 1)
			return -ENOENT;
	}
}

static int find_by_hash(const struct elf_table *t, const char *name, size_t size, ElfW(Sym) * out)
{
	const uint32_t hash = hash_of(name), bits = 8 * sizeof(ElfW(Addr));
	uint64_t at = t->hash.offset + sizeof(struct hash_header), head;
	struct hash_header h;
	ElfW(Addr) word;
	uint32_t first;

	if (t->hash.size < sizeof(h) || read_at(t, t->hash.offset, &h, sizeof(h)))
		return -EINVAL;
	head = sizeof(h) + (uint64_t)h.words * sizeof(word) + (uint64_t)h.buckets * sizeof(first);
	if (!h.words || !h.buckets || head > t->hash.size ||
	    read_at(t, at + hash / bits % h.words * sizeof(word), &word, sizeof(word)))
		return -EINVAL;
	if (!(word >> (hash % bits) & 1) || !(word >> ((hash >> (h.shift & 31)) % bits) & 1))
		return -ENOENT;
	at += (uint64_t)h.words * sizeof(word);
	if (read_at(t, at + hash % h.buckets * sizeof(first), &first, sizeof(first)))
		return -EINVAL;
	if (first < h.first)
		return -ENOENT;
	at = (uint64_t)(first - h.first) * sizeof(uint32_t);
	if (at > t->hash.size - head)
		return -EINVAL;
	return follow_chain(
		t, (struct elf_part){ t->hash.offset + head + at, t->hash.size - head - at }, first,
		name, size, out);
}

int elf_table__find(const struct elf_table *t, const char *name, struct elf_named *out)
{
	size_t size = strlen(name) + 1;
	ElfW(Sym) s;
	int err;

	if (!t->symbols.size || size == 1 || size > NAME_BYTES_MAX)
		return -ENOENT;
	err = t->hash.size ? find_by_hash(t, name, size, &s) : find_by_search(t, name, size, &s);
	if (!err)
		*out = (struct elf_named){ .address = s.st_value,
					   .size = s.st_size,
					   .local = GELF_ST_BIND(s.st_info) == STB_LOCAL };
	return err;
}
