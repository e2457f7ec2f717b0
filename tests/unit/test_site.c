/* SPDX-License-Identifier: BSD-2-Clause */
/* Sites planned on functions assembled by hand, wrapped into the smallest ELF file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "probe/attach/arch.h"
#include "probe/attach/site.h"
#include "probe/base/error.h"
#include "probe/target/elf.h"
#include "tests/tools/tiny_elf.h"

#define WHOLE UINT64_MAX
#define BYTES(...) ((const uint8_t[]){ __VA_ARGS__ }), sizeof((const uint8_t[]){ __VA_ARGS__ })

/* Frequent instructions. */
#define ENDBR 0xf3, 0x0f, 0x1e, 0xfa
#define LEA_R10 0x4c, 0x8d, 0x54, 0x24, 0x08
#define AND_RSP 0x48, 0x83, 0xe4, 0xc0
#define SUB_RSP 0x48, 0x83, 0xec, 0x08
#define MOV_RAX_RDI 0x48, 0x89, 0xf8
#define PUSH_RBP 0x55
#define RET 0xc3

static struct elf *open_code(const uint8_t *code, size_t n, const struct tiny_symbol *symbols,
			     size_t count)
{
	struct error e = { 0 };
	struct elf *f;

	assert_int_equal(elf__open(&f, tiny_elf__open(code, n, symbols, count), "tiny", &e), 0);
	return f;
}

/* Plan `f` at @start of @code. Returns what site__plan() does. */
static int plan_part(struct site *s, const uint8_t *code, size_t n, uint64_t start, uint64_t size,
		     unsigned arguments, int stack, struct error *e)
{
	struct tiny_symbol symbol = { .name = "f", .offset = start, .size = size };
	struct elf *f = open_code(code, n, &symbol, 1);
	int err;

	memset(e, 0, sizeof(*e));
	err = site__plan(s, f, "f", arguments, stack, e);
	elf__free(f);
	return err;
}

static void expect(const uint8_t *code, size_t n, unsigned arguments, int stack, unsigned offset,
		   enum site_class class)
{
	struct error e;
	struct site s;

	assert_int_equal(plan_part(&s, code, n, 0, n, arguments, stack, &e), 0);
	assert_int_equal(s.entry_bytes, offset);
	assert_int_equal(s.file_offset, TINY_ELF_TEXT + offset);
	assert_int_equal(s.class, class);
	assert_string_equal(s.symbol, "f");
}

static void first_push(void **state)
{
	struct error e;
	struct site s;

	expect(BYTES(PUSH_RBP, RET), 3, 1, 0, SITE_EMULATED);
	expect(BYTES(0x41, 0x54, RET), 3, 1, 0, SITE_EMULATED); /* push %r12 */
	expect(BYTES(ENDBR, PUSH_RBP, RET), 3, 1, 4, SITE_EMULATED);
	expect(BYTES(0x90, RET), 3, 1, 0, SITE_EMULATED);
	/* lea 8(%rsp),%r10; and $-32,%rsp; mov %rsi,%r8; push -8(%r10); push %rbp */
	expect(BYTES(0x4c, 0x8d, 0x54, 0x24, 0x08, 0x48, 0x83, 0xe4, 0xe0, 0x49, 0x89, 0xf0, 0x41,
		     0xff, 0x72, 0xf8, PUSH_RBP, RET),
	       3, 0, 16, SITE_EMULATED);
	assert_int_equal(plan_part(&s, BYTES(ENDBR, PUSH_RBP, RET), 0, 6, 3, 0, &e), 0);
	assert_string_equal(s.instruction, "push %rbp");
	assert_string_equal(site_class__name(SITE_EMULATED), "emulated");
	assert_string_equal(site_class__name(SITE_STEPPED), "single-stepped");
}

