/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the site planner must know of a CPU: how long an instruction is, where control goes
 * after it, which argument registers it overwrites, and whether the kernel emulates it under a
 * probe. One file per CPU, listed in architectures[]; nothing else knows registers or opcodes.
 */
#ifndef MP_ATTACH_ARCH_H
#define MP_ATTACH_ARCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where control goes after an instruction. */
enum arch_flow {
	ARCH_FLOW_NEXT,   /* always to the next one */
	ARCH_FLOW_BRANCH, /* to @target or to the next one */
	ARCH_FLOW_CALL,   /* to @target and, if that returns, to the next one */
	ARCH_FLOW_JUMP,   /* to @target, never to the next one */
	ARCH_FLOW_END,    /* nowhere that we can follow: return, trap */
};

/* An address table that a jump may go through. */
enum arch_table {
	ARCH_TABLE_NONE,
	ARCH_TABLE_RELATIVE, /* 4-byte signed distances from the table to the targets */
	ARCH_TABLE_ABSOLUTE, /* 8-byte addresses as linked */
};

/* A version as one comparable number. */
#define ARCH_KERNEL(major, minor) ((uint32_t)(major) << 16 | (uint32_t)(minor))

/* One decoded instruction; plain data. Addresses are as linked. */
struct arch_instruction {
	uint8_t length; /* bytes */
	enum arch_flow flow;
	bool has_target; /* false with BRANCH, CALL, JUMP: indirect */
	uint64_t target;
	enum arch_table table; /* it reads or takes the address of what may be a jump table */
	uint64_t table_address;
	uint32_t arguments_written; /* bit i: argument register i, in part or whole */
	bool moves_stack;           /* the stack pointer differs afterwards */
	/* It writes the register in which compilers keep where the arguments on the stack begin,
	 * when they align the stack: r10 on x86-64; and that is what it writes there, if it stands
	 * before anything that moves the stack. */
	bool writes_frame, keeps_frame;
	/* First kernel that emulates it under a uprobe, ARCH_KERNEL(); 0: none does. */
	uint32_t emulated_since;
	int memory_argument; /* argument register that is the base of a plain memory operand
				(base + displacement), -1 if there is none */
	int32_t displacement;
};

struct arch_ops {
	uint16_t machine; /* ELF e_machine */
	const char *name; /* "x86-64" */
	/* Decode the instruction at @bytes (at most @size), which is linked at @address.
	 * -EINVAL: not an instruction; -ENODATA: cut off by @size. */
	int (*decode)(struct arch_instruction *out, const uint8_t *bytes, size_t size,
		      uint64_t address);
	/* The same as text, cut to fit; "?" if it is no instruction. */
	void (*format)(char *text, size_t text_size, const uint8_t *bytes, size_t size,
		       uint64_t address);
	/* Functions to calibrate with: their first instruction is emulated by every kernel, or
	 * by none. A twin is the same code at a place of its own, which gets no probe. NULL in a
	 * build for another CPU. */
	void (*sample_emulated)(void), (*sample_emulated_twin)(void);
	void (*sample_stepped)(void), (*sample_stepped_twin)(void);
	void (*sample_router)(void); /* as sample_emulated, at a place of its own */
};

extern const struct arch_ops arch_x86_64;
/* All of them; NULL-terminated. arch.c. */
extern const struct arch_ops *const architectures[];

/* The one for ELF machine @machine, or NULL. */
const struct arch_ops *arch__find(uint16_t machine);
/* The one that this program is built for, or NULL. */
const struct arch_ops *arch__own(void);
/* The running kernel as ARCH_KERNEL(); 0 if it cannot be told. */
uint32_t arch__running_kernel(void);

#endif
