/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A process that plays one with libtorch, and one that sends: functions that are called with
 * references to tensors, or with buffers, of known contents. Commands come from standard input, one
 * a line; each is answered by one line, "ok" or "unknown".
 *
 *   head BYTES                               where tensors made from now on keep their sizes
 *   tensor N DTYPE DIMS SIZE*3 STRIDE*3 OFFSET  tensor N; sizes, strides and offset in elements
 *   odd N NAME                               make tensor N absurd
 *   buffer N BYTES                           buffer N; what is behind it is not mapped
 *   text N TEXT                              buffer N with this text; \r and \n as in C
 *   vector N {BUFFER:LENGTH}                 iovec[] N
 *   message N VECTOR COUNT                   msghdr N
 *   call FUNCTION TIMES {ARGUMENT}           up to 8 arguments, the last two on the stack: a
 * number, tN (by reference), bN, vN, mN, or ! (not mapped) thread FUNCTION TIMES {ARGUMENT} the
 * same, on a thread of its own
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/tools/aten_double.h"

#define PROBED __attribute__((noipa, used, visibility("default")))
/* First instruction of a probed function: a push, which the kernel emulates. */
#if defined(__x86_64__)
#define ENTRY() asm volatile("push %%rbp\n\tpop %%rbp" ::: "memory")
#else
#define ENTRY() asm volatile("nop" ::: "memory")
#endif
#define GARBAGE ((void *)0x123456789000ull) /* a user address where nothing is mapped */

typedef void called(uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5,
		    uint64_t s0, uint64_t s1);

#define CALLED(name) \
	called name; \
	PROBED void name(uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4, \
			 uint64_t a5, uint64_t s0, uint64_t s1) \
	{ \
		ENTRY(); \
	}
CALLED(double_call_0)
CALLED(double_call_1)
CALLED(double_call_2)
CALLED(double_call_3)
CALLED(double_call_4)
CALLED(double_call_5)
CALLED(double_call_6)
CALLED(double_call_7)

static called *const functions[] = { double_call_0, double_call_1, double_call_2, double_call_3,
				     double_call_4, double_call_5, double_call_6, double_call_7 };
#define FUNCTIONS (sizeof(functions) / sizeof(*functions))
#define ARGUMENTS 8
#define PIECES 32

/* What commands made. A `const Tensor &` is the address of an element of @reference. */
static void *reference[DOUBLE_OBJECTS];
static uint8_t impl[DOUBLE_OBJECTS][DOUBLE_IMPL_BYTES];
static uint8_t storage[DOUBLE_OBJECTS][64];
static unsigned head_of[DOUBLE_OBJECTS];
static void *buffer[DOUBLE_OBJECTS];
static struct iovec vector[DOUBLE_OBJECTS][PIECES];
static struct msghdr message[DOUBLE_OBJECTS];
static unsigned head = DOUBLE_HEAD;

static void put(uint8_t *at, const void *value, size_t size)
{
	memcpy(at, value, size);
}

/* @bytes whose end is the end of what is mapped there. */
static uint8_t *before_a_hole(size_t bytes)
{
	size_t page = sysconf(_SC_PAGESIZE), size = (bytes + page - 1) / page * page;
	uint8_t *at =
		mmap(NULL, size + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED || munmap(at + size, page))
		abort();
	return at + size - bytes;
}

static uint8_t *filled(unsigned number, size_t bytes)
{
	uint8_t *at = before_a_hole(bytes);

	for (size_t i = 0; i < bytes; i++)
		at[i] = double_byte(number, i);
	return at;
}

/* --- tensors ---------------------------------------------------------------------------------- */

static bool do_head(const char *arguments)
{
	head = atoi(arguments);
	return head == DOUBLE_HEAD || head == DOUBLE_HEAD_OLD;
}