/* Forms that look like what the kernel emulates and are not. */
static void not_emulated(void **state)
{
	expect(BYTES(0xff, 0x72, 0xf8, RET), 0, 0, 0, SITE_STEPPED);       /* push -8(%rdx) */
	expect(BYTES(0x66, 0x55, RET), 0, 0, 0, SITE_STEPPED);             /* push %bp */
	expect(BYTES(0x48, 0x55, RET), 0, 0, 0, SITE_STEPPED);             /* REX.W push */
	expect(BYTES(0x49, 0x90, RET), 0, 0, 0, SITE_STEPPED);             /* xchg %rax,%r8 */
	expect(BYTES(0x6a, 0x01, RET), 0, 0, 0, SITE_STEPPED);             /* push $1 */
	expect(BYTES(0x0f, 0x1f, 0x40, 0x00, RET), 0, 0, 0, SITE_STEPPED); /* nop4 */
	expect(BYTES(RET), 0, 0, 0, SITE_STEPPED);
	expect(BYTES(0x0f, 0x1f, 0x44, 0x00, 0x00, RET), 0, 0, 0,
	       arch__running_kernel() >= ARCH_KERNEL(6, 18) ? SITE_EMULATED : SITE_STEPPED);
}

static void stack_pointer(void **state)
{
	expect(BYTES(SUB_RSP, PUSH_RBP, RET), 3, 0, 4, SITE_EMULATED);
	expect(BYTES(SUB_RSP, PUSH_RBP, RET), 3, 1, 0, SITE_STEPPED);
	expect(BYTES(MOV_RAX_RDI, PUSH_RBP, RET), 3, 1, 3, SITE_EMULATED);
	/* lea 8(%rsp),%rax only reads it; mov %r10,%rsp and leave write it. */
	expect(BYTES(0x48, 0x8d, 0x44, 0x24, 0x08, PUSH_RBP, RET), 3, 1, 5, SITE_EMULATED);
	expect(BYTES(0x4c, 0x89, 0xd4, PUSH_RBP, RET), 3, 1, 0, SITE_STEPPED);
	expect(BYTES(0xc9, PUSH_RBP, RET), 3, 1, 0, SITE_STEPPED);
	/* lea 8(%rsp),%r10; and $-64,%rsp; push %rbp: known by %r10, to who looks there */
	expect(BYTES(LEA_R10, AND_RSP, PUSH_RBP, RET), 3, 1, 0, SITE_STEPPED);
	expect(BYTES(LEA_R10, AND_RSP, PUSH_RBP, RET), 3, 2, 9, SITE_EMULATED);
	expect(BYTES(LEA_R10, PUSH_RBP, RET), 3, 2, 5, SITE_EMULATED);
	/* mov %rax,%r10 and lea 8(%rsp),%r10 behind what moved the stack: no more */
	expect(BYTES(LEA_R10, AND_RSP, 0x49, 0x89, 0xc2, PUSH_RBP, RET), 3, 2, 0, SITE_STEPPED);
	expect(BYTES(AND_RSP, LEA_R10, PUSH_RBP, RET), 3, 2, 0, SITE_STEPPED);
	/* lea 16(%rsp),%r10 leads elsewhere */
	expect(BYTES(0x4c, 0x8d, 0x54, 0x24, 0x10, AND_RSP, PUSH_RBP, RET), 3, 2, 0, SITE_STEPPED);
	/* pushed from memory: not emulated, and it moves the stack */
	expect(BYTES(0xff, 0x72, 0xf8, PUSH_RBP, RET), 3, 1, 0, SITE_STEPPED);
}

