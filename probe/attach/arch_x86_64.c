/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * x86-64. Zydis says what an instruction reads and writes, hidden operands included; which
 * instructions the kernel emulates under a uprobe is ours to know, since no interface tells.
 */
#include "probe/attach/arch.h"

#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <Zydis/Zydis.h>

/* Emulated by every kernel that we run on (5.19 and later). */
#define ALWAYS ARCH_KERNEL(5, 0)
/* The kernel that the 5-byte nop was measured on; some releases before it single-step it. */
#define SINCE_LONG_NOP ARCH_KERNEL(6, 18)

/* Integer arguments of the System V calling convention, in order. */
static const ZydisRegister argument_registers[] = {
	ZYDIS_REGISTER_RDI, ZYDIS_REGISTER_RSI, ZYDIS_REGISTER_RDX,
	ZYDIS_REGISTER_RCX, ZYDIS_REGISTER_R8,  ZYDIS_REGISTER_R9,
};
#define ARGUMENTS ((int)(sizeof(argument_registers) / sizeof(argument_registers[0])))

/* The index of the argument register that @reg is, or is a part of; -1 if none. */
static int argument_of(ZydisRegister reg)
{
	ZydisRegister whole = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);
	int i;

	for (i = 0; i < ARGUMENTS; i++) {
		if (argument_registers[i] == whole)
			return i;
	}
	return -1;
}

/*
 * What arch/x86/kernel/uprobes.c emulates: push of a register (at most a REX.B of exactly 0x41
 * before it), the one-byte nop, relative jumps, conditional jumps and calls. Its rules are on
 * bytes, so ours are too; forms with other prefixes, which no compiler puts there, count as
 * single-stepped even where some kernel would emulate them.
 */
static uint32_t emulated_since(const uint8_t *b, size_t length)
{
	static const uint8_t nop5[] = { 0x0f, 0x1f, 0x44, 0x00, 0x00 };

	if (length == 1 && b[0] >= 0x50 && b[0] <= 0x57)
		return ALWAYS;
	if (length == 2 && b[0] == 0x41 && b[1] >= 0x50 && b[1] <= 0x57)
		return ALWAYS;
	if (length == 1 && b[0] == 0x90)
		return ALWAYS;
	if (length == 2 && b[0] == 0x66 && b[1] == 0x90)
		return ALWAYS;
	if (length == 2 && (b[0] == 0xeb || (b[0] >= 0x70 && b[0] <= 0x7f)))
		return ALWAYS;
	if (length == 5 && (b[0] == 0xe8 || b[0] == 0xe9))
		return ALWAYS;
	if (length == 6 && b[0] == 0x0f && b[1] >= 0x80 && b[1] <= 0x8f)
		return ALWAYS;
	if (length == sizeof(nop5) && !memcmp(b, nop5, sizeof(nop5)))
		return SINCE_LONG_NOP;
	return 0;
}

static enum arch_flow flow_of(const ZydisDecodedInstruction *in)
{
	switch (in->meta.category) {
	case ZYDIS_CATEGORY_COND_BR:
		return ARCH_FLOW_BRANCH;
	case ZYDIS_CATEGORY_UNCOND_BR:
		/* xabort continues at the place that xbegin named, or does nothing. */
		return in->mnemonic == ZYDIS_MNEMONIC_XABORT ? ARCH_FLOW_CALL : ARCH_FLOW_JUMP;
	case ZYDIS_CATEGORY_CALL:
	case ZYDIS_CATEGORY_SYSCALL:
	case ZYDIS_CATEGORY_INTERRUPT:
		return ARCH_FLOW_CALL;
	case ZYDIS_CATEGORY_RET:
	case ZYDIS_CATEGORY_SYSRET:
		return ARCH_FLOW_END;
	default:
		break;
	}
	switch (in->mnemonic) {
	case ZYDIS_MNEMONIC_UD0:
	case ZYDIS_MNEMONIC_UD1:
	case ZYDIS_MNEMONIC_UD2:
	case ZYDIS_MNEMONIC_HLT:
		return ARCH_FLOW_END;
	default:
		return ARCH_FLOW_NEXT;
	}
}