/* {dims, sizes[5], strides[5], offset, numel, dtype, device, device index} */
static void impl__fill(unsigned n, unsigned dtype, unsigned long dims, const long *size,
		       const long *stride, long offset)
{
	uint8_t *at = impl[n] + head;
	long numel = 1, end = offset + 1;
	int8_t device[2] = { 0, -1 };
	uint16_t type = dtype;
	size_t bytes;
	void *p;

	memset(impl[n], 0xcc, sizeof(impl[n]));
	memset(storage[n], 0xdd, sizeof(storage[n]));
	put(at, &dims, 8);
	for (unsigned long i = 0; i < dims && i < 3; i++) {
		put(at + 8 + 8 * i, &size[i], 8);
		put(at + 48 + 8 * i, &stride[i], 8);
		numel *= size[i];
		end += (size[i] - 1) * stride[i];
	}
	put(at + 88, &offset, 8);
	put(at + 96, &numel, 8);
	put(at + 104, &type, 2);
	put(at + 106, device, 2);
	bytes = numel ? end * double_element_bytes(dtype) : 0;
	p = filled(n, bytes);
	put(storage[n] + DOUBLE_DATA, &p, 8);
	put(storage[n] + DOUBLE_DATA_BYTES, &bytes, 8);
	p = storage[n];
	put(impl[n] + DOUBLE_STORAGE, &p, 8);
	reference[n] = impl[n];
	head_of[n] = head;
}

static bool do_tensor(const char *arguments)
{
	long size[3], stride[3], offset;
	unsigned n, dtype, dims;

	if (sscanf(arguments, "%u %u %u %ld %ld %ld %ld %ld %ld %ld", &n, &dtype, &dims, &size[0],
		   &size[1], &size[2], &stride[0], &stride[1], &stride[2], &offset) != 10 ||
	    n >= DOUBLE_OBJECTS)
		return false;
	impl__fill(n, dtype, dims, size, stride, offset);
	return true;
}

static void field(unsigned n, unsigned at, uint64_t value)
{
	put(impl[n] + head_of[n] + at, &value, 8);
}

static bool do_odd(const char *arguments)
{
	void *const null = NULL, *const garbage = GARBAGE;
	const int8_t device = 1;
	char name[32];
	unsigned n;

	if (sscanf(arguments, "%u %31s", &n, name) != 2 || n >= DOUBLE_OBJECTS)
		return false;
/* Change something if the command names this case. */
#define ODD(text, change) \
	do { \
		if (!strcmp(name, text)) { \
			change; \
			return true; \
		} \
	} while (0)
	ODD("device", put(impl[n] + head_of[n] + 106, &device, 1));
	ODD("null", reference[n] = NULL);
	ODD("garbage", reference[n] = GARBAGE);
	ODD("kernel", reference[n] = (void *)0xffffffff81000000ull);
	ODD("cut", reference[n] = before_a_hole(100));
	ODD("storage-null", put(impl[n] + DOUBLE_STORAGE, &null, 8));
	ODD("storage-garbage", put(impl[n] + DOUBLE_STORAGE, &garbage, 8));
	ODD("data-null", put(storage[n] + DOUBLE_DATA, &null, 8));
	ODD("data-garbage", put(storage[n] + DOUBLE_DATA, &garbage, 8));
	ODD("dims-zero", field(n, 0, 0));
	ODD("dims-huge", field(n, 0, UINT64_MAX));
	ODD("size-negative", field(n, 8, -4));
	ODD("size-huge", field(n, 8, INT64_MAX));
	ODD("last-negative", field(n, 16, -4));
	ODD("stride-negative", field(n, 48, -4));
	ODD("stride-huge", field(n, 48, 1ull << 40));
	ODD("dtype-huge", put(impl[n] + head_of[n] + 104, &(uint16_t){ 0xffff }, 2));
	ODD("offset-huge", field(n, 88, 1ull << 50));
	return false;
}

/* --- what is sent ----------------------------------------------------------------------------- */

static bool do_buffer(const char *arguments)
{
	unsigned n;
	size_t bytes;

	if (sscanf(arguments, "%u %zu", &n, &bytes) != 2 || n >= DOUBLE_OBJECTS)
		return false;
	buffer[n] = filled(n, bytes);
	return true;
}