static void arguments_overwritten(void **state)
{
	/* mov %rsi,%rdi */
	expect(BYTES(0x48, 0x89, 0xf7, PUSH_RBP, RET), 1, 0, 0, SITE_STEPPED);
	expect(BYTES(0x48, 0x89, 0xf7, PUSH_RBP, RET), 2, 0, 3, SITE_EMULATED);
	/* any width: xor %edi,%edi; mov $1,%dil; mov $1,%di; mov $1,%ch */
	expect(BYTES(0x31, 0xff, PUSH_RBP, RET), 1, 0, 0, SITE_STEPPED);
	expect(BYTES(0x40, 0xb7, 0x01, PUSH_RBP, RET), 1, 0, 0, SITE_STEPPED);
	expect(BYTES(0x66, 0xbf, 0x01, 0x00, PUSH_RBP, RET), 1, 0, 0, SITE_STEPPED);
	expect(BYTES(0xb5, 0x01, PUSH_RBP, RET), 8, 0, 0, SITE_STEPPED);
	/* unnamed operands: cqo writes rdx; rep movsb rdi, rsi and rcx; cpuid rcx, rdx */
	expect(BYTES(0x48, 0x99, PUSH_RBP, RET), 4, 0, 0, SITE_STEPPED);
	expect(BYTES(0x48, 0x99, PUSH_RBP, RET), 3, 0, 2, SITE_EMULATED);
	expect(BYTES(0xf3, 0xa4, PUSH_RBP, RET), 8, 0, 0, SITE_STEPPED);
	expect(BYTES(0xf3, 0xa4, PUSH_RBP, RET), 1, 0, 0, SITE_STEPPED);
	expect(BYTES(0x0f, 0xa2, PUSH_RBP, RET), 8, 0, 0, SITE_STEPPED);
	/* r8 and r9: mov %rdi,%r8; xor %r9d,%r9d */
	expect(BYTES(0x49, 0x89, 0xf8, PUSH_RBP, RET), 0x10, 0, 0, SITE_STEPPED);
	expect(BYTES(0x45, 0x31, 0xc9, PUSH_RBP, RET), 0x20, 0, 0, SITE_STEPPED);
	expect(BYTES(0x45, 0x31, 0xc9, PUSH_RBP, RET), 0x1f, 0, 3, SITE_EMULATED);
	/* reading and comparing is no write */
	expect(BYTES(0x48, 0x85, 0xff, PUSH_RBP, RET), 1, 0, 3, SITE_EMULATED);
}

/* The line ends at the first branch, call or return: behind it is not every call. */
static void line_ends(void **state)
{
	/* cmpq $0,0x30(%rsi); je: the branch itself is emulated and on the line */
	expect(BYTES(0x48, 0x83, 0x7e, 0x30, 0x00, 0x74, 0x01, PUSH_RBP, RET), 3, 0, 5,
	       SITE_EMULATED);
	expect(BYTES(MOV_RAX_RDI, 0xff, 0xd0, PUSH_RBP, RET), 3, 0, 0,
	       SITE_STEPPED); /* call *rax */
	expect(BYTES(MOV_RAX_RDI, 0x0f, 0x05, PUSH_RBP, RET), 3, 0, 0, SITE_STEPPED); /* syscall */
	expect(BYTES(MOV_RAX_RDI, 0x0f, 0x0b, PUSH_RBP, RET), 3, 0, 0, SITE_STEPPED); /* ud2 */
	expect(BYTES(MOV_RAX_RDI, RET, PUSH_RBP, RET), 3, 0, 0, SITE_STEPPED);
	expect(BYTES(MOV_RAX_RDI, 0xe3, 0x01, PUSH_RBP, RET), 3, 0, 0, SITE_STEPPED); /* jrcxz */
}

/* sub; mov; push (at 7); jmp somewhere */
static void landings(void **state)
{
#define CODE(distance) BYTES(SUB_RSP, MOV_RAX_RDI, PUSH_RBP, 0xeb, distance, RET)
	expect(CODE(0xfa), 3, 0, 0, SITE_STEPPED);  /* to 4: between entry and site */
	expect(CODE(0xfb), 3, 0, 0, SITE_STEPPED);  /* to 5: inside an instruction there */
	expect(CODE(0xfd), 3, 0, 0, SITE_STEPPED);  /* to 7: the site is in a loop */
	expect(CODE(0xfe), 3, 0, 7, SITE_EMULATED); /* to 8: behind it */
	expect(CODE(0xf6), 3, 0, 0, SITE_STEPPED);  /* to 0: the entry is in a loop */
#undef CODE
	/* loop (e2) and jrcxz count as well */
	expect(BYTES(SUB_RSP, PUSH_RBP, 0xe2, 0xfd, RET), 3, 0, 0, SITE_STEPPED);
	/* a call of the entry is recursion; one between entry and site is not */
	expect(BYTES(SUB_RSP, PUSH_RBP, 0xe8, 0xf6, 0xff, 0xff, 0xff, RET), 3, 0, 4, SITE_EMULATED);
	expect(BYTES(SUB_RSP, PUSH_RBP, 0xe8, 0xfa, 0xff, 0xff, 0xff, RET), 3, 0, 0, SITE_STEPPED);
	/* a far jcc (0f 84) back to 4 */
	expect(BYTES(SUB_RSP, PUSH_RBP, 0x0f, 0x84, 0xf9, 0xff, 0xff, 0xff, RET), 3, 0, 0,
	       SITE_STEPPED);
}