static void note_register(struct arch_instruction *out, const ZydisDecodedOperand *op)
{
	ZydisRegister whole;
	int argument;

	if (!(op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
		return;
	whole = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, op->reg.value);
	if (whole == ZYDIS_REGISTER_RSP)
		out->moves_stack = true;
	out->writes_frame |= whole == ZYDIS_REGISTER_R10;
	argument = argument_of(op->reg.value);
	if (argument >= 0)
		out->arguments_written |= 1u << argument;
}

static void note_memory(struct arch_instruction *out, const ZydisDecodedInstruction *in,
			const ZydisDecodedOperand *op, uint64_t address)
{
	bool takes_address = op->mem.type == ZYDIS_MEMOP_TYPE_AGEN;
	ZyanU64 absolute;
	int argument;

	if (op->mem.base == ZYDIS_REGISTER_RIP && takes_address) {
		/* Position-independent code finds its jump tables by lea. */
		if (ZYAN_SUCCESS(ZydisCalcAbsoluteAddress(in, op, address, &absolute))) {
			out->table = ARCH_TABLE_RELATIVE;
			out->table_address = absolute;
		}
		return;
	}
	if (op->mem.base == ZYDIS_REGISTER_NONE && op->mem.index != ZYDIS_REGISTER_NONE &&
	    out->flow == ARCH_FLOW_JUMP) {
		out->table = ARCH_TABLE_ABSOLUTE;
		out->table_address = (uint64_t)op->mem.disp.value;
		return;
	}
	/* A nop may name an operand that means nothing. */
	if (op->mem.index != ZYDIS_REGISTER_NONE || in->mnemonic == ZYDIS_MNEMONIC_NOP ||
	    op->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN || out->memory_argument >= 0)
		return;
	argument = argument_of(op->mem.base);
	if (argument < 0)
		return;
	out->memory_argument = argument;
	out->displacement = (int32_t)op->mem.disp.value;
}

/* lea 8(%rsp), %r10: behind the return address. */
static bool keeps_frame(const ZydisDecodedInstruction *in, const ZydisDecodedOperand *operands)
{
	return in->mnemonic == ZYDIS_MNEMONIC_LEA && operands[0].reg.value == ZYDIS_REGISTER_R10 &&
	       operands[1].mem.base == ZYDIS_REGISTER_RSP &&
	       operands[1].mem.index == ZYDIS_REGISTER_NONE && operands[1].mem.disp.value == 8;
}

static int decode_raw(ZydisDecodedInstruction *in, ZydisDecodedOperand *operands,
		      const uint8_t *bytes, size_t size)
{
	ZydisDecoder decoder;
	ZyanStatus status;

	status = ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	if (!ZYAN_SUCCESS(status))
		return -EINVAL;
	/* Older CPUs read the bytes of endbr64 and of notrack as nops: same lengths, same effect.
	 */
	status = ZydisDecoderDecodeFull(&decoder, bytes, size, in, operands);
	if (status == ZYDIS_STATUS_NO_MORE_DATA)
		return -ENODATA;
	return ZYAN_SUCCESS(status) ? 0 : -EINVAL;
}

static int x86_64_decode(struct arch_instruction *out, const uint8_t *bytes, size_t size,
			 uint64_t address)
{
	ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
	const ZydisDecodedOperand *op;
	ZydisDecodedInstruction in;
	ZyanU64 absolute;
	int err;

	memset(out, 0, sizeof(*out));
	out->memory_argument = -1;
	err = decode_raw(&in, operands, bytes, size);
	if (err)
		return err;
	out->length = in.length;
	out->flow = flow_of(&in);
	out->emulated_since = emulated_since(bytes, in.length);
	out->keeps_frame = keeps_frame(&in, operands);
	for (op = operands; op < operands + in.operand_count; op++) {
		if (op->type == ZYDIS_OPERAND_TYPE_REGISTER) {
			note_register(out, op);
		} else if (op->type == ZYDIS_OPERAND_TYPE_MEMORY) {
			note_memory(out, &in, op, address);
		} else if (op->type == ZYDIS_OPERAND_TYPE_IMMEDIATE && op->imm.is_relative &&
			   ZYAN_SUCCESS(ZydisCalcAbsoluteAddress(&in, op, address, &absolute))) {
			out->has_target = true;
			out->target = absolute;
		}
	}
	return 0;
}

static void x86_64_format(char *text, size_t text_size, const uint8_t *bytes, size_t size,
			  uint64_t address)
{
	ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
	ZydisDecodedInstruction in;
	ZydisFormatter formatter;
	char line[256] = "";

	if (!decode_raw(&in, operands, bytes, size) &&
	    ZYAN_SUCCESS(ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_ATT)))
		ZydisFormatterFormatInstruction(&formatter, &in, operands, in.operand_count_visible,
						line, sizeof(line), address, NULL);
	snprintf(text, text_size, "%s", line[0] ? line : "?");
}

#ifdef __x86_64__
/* By hand, since a compiler (or a sanitizer) may begin a function with anything. */
#define SAMPLE(name, first) \
	void arch_x86_64__sample_##name(void); \
	__asm__(".pushsection .text\n" \
		".p2align 4\n" \
		".type arch_x86_64__sample_" #name ", @function\n" \
		"arch_x86_64__sample_" #name ":\n" \
		"	" first "\n" \
		"	push %rbp\n" \
		"	pop %rbp\n" \
		"	ret\n" \
		".size arch_x86_64__sample_" #name ", . - arch_x86_64__sample_" #name "\n" \
		".popsection\n")
#define EMULATED "" /* the push is the first */
#define STEPPED "lea 8(%rsp), %r10"
SAMPLE(emulated, EMULATED);
SAMPLE(emulated_twin, EMULATED);
SAMPLE(stepped, STEPPED);
SAMPLE(stepped_twin, STEPPED);
SAMPLE(router, EMULATED);
#else
#define arch_x86_64__sample_emulated NULL
#define arch_x86_64__sample_emulated_twin NULL
#define arch_x86_64__sample_stepped NULL
#define arch_x86_64__sample_stepped_twin NULL
#define arch_x86_64__sample_router NULL
#endif

const struct arch_ops arch_x86_64 = {
	.machine = EM_X86_64,
	.name = "x86-64",
	.decode = x86_64_decode,
	.format = x86_64_format,
	.sample_emulated = arch_x86_64__sample_emulated,
	.sample_emulated_twin = arch_x86_64__sample_emulated_twin,
	.sample_stepped = arch_x86_64__sample_stepped,
	.sample_stepped_twin = arch_x86_64__sample_stepped_twin,
	.sample_router = arch_x86_64__sample_router,
};