static bool do_text(const char *arguments)
{
	char text[1024];
	size_t size = 0;
	unsigned n;
	int at = 0;

	if (sscanf(arguments, "%u %n", &n, &at) != 1 || n >= DOUBLE_OBJECTS || !at)
		return false;
	for (const char *c = arguments + at; *c && size < sizeof(text); c++) {
		bool escaped = *c == '\\' && (c[1] == 'r' || c[1] == 'n');

		text[size++] = !escaped ? *c : *++c == 'r' ? '\r' : '\n';
	}
	buffer[n] = before_a_hole(size);
	memcpy(buffer[n], text, size);
	return true;
}

static bool do_vector(const char *arguments)
{
	unsigned n, from;
	size_t length;
	int at = 0, more;

	if (sscanf(arguments, "%u%n", &n, &at) != 1 || n >= DOUBLE_OBJECTS)
		return false;
	memset(vector[n], 0xcc, sizeof(vector[n]));
	for (unsigned i = 0; i < PIECES; i++) {
		if (sscanf(arguments + at, "%u:%zu%n", &from, &length, &more) != 2)
			return true;
		vector[n][i] =
			(struct iovec){ from < DOUBLE_OBJECTS ? buffer[from] : GARBAGE, length };
		at += more;
	}
	return true;
}

static bool do_message(const char *arguments)
{
	unsigned n, of;
	size_t count;

	if (sscanf(arguments, "%u %u %zu", &n, &of, &count) != 3 || n >= DOUBLE_OBJECTS)
		return false;
	memset(&message[n], 0xcc, sizeof(message[n]));
	message[n].msg_iov = of < DOUBLE_OBJECTS ? vector[of] : GARBAGE;
	message[n].msg_iovlen = count;
	return true;
}

/* --- calls ------------------------------------------------------------------------------------ */

struct call {
	unsigned function, times;
	uint64_t argument[ARGUMENTS];
};

static uint64_t value_of(const char *word)
{
	unsigned n = atoi(word + 1) % DOUBLE_OBJECTS;

	switch (*word) {
	case 't':
		return (uintptr_t)&reference[n];
	case 'b':
		return (uintptr_t)buffer[n];
	case 'v':
		return (uintptr_t)vector[n];
	case 'm':
		return (uintptr_t)&message[n];
	case '!':
		return (uintptr_t)GARBAGE;
	default:
		return strtoull(word, NULL, 0);
	}
}

static bool call__parse(struct call *c, const char *arguments)
{
	char word[32];
	int at, more;

	memset(c, 0, sizeof(*c));
	if (sscanf(arguments, "%u %u%n", &c->function, &c->times, &at) != 2 ||
	    c->function >= FUNCTIONS)
		return false;
	for (unsigned i = 0; i < ARGUMENTS; i++) {
		if (sscanf(arguments + at, "%31s%n", word, &more) != 1)
			break;
		c->argument[i] = value_of(word);
		at += more;
	}
	return true;
}

static void *work(void *arg)
{
	const struct call *c = arg;
	const uint64_t *a = c->argument;

	for (unsigned i = 0; i < c->times; i++)
		functions[c->function](a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]);
	return NULL;
}

static bool do_call(const char *arguments)
{
	struct call c;

	if (!call__parse(&c, arguments))
		return false;
	work(&c);
	return true;
}

static bool do_thread(const char *arguments)
{
	pthread_t thread;
	struct call c;

	if (!call__parse(&c, arguments))
		return false;
	if (pthread_create(&thread, NULL, work, &c) || pthread_join(thread, NULL))
		abort();
	return true;
}

static const struct {
	const char *name;
	bool (*run)(const char *arguments);
} commands[] = {
	{ "head ", do_head },     { "tensor ", do_tensor }, { "odd ", do_odd },
	{ "buffer ", do_buffer }, { "vector ", do_vector }, { "message ", do_message },
	{ "call ", do_call },     { "thread ", do_thread }, { "text ", do_text },
};

static bool run(const char *line)
{
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		size_t length = strlen(commands[i].name);

		if (!strncmp(line, commands[i].name, length))
			return commands[i].run(line + length);
	}
	return false;
}

int main(void)
{
	char line[1024];

	while (fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\n")] = '\0';
		puts(run(line) ? "ok" : "unknown");
		fflush(stdout);
	}
	return 0;
}