/* A compiler moves unlikely code away; it may jump back. `f` begins at 16. */
static void landing_from_outside(void **state)
{
	/* at 0: nop, nop, jmp to 20; at 16: sub, push (20), je to 0 */
	static const uint8_t cold[] = { 0x90, 0x90, 0xeb, 0x10 };
	static const uint8_t hot[] = { SUB_RSP, PUSH_RBP, 0x74, 0xe9, RET };
	uint8_t code[16 + sizeof(hot)];
	struct error e;
	struct site s;

	memset(code, 0x90, sizeof(code));
	memcpy(code, cold, sizeof(cold));
	memcpy(code + 16, hot, sizeof(hot));
	assert_int_equal(plan_part(&s, code, sizeof(code), 16, 8, 3, 0, &e), 0);
	assert_int_equal(s.entry_bytes, 0);
	assert_int_equal(s.class, SITE_STEPPED);
	code[3] = 0x11; /* to 21, behind the site */
	assert_int_equal(plan_part(&s, code, sizeof(code), 16, 8, 3, 0, &e), 0);
	assert_int_equal(s.entry_bytes, 4);
	code[2] = 0x06; /* not an instruction: never taken */
	assert_int_equal(plan_part(&s, code, sizeof(code), 16, 8, 3, 0, &e), 0);
	assert_int_equal(s.entry_bytes, 4);
}

static void landing_by_table(void **state)
{
	/* lea table(%rip),%rax; push %rbp (7); jmp *%rax; the table at 0x20 */
	uint8_t relative[0x28] = { 0x48, 0x8d, 0x05, 0x19, 0, 0, 0, PUSH_RBP, 0xff, 0xe0 };
	/* mov %rdi,%rax; push %rbp (3); jmp *0x1020(,%rax,8) */
	uint8_t absolute[0x28] = { MOV_RAX_RDI, PUSH_RBP, 0xff, 0x24, 0xc5, 0x20, 0x10, 0, 0, RET };
	int32_t distance[2];
	uint64_t target;
	struct error e;
	struct site s;

	for (int landing = 7; landing <= 8; landing++) {
		distance[0] = 9 - 0x20;
		distance[1] = landing - 0x20;
		memcpy(relative + 0x20, distance, sizeof(distance));
		assert_int_equal(plan_part(&s, relative, sizeof(relative), 0, 0x20, 3, 0, &e), 0);
		assert_int_equal(s.entry_bytes, landing == 7 ? 0 : 7);
	}
	for (int landing = 3; landing <= 4; landing++) {
		target = TINY_ELF_TEXT + (unsigned)landing;
		memcpy(absolute + 0x20, &target, sizeof(target));
		assert_int_equal(plan_part(&s, absolute, sizeof(absolute), 0, 0x20, 3, 0, &e), 0);
		assert_int_equal(s.entry_bytes, landing == 3 ? 0 : 3);
	}
}

/* Another symbol between entry and site is another entry. */
static void landing_by_symbol(void **state)
{
	static const uint8_t code[] = { SUB_RSP, MOV_RAX_RDI, PUSH_RBP, RET };
	struct tiny_symbol symbols[] = { { "f", 0, sizeof(code) }, { "g", 4, 5 } };
	struct error e = { 0 };
	struct site s;
	struct elf *f = open_code(code, sizeof(code), symbols, 2);

	assert_int_equal(site__plan(&s, f, "f", 3, 0, &e), 0);
	assert_int_equal(s.entry_bytes, 0);
	assert_int_equal(site__plan(&s, f, "g", 3, 0, &e), 0);
	assert_int_equal(s.entry_bytes, 3);
	assert_int_equal(s.file_offset, TINY_ELF_TEXT + 7);
	elf__free(f);
}

