/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where a probe goes. The kernel accepts a breakpoint anywhere, also inside an instruction, and
 * then silently changes the program (docs/architecture.md, "Probe sites"); so a site is taken
 * only where decoding from the function's entry proves an instruction boundary and no branch
 * of the function can land between entry and site.
 */
#ifndef MP_ATTACH_SITE_H
#define MP_ATTACH_SITE_H

#include <stdint.h>

struct elf;
struct error;

/* How the kernel executes the instruction under a probe: what decides the price of a hit. */
enum site_class {
	SITE_EMULATED, /* push, nop, jump, call: about 1 us on a virtual machine */
	SITE_STEPPED,  /* single-stepped out of line: about 15 times that */
	SITE_CLASSES,
};

struct site {
	char symbol[256];
	uint64_t file_offset; /* of the probed instruction */
	uint32_t entry_bytes; /* from the function's entry to it */
	enum site_class class;
	/* The stack pointer has moved; the arguments on the stack begin where the frame register
	 * says (r10 on x86-64). Only where they were asked for. */
	uint32_t stack_by_frame;
	char instruction[64]; /* as text, for doctor */
};

/*
 * Choose where to probe @symbol of @f so that the argument registers named in @arguments (bit i:
 * argument i) still have their entry values, as far as possible on an emulated instruction; and
 * with
 * @stack_arguments 1 the stack pointer, with 2 the stack pointer or the frame register
 * (stack_by_frame), so that arguments on the stack can be found. Where none qualifies the entry
 * itself is taken (SITE_STEPPED; the caller warns with the cost). Errors: -ENOENT symbol not there;
 * -EINVAL the code cannot be decoded (EXIT_UNSUPPORTED).
 */
int site__plan(struct site *out, struct elf *f, const char *symbol, unsigned arguments,
	       int stack_arguments, struct error *e);

/* The displacement of the first memory operand whose base is argument register @argument in
 * the first @window instructions of @symbol: how an offset in a struct is derived from code.
 * -ENOENT if there is none. */
int site__first_displacement(struct elf *f, const char *symbol, unsigned argument, unsigned window,
			     int32_t *displacement);

/* "emulated" or "single-stepped". */
const char *site_class__name(enum site_class class);

#endif
