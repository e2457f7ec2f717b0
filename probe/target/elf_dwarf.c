/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Debug sections of an inference engine take tens of megabytes of which one question touches
 * little, so they are mapped, for the time of the question. A file cut within that time costs
 * the reader its life (SIGBUS); it would cost the target that runs it the same.
 */
#include "probe/target/elf_dwarf.h"

#include <dwarf.h>
#include <elfutils/libdw.h>
#include <errno.h>
#include <libelf.h>
#include <stdbool.h>
#include <string.h>

/* Entries looked at before a damaged file is given up: a large engine has some millions. */
#define ENTRIES_MAX 50000000u
#define DEPTH_MAX 4 /* of anonymous structs and base classes */

struct query {
	const char *type, *member;
	uint32_t left; /* of ENTRIES_MAX */
	uint32_t offset;
};

static bool is_aggregate(int tag)
{
	return tag == DW_TAG_structure_type || tag == DW_TAG_class_type || tag == DW_TAG_union_type;
}

/* The next sibling into itself; false at the end, on damage, or when the budget is spent. */
static bool advance(struct query *q, Dwarf_Die *die)
{
	return q->left && q->left-- && dwarf_siblingof(die, die) == 0;
}

static bool has_name(Dwarf_Die *die, const char *name)
{
	const char *own = dwarf_diename(die);

	return own && !strcmp(own, name);
}

static bool member_location(Dwarf_Die *die, uint64_t *offset)
{
	Dwarf_Attribute attribute;
	Dwarf_Word value;

	*offset = 0;
	if (!dwarf_attr(die, DW_AT_data_member_location, &attribute))
		return !dwarf_hasattr(die, DW_AT_data_bit_offset); /* a union's: at 0 */
	if (dwarf_formudata(&attribute, &value))
		return false; /* a computed place (virtual base) */
	*offset = value;
	return true;
}

/* The type of a member or base, without typedefs and qualifiers, if it is an aggregate. */
static bool aggregate_of(Dwarf_Die *die, Dwarf_Die *type)
{
	Dwarf_Attribute attribute;

	return dwarf_formref_die(dwarf_attr(die, DW_AT_type, &attribute), type) &&
	       dwarf_peel_type(type, type) == 0 && is_aggregate(dwarf_tag(type));
}

static bool find_member(struct query *q, Dwarf_Die *type, uint64_t base, unsigned depth)
{
	Dwarf_Die child, inner;
	uint64_t offset;

	if (depth > DEPTH_MAX || dwarf_child(type, &child))
		return false;
	do {
		int tag = dwarf_tag(&child);

		if (tag != DW_TAG_member && tag != DW_TAG_inheritance)
			continue;
		if (!member_location(&child, &offset) || offset > UINT32_MAX)
			continue;
		offset += base;
		if (tag == DW_TAG_member && has_name(&child, q->member)) {
			q->offset = (uint32_t)offset;
			return offset <= UINT32_MAX;
		}
		if ((tag == DW_TAG_inheritance || !dwarf_diename(&child)) &&
		    aggregate_of(&child, &inner) && find_member(q, &inner, offset, depth + 1))
			return true;
	} while (advance(q, &child));
	return false;
}

static bool find_in_unit(struct query *q, Dwarf_Die *unit)
{
	Dwarf_Die child, type;

	if (dwarf_child(unit, &child))
		return false;
	do {
		int tag = dwarf_tag(&child);

		if (tag != DW_TAG_typedef && !is_aggregate(tag))
			continue;
		if (!has_name(&child, q->type))
			continue;
		type = child;
		if (tag == DW_TAG_typedef && !aggregate_of(&child, &type))
			continue;
		if (find_member(q, &type, 0, 0))
			return true;
	} while (advance(q, &child));
	return false;
}

static int find(struct query *q, Dwarf *dwarf)
{
	Dwarf_CU *unit = NULL;
	Dwarf_Die die;

	while (q->left && dwarf_get_units(dwarf, unit, &unit, NULL, NULL, &die, NULL) == 0)
		if (find_in_unit(q, &die))
			return 0;
	return -ENOENT;
}

int elf_dwarf__member_offset(int fd, const char *type, const char *member, uint32_t *offset)
{
	struct query q = { .type = type, .member = member, .left = ENTRIES_MAX };
	Dwarf *dwarf;
	Elf *elf;
	int err = -ENOENT;

	*offset = 0;
	elf = elf_begin(fd, ELF_C_READ_MMAP, NULL);
	if (!elf)
		return -EINVAL;
	dwarf = dwarf_begin_elf(elf, DWARF_C_READ, NULL);
	if (dwarf) {
		err = find(&q, dwarf);
		dwarf_end(dwarf);
	}
	elf_end(elf);
	if (!err)
		*offset = q.offset;
	return err;
}