static void size_unknown(void **state)
{
	/* f is 0..5 by g's address; g jumps to f's 4, which is g's affair. */
	static const uint8_t code[] = { SUB_RSP, PUSH_RBP, RET, 0xeb, 0xfc };
	struct tiny_symbol symbols[] = { { "f", 0, 0 }, { "g", 6, 0 } };
	struct error e = { 0 };
	struct site s;
	struct elf *f = open_code(code, sizeof(code), symbols, 2);

	assert_int_equal(site__plan(&s, f, "f", 3, 0, &e), 0);
	assert_int_equal(s.entry_bytes, 4);
	elf__free(f);
	f = open_code(code, sizeof(code), symbols, 1); /* now it may be f's own */
	assert_int_equal(site__plan(&s, f, "f", 3, 0, &e), 0);
	assert_int_equal(s.entry_bytes, 0);
	elf__free(f);
	/* an end that was guessed may cut an instruction; one that was said may not */
	assert_int_equal(plan_part(&s, BYTES(SUB_RSP, PUSH_RBP, RET, 0x48, 0x83), 0, 0, 3, 0, &e),
			 0);
	assert_int_equal(s.entry_bytes, 4);
	assert_int_equal(plan_part(&s, BYTES(SUB_RSP, PUSH_RBP, RET, 0x48, 0x83), 0, 8, 3, 0, &e),
			 0);
	assert_int_equal(s.entry_bytes, 0);
}

static void not_code(void **state)
{
	struct error e;
	struct site s;
	struct elf *f;

	/* 06 is no instruction in 64-bit mode */
	assert_int_equal(plan_part(&s, BYTES(0x06, RET), 0, 2, 3, 0, &e), -EINVAL);
	assert_int_equal(e.exit, EXIT_UNSUPPORTED);
	assert_non_null(strstr(e.what, "'f'"));
	/* behind the site: nothing is proved */
	expect(BYTES(SUB_RSP, PUSH_RBP, 0x06, RET), 3, 0, 0, SITE_STEPPED);
	/* a size that the file does not have */
	assert_int_equal(plan_part(&s, BYTES(PUSH_RBP, RET), 0, 1u << 30, 3, 0, &e), -EINVAL);
	assert_int_equal(plan_part(&s, BYTES(PUSH_RBP, RET), 0, WHOLE, 3, 0, &e), -EINVAL);
	f = open_code(BYTES(RET), NULL, 0);
	memset(&e, 0, sizeof(e));
	assert_int_equal(site__plan(&s, f, "f", 3, 0, &e), -ENOENT);
	assert_int_equal(e.exit, EXIT_UNSUPPORTED);
	elf__free(f);
}

/* Bytes that look like a push inside longer instructions: a probe there would change the
 * program silently. */
static void never_inside_an_instruction(void **state)
{
	/* sub $0x55555555,%rsp; and $-32,%rsp; movabs $0x5555555555555555,%rax; push */
	static const uint8_t code[] = { 0x48, 0x81, 0xec, 0x55, 0x55, 0x55, 0x55, 0x48,
					0x83, 0xe4, 0xe0, 0x48, 0xb8, 0x55, 0x55, 0x55,
					0x55, 0x55, 0x55, 0x55, 0x55, 0x55, RET };

	expect(code, sizeof(code), 3, 0, 21, SITE_EMULATED);
	/* without the real push there is none */
	expect(BYTES(0x48, 0x81, 0xec, 0x55, 0x55, 0x55, 0x55, RET), 3, 0, 0, SITE_STEPPED);
}

/* What is too long to be scanned is probed at its entry. */
static void too_long(void **state)
{
	static const uint8_t head[] = { SUB_RSP, PUSH_RBP };
	size_t n = (1u << 20) + 1;
	uint8_t *code = malloc(n);

	assert_non_null(code);
	memset(code, 0x90, n);
	memcpy(code, head, sizeof(head));
	expect(code, n, 3, 0, 0, SITE_STEPPED);
	expect(code, n - 1, 3, 0, 4, SITE_EMULATED);
	free(code);
}

