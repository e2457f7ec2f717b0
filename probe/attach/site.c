/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where a probe goes. Two passes over a function's code:
 *
 * 1. scan: decode all of it and find the lowest address behind the entry at which control may
 *    arrive other than by falling through (the function's "first landing").
 * 2. walk: from the entry along the straight line, up to the first branch, call or undecodable
 *    byte. A site before the first landing on that line is executed exactly once a call, and
 *    with a whole instruction under the breakpoint.
 *
 * What can land is: direct branches and calls of the function itself; those of code outside it
 * that it branches to, as compilers move unlikely blocks away (foo.cold); entries of jump tables
 * that it refers to; another symbol. What is left is an indirect jump through no table that we
 * can see. It is a tail call then: a jump table's address stands in the code that uses it
 * (lea, or the jump's own displacement), and both were looked at. Landing pads of exceptions
 * begin with what the unwinder left in registers and so are never on the line from the entry.
 */
#include "probe/attach/site.h"

#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "probe/attach/arch.h"
#include "probe/base/error.h"
#include "probe/target/elf.h"

/* A longer function is not scanned; it is probed at its entry. */
#define FUNCTION_BYTES_MAX (1u << 20)
/* How far code is assumed to go where nothing bounds it. */
#define UNBOUNDED_BYTES (64u << 10)
/* Code outside the function that is followed. */
#define OUTSIDE_INSTRUCTIONS_MAX 16384
#define OUTSIDE_BLOCKS_MAX 512
#define TABLE_ENTRIES_MAX 4096
#define INSTRUCTION_BYTES_MAX 16
#define WINDOW_BYTES 4096u

/* The file's bytes around the last address asked for: asking the file each time is slow. */
struct window {
	const uint8_t *bytes; /* borrowed */
	uint64_t address;
	size_t size;
};

struct function {
	struct elf *file;
	const struct arch_ops *arch;
	const uint8_t *code; /* borrowed */
	uint64_t entry, end; /* addresses as linked */
	bool end_is_known;   /* by the symbol's size */
	uint64_t file_offset;
};

/* What pass 1 finds. */
struct scan {
	const struct function *function;
	uint64_t first_landing;             /* > entry; end if nothing lands */
	bool entry_is_target;               /* a jump goes back to the entry */
	uint64_t block[OUTSIDE_BLOCKS_MAX]; /* where outside code begins */
	size_t blocks;
	bool incomplete; /* something could not be followed: nothing is proved */
	struct window window;
};

/* The most bytes from @address on, at most @max, that the file holds; NULL and 0 if none. */
static const uint8_t *longest_bytes(struct elf *f, uint64_t address, size_t max, size_t *size)
{
	size_t low = 0, high = max;
	const uint8_t *bytes = elf__bytes(f, address, max);

	*size = bytes ? max : 0;
	while (!bytes && low + 1 < high) {
		size_t middle = low + (high - low) / 2;

		if (elf__bytes(f, address, middle))
			low = middle;
		else
			high = middle;
	}
	if (bytes || !low)
		return bytes;
	*size = low;
	return elf__bytes(f, address, low);
}

/* Up to @max bytes at @address in *@size, borrowed; NULL if it has none. */
static const uint8_t *window_bytes(struct window *w, struct elf *f, uint64_t address, size_t max,
				   size_t *size)
{
	uint64_t page = address & ~(uint64_t)(WINDOW_BYTES - 1);
	size_t at;

	if (address < w->address || address - w->address + max > w->size) {
		w->address = page;
		w->bytes = longest_bytes(f, page, WINDOW_BYTES + INSTRUCTION_BYTES_MAX, &w->size);
		if (!w->bytes) { /* a segment that begins within the page */
			w->address = address;
			w->bytes = longest_bytes(f, address, WINDOW_BYTES, &w->size);
		}
	}
	at = address - w->address;
	*size = !w->bytes || at >= w->size ? 0 : w->size - at < max ? w->size - at : max;
	return *size ? w->bytes + at : NULL;
}

static bool is_inside(const struct function *f, uint64_t address)
{
	return address >= f->entry && address < f->end;
}

/* Control may arrive at @address by a jump or, if @by_call, by a call. */
static void note_landing(struct scan *s, uint64_t address, bool by_call)
{
	/* A call of the entry is recursion: an honest entry. A jump may be a loop instead. */
	if (address == s->function->entry)
		s->entry_is_target |= !by_call;
	else if (is_inside(s->function, address) && address < s->first_landing)
		s->first_landing = address;
}

static void note_outside(struct scan *s, uint64_t address)
{
	size_t i;

	for (i = 0; i < s->blocks; i++) {
		if (s->block[i] == address)
			return;
	}
	if (s->blocks == OUTSIDE_BLOCKS_MAX)
		s->incomplete = true;
	else
		s->block[s->blocks++] = address;
}

/* Entries of what may be a jump table: as long as they point into the function they count. Data
 * that only looks like one costs a better site at worst. */
static void note_table(struct scan *s, const struct arch_instruction *in)
{
	size_t width = in->table == ARCH_TABLE_RELATIVE ? 4 : 8, i;
	uint64_t target;

	for (i = 0; i < TABLE_ENTRIES_MAX; i++) {
		uint32_t narrow;
		size_t size;
		const uint8_t *entry = window_bytes(&s->window, s->function->file,
						    in->table_address + i * width, width, &size);

		if (!entry || size < width)
			return;
		if (in->table == ARCH_TABLE_RELATIVE) {
			memcpy(&narrow, entry, sizeof(narrow));
			target = in->table_address + (uint64_t)(int64_t)(int32_t)le32toh(narrow);
		} else {
			memcpy(&target, entry, sizeof(target));
			target = le64toh(target);
		}
		if (!is_inside(s->function, target))
			return;
		note_landing(s, target, false);
	}
}

static void note_instruction(struct scan *s, const struct arch_instruction *in)
{
	if (in->table != ARCH_TABLE_NONE)
		note_table(s, in);
	if (!in->has_target)
		return;
	if (is_inside(s->function, in->target))
		note_landing(s, in->target, in->flow == ARCH_FLOW_CALL);
	else if (in->flow != ARCH_FLOW_CALL)
		note_outside(s, in->target);
}

static void scan_function(struct scan *s)
{
	const struct function *f = s->function;
	struct arch_instruction in;
	uint64_t at;
	int err;

	for (at = f->entry; at < f->end; at += in.length) {
		err = f->arch->decode(&in, f->code + (at - f->entry), f->end - at, at);
		if (err == -ENODATA && !f->end_is_known)
			return; /* the end was a guess that cut an instruction */
		if (err) {
			s->incomplete = true;
			return;
		}
		note_instruction(s, &in);
	}
}

/* Follow what the function branches to outside itself, until each path returns, jumps back or
 * leaves by an indirect jump (a PLT entry). Undecodable: the path is never taken. */
static void scan_outside(struct scan *s)
{
	const struct function *f = s->function;
	struct arch_instruction in;
	unsigned budget = OUTSIDE_INSTRUCTIONS_MAX;
	const uint8_t *bytes;
	size_t i, size;

	for (i = 0; i < s->blocks && !s->incomplete; i++) {
		uint64_t at = s->block[i];

		do {
			if (!budget--) {
				s->incomplete = true;
				return;
			}
			bytes = window_bytes(&s->window, f->file, at, INSTRUCTION_BYTES_MAX, &size);
			if (!bytes || f->arch->decode(&in, bytes, size, at))
				break;
			note_instruction(s, &in);
			at += in.length;
			if (is_inside(f, at)) {
				note_landing(s, at, false);
				break;
			}
		} while (in.flow != ARCH_FLOW_JUMP && in.flow != ARCH_FLOW_END);
	}
}

/* Pass 1: the address before which every site on the line from the entry is safe; the entry
 * itself if nothing is proved. */
static uint64_t first_landing(const struct function *f)
{
	struct scan s = { .function = f, .first_landing = f->end };
	uint64_t next;

	if (f->end - f->entry > FUNCTION_BYTES_MAX)
		return f->entry;
	scan_function(&s);
	scan_outside(&s);
	if (!elf__next_symbol(f->file, f->entry, &next))
		note_landing(&s, next, false);
	return s.incomplete || s.entry_is_target ? f->entry : s.first_landing;
}

/* Pass 2: the offset from the entry of the best site; how it is executed. The entry must decode. */
static int choose(const struct function *f, unsigned arguments, int stack_arguments,
		  struct site *out)
{
	uint64_t at, limit = first_landing(f);
	uint32_t kernel = arch__running_kernel(), overwritten = 0;
	struct arch_instruction in;
	bool moved = false, framed = false;
	int err;

	out->entry_bytes = 0;
	out->class = SITE_STEPPED;
	for (at = f->entry; at < f->end; at += in.length) {
		err = f->arch->decode(&in, f->code + (at - f->entry), f->end - at, at);
		if (err)
			return at == f->entry ? err : 0;
		if ((overwritten & arguments) ||
		    (moved && (stack_arguments == 1 || (stack_arguments && !framed))) ||
		    (at != f->entry && at >= limit))
			return 0;
		if (in.emulated_since && kernel >= in.emulated_since) {
			out->entry_bytes = (uint32_t)(at - f->entry);
			out->class = SITE_EMULATED;
			out->stack_by_frame = moved && stack_arguments;
			return 0;
		}
		if (in.flow != ARCH_FLOW_NEXT)
			return 0;
		overwritten |= in.arguments_written;
		framed = in.keeps_frame ? !moved : framed && !in.writes_frame;
		moved |= in.moves_stack;
	}
	return 0;
}

static int function_find(struct function *out, struct elf *f, const char *symbol)
{
	struct elf_symbol found;
	uint64_t next;
	size_t size;
	int err;

	memset(out, 0, sizeof(*out));
	err = elf__symbol(f, symbol, &found);
	if (err)
		return err;
	out->file = f;
	out->arch = arch__find(elf__machine(f));
	if (!out->arch)
		return -ENOEXEC;
	out->entry = found.address;
	out->file_offset = found.file_offset;
	out->end_is_known = found.size > 0;
	size = found.size;
	if (!size) {
		size = UNBOUNDED_BYTES;
		if (!elf__next_symbol(f, found.address, &next) && next - found.address < size)
			size = next - found.address;
		out->code = longest_bytes(f, found.address, size, &size);
	} else {
		out->code = elf__bytes(f, found.address, size);
	}
	out->end = out->entry + size;
	return out->code && out->end > out->entry ? 0 : -EINVAL;
}

int site__plan(struct site *out, struct elf *f, const char *symbol, unsigned arguments,
	       int stack_arguments, struct error *e)
{
	struct function function;
	const uint8_t *code;
	int err;

	memset(out, 0, sizeof(*out));
	err = function_find(&function, f, symbol);
	if (err == -ENOENT)
		return error__set(e, EXIT_UNSUPPORTED, ENOENT, NULL,
				  "site: failed to find '%s': no such symbol in %s", symbol,
				  elf__name(f));
	if (err == -ENOEXEC)
		return error__set(e, EXIT_UNSUPPORTED, ENOEXEC, NULL,
				  "site: failed to plan '%s': machine %u of %s is not supported",
				  symbol, elf__machine(f), elf__name(f));
	if (!err)
		err = choose(&function, arguments, stack_arguments, out);
	if (err)
		return error__set(e, EXIT_UNSUPPORTED, EINVAL, NULL,
				  "site: failed to decode '%s': its code in %s is not code", symbol,
				  elf__name(f));
	snprintf(out->symbol, sizeof(out->symbol), "%s", symbol);
	out->file_offset = function.file_offset + out->entry_bytes;
	code = function.code + out->entry_bytes;
	function.arch->format(out->instruction, sizeof(out->instruction), code,
			      function.end - function.entry - out->entry_bytes,
			      function.entry + out->entry_bytes);
	return 0;
}

int site__first_displacement(struct elf *f, const char *symbol, unsigned argument, unsigned window,
			     int32_t *displacement)
{
	struct arch_instruction in;
	struct function function;
	uint64_t at;
	int err;

	*displacement = 0;
	if (argument >= 8 * sizeof(in.arguments_written))
		return -ENOENT;
	err = function_find(&function, f, symbol);
	if (err)
		return err;
	for (at = function.entry; at < function.end && window--; at += in.length) {
		err = function.arch->decode(&in, function.code + (at - function.entry),
					    function.end - at, at);
		if (err)
			return -ENOENT;
		if (in.memory_argument == (int)argument) {
			*displacement = in.displacement;
			return 0;
		}
		/* Behind these the register holds something else, or the code is another's. */
		if ((in.arguments_written & 1u << argument) || in.flow == ARCH_FLOW_CALL ||
		    in.flow == ARCH_FLOW_JUMP || in.flow == ARCH_FLOW_END)
			return -ENOENT;
	}
	return -ENOENT;
}

const char *site_class__name(enum site_class class)
{
	return class == SITE_EMULATED ? "emulated" : "single-stepped";
}