static int displacement_of(const uint8_t *code, size_t n, unsigned argument, unsigned window,
			   int32_t *displacement)
{
	struct tiny_symbol symbol = { .name = "f", .size = n };
	struct elf *f = open_code(code, n, &symbol, 1);
	int err = site__first_displacement(f, "f", argument, window, displacement);

	elf__free(f);
	return err;
}

static void first_displacement(void **state)
{
	/* cmpq $0,0x30(%rsi); je; push %r12; mov 0x10(%rdi),%rdi; mov 8(%rdi),%rax */
	static const uint8_t code[] = { 0x48, 0x83, 0x7e, 0x30, 0x00, 0x74, 0x02, 0x41, 0x54,
					0x48, 0x8b, 0x7f, 0x10, 0x48, 0x8b, 0x47, 0x08, RET };
	int32_t d;

	assert_int_equal(displacement_of(code, sizeof(code), 1, 4, &d), 0);
	assert_int_equal(d, 0x30);
	assert_int_equal(displacement_of(code, sizeof(code), 0, 8, &d), 0);
	assert_int_equal(d, 0x10);
	assert_int_equal(displacement_of(code, sizeof(code), 0, 3, &d), -ENOENT); /* window */
	assert_int_equal(d, 0);
	assert_int_equal(displacement_of(code, sizeof(code), 2, 8, &d), -ENOENT);
	assert_int_equal(displacement_of(code, sizeof(code), 99, 8, &d), -ENOENT);
	/* mov -0x8(%rsi),%eax; mov (%rsi),%eax; mov 0x12345678(%rsi),%eax; lea 0x40(%rsi),%rax */
	assert_int_equal(displacement_of(BYTES(0x8b, 0x46, 0xf8, RET), 1, 4, &d), 0);
	assert_int_equal(d, -8);
	assert_int_equal(displacement_of(BYTES(0x8b, 0x06, RET), 1, 4, &d), 0);
	assert_int_equal(d, 0);
	assert_int_equal(displacement_of(BYTES(0x8b, 0x86, 0x78, 0x56, 0x34, 0x12, RET), 1, 4, &d),
			 0);
	assert_int_equal(d, 0x12345678);
	assert_int_equal(displacement_of(BYTES(0x48, 0x8d, 0x46, 0x40, RET), 1, 4, &d), 0);
	assert_int_equal(d, 0x40);
	/* an element of an array is no field: mov 0x10(%rsi,%rax,4),%eax */
	assert_int_equal(displacement_of(BYTES(0x8b, 0x44, 0x86, 0x10, RET), 1, 4, &d), -ENOENT);
	/* behind a write of the register or a call it is not the argument any more */
	assert_int_equal(displacement_of(BYTES(0x31, 0xf6, 0x8b, 0x46, 0x08, RET), 1, 4, &d),
			 -ENOENT);
	assert_int_equal(displacement_of(BYTES(0xff, 0xd0, 0x8b, 0x46, 0x08, RET), 1, 4, &d),
			 -ENOENT);
	assert_int_equal(displacement_of(BYTES(0x06, 0x8b, 0x46, 0x08, RET), 1, 4, &d), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(first_push),
		cmocka_unit_test(not_emulated),
		cmocka_unit_test(stack_pointer),
		cmocka_unit_test(arguments_overwritten),
		cmocka_unit_test(line_ends),
		cmocka_unit_test(landings),
		cmocka_unit_test(landing_from_outside),
		cmocka_unit_test(landing_by_table),
		cmocka_unit_test(landing_by_symbol),
		cmocka_unit_test(size_unknown),
		cmocka_unit_test(not_code),
		cmocka_unit_test(never_inside_an_instruction),
		cmocka_unit_test(too_long),
		cmocka_unit_test(first_displacement),
	};

	return cmocka_run_group_tests_name("site", tests, NULL, NULL);
}
