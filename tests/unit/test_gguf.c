/* SPDX-License-Identifier: BSD-2-Clause */
/* GGUF headers are written here field by field, as the format's description says. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "probe/base/buffer.h"
#include "probe/base/error.h"
#include "probe/base/sha256.h"
#include "probe/target/gguf.h"

enum { U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 };

/* A header under construction. */
struct header {
	struct buffer pairs, tensors;
	uint64_t pair_count, tensor_count;
	uint32_t version;
};

static void put(struct buffer *b, uint64_t value, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		assert_int_equal(buffer__append(b, &(uint8_t){ value >> (8 * i) }, 1), 0);
}

static void put_text(struct buffer *b, const char *text)
{
	put(b, strlen(text), 8);
	assert_int_equal(buffer__append(b, text, strlen(text)), 0);
}

static void pair(struct header *h, const char *key, uint32_t type)
{
	put_text(&h->pairs, key);
	put(&h->pairs, type, 4);
	h->pair_count++;
}

static void number(struct header *h, const char *key, uint32_t type, uint64_t value)
{
	static const uint8_t bytes[] = { 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 };

	pair(h, key, type);
	put(&h->pairs, value, bytes[type]);
}

static void text(struct header *h, const char *key, const char *value)
{
	pair(h, key, STRING);
	put_text(&h->pairs, value);
}

static void tokens(struct header *h, uint32_t count)
{
	pair(h, "tokenizer.ggml.tokens", ARRAY);
	put(&h->pairs, STRING, 4);
	put(&h->pairs, count, 8);
	for (uint32_t i = 0; i < count; i++)
		put_text(&h->pairs, i % 2 ? "token" : "");
}

static void tensor(struct header *h, const char *name, uint32_t type)
{
	put_text(&h->tensors, name);
	put(&h->tensors, 2, 4);
	put(&h->tensors, 128, 8);
	put(&h->tensors, 16, 8);
	put(&h->tensors, type, 4);
	put(&h->tensors, 32 * h->tensor_count++, 8);
}

/* The whole header's bytes; frees @h. */
static struct buffer finish(struct header *h)
{
	struct buffer b = { 0 };

	buffer__append(&b, "GGUF", 4);
	put(&b, h->version ? h->version : 3, 4);
	put(&b, h->tensor_count, 8);
	put(&b, h->pair_count, 8);
	buffer__append(&b, h->pairs.data, h->pairs.size);
	buffer__append(&b, h->tensors.data, h->tensors.size);
	buffer__free(&h->pairs);
	buffer__free(&h->tensors);
	return b;
}

/* An OLMoE of 6 blocks of which 1, 2 and 5 have routers. */
static struct buffer olmoe(void)
{
	struct header h = { 0 };

	text(&h, "general.architecture", "olmoe");
	text(&h, "general.name", "a \x1b[31m name");
	number(&h, "olmoe.block_count", U32, 6);
	number(&h, "olmoe.expert_count", U32, 64);
	number(&h, "olmoe.expert_used_count", U16, 8);
	number(&h, "olmoe.expert_shared_count", U64, 0);
	number(&h, "olmoe.rope.freq_base", F32, 0x461c4000);
	number(&h, "other.block_count", U32, 99);
	number(&h, "olmoe.expert_gating_func", I32, 1);
	tokens(&h, 300);
	tensor(&h, "blk.5.ffn_gate_inp.weight", 0);
	tensor(&h, "token_embd.weight", 1);
	tensor(&h, "blk.1.ffn_gate_inp.weight", 0);
	tensor(&h, "blk.1.ffn_gate_exps.weight", 12);
	tensor(&h, "blk.1.ffn_up_exps.weight", 12);
	tensor(&h, "blk.1.ffn_down_exps.weight", 14);
	tensor(&h, "blk.1.attn_q.weight", 8);
	tensor(&h, "blk.2.ffn_gate_inp.weight", 0);
	tensor(&h, "blk.3.ffn_gate_inp_shexp.weight", 0);
	tensor(&h, "blk.3.ffn_gate_inp.bias", 0);
	tensor(&h, "blk.4x.ffn_gate_inp.weight", 0);
	tensor(&h, "blk.99999999999999999999.ffn_gate_inp.weight", 0);
	return finish(&h);
}

static void check_olmoe(const struct gguf_model *m)
{
	assert_string_equal(m->architecture, "olmoe");
	assert_string_equal(m->name, "a ?[31m name");
	assert_string_equal(m->quantisation, "Q4_K");
	assert_int_equal(m->blocks, 6);
	assert_int_equal(m->experts, 64);
	assert_int_equal(m->experts_used, 8);
	assert_int_equal(m->experts_shared, 0);
	assert_int_equal(m->expert_groups, GGUF_UNKNOWN);
	assert_int_equal(m->expert_groups_used, GGUF_UNKNOWN);
	assert_int_equal(m->gating_function, 1);
	assert_int_equal(m->weights_normalised, 0);
	assert_int_equal(m->vocabulary, 300);
	assert_int_equal(m->splits, GGUF_UNKNOWN);
	assert_int_equal(m->moe_layers, 3);
	assert_int_equal(m->layer_ids[0], 1);
	assert_int_equal(m->layer_ids[1], 2);
	assert_int_equal(m->layer_ids[2], 5);
}

static void reads_a_model_from_memory(void **state)
{
	struct gguf_model m;
	struct buffer b = olmoe();
	struct error e = { 0 };

	assert_int_equal(gguf__parse(&m, b.data, b.size, "x", &e), 0);
	assert_false(error__is_set(&e));
	check_olmoe(&m);
	buffer__free(&b);
}

static int file_of(const struct buffer *b)
{
	int fd = memfd_create("gguf", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, b->data, b->size), b->size);
	return fd;
}

static void reads_a_model_from_a_file(void **state)
{
	struct buffer b = olmoe();
	struct error e = { 0 };
	struct gguf_model m;
	int fd = file_of(&b);

	/* A file of many gigabytes of weights: only its header is read. */
	assert_int_equal(ftruncate(fd, 40ll << 30), 0);
	assert_int_equal(lseek(fd, 77, SEEK_SET), 77);
	assert_int_equal(gguf__read(&m, fd, "x", &e), 0);
	check_olmoe(&m);
	assert_int_equal(lseek(fd, 0, SEEK_CUR), 77);
	close(fd);
	buffer__free(&b);
}

/* A vocabulary of several windows, with the architecture behind it. */
static void reads_through_a_small_window(void **state)
{
	struct header h = { .version = 2 };
	struct error e = { 0 };
	struct gguf_model m;
	struct buffer b;
	int fd;

	number(&h, "qwen3moe.expert_count", U32, 128);
	tokens(&h, 40000);
	text(&h, "general.architecture", "qwen3moe");
	tensor(&h, "blk.0.ffn_gate_inp.weight", 0);
	b = finish(&h);
	assert_true(b.size > 6 * 65536);
	fd = file_of(&b);
	assert_int_equal(gguf__read(&m, fd, "x", &e), 0);
	assert_string_equal(m.architecture, "qwen3moe");
	assert_int_equal(m.experts, 128);
	assert_int_equal(m.vocabulary, 40000);
	assert_int_equal(m.weights_normalised, 1);
	assert_int_equal(m.moe_layers, 1);
	assert_string_equal(m.quantisation, "");
	close(fd);
	buffer__free(&b);
}

static struct gguf_model read_pairs_of(struct header *h)
{
	struct buffer b = finish(h);
	struct error e = { 0 };
	struct gguf_model m;

	assert_int_equal(gguf__parse(&m, b.data, b.size, "x", &e), 0);
	buffer__free(&b);
	return m;
}

static void knows_normalisation(void **state)
{
	static const struct {
		const char *architecture;
		int key; /* -1: none */
		uint32_t expected;
	} cases[] = {
		{ "olmoe", -1, 0 },
		{ "olmoe", 1, 1 },
		{ "llama", -1, 1 },
		{ "llama", 0, 0 },
		{ "qwen3moe", -1, 1 },
		{ "deepseek2", 1, 1 },
		{ "deepseek2", -1, GGUF_UNKNOWN },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct header h = { 0 };
		char key[64];

		text(&h, "general.architecture", cases[i].architecture);
		snprintf(key, sizeof(key), "%s.expert_weights_norm", cases[i].architecture);
		if (cases[i].key >= 0)
			number(&h, key, BOOL, (uint64_t)cases[i].key);
		assert_int_equal(read_pairs_of(&h).weights_normalised, cases[i].expected);
	}
}

static void takes_groups_and_splits(void **state)
{
	struct header h = { 0 };
	struct gguf_model m;

	text(&h, "general.architecture", "deepseek2");
	number(&h, "deepseek2.expert_group_count", U32, 8);
	number(&h, "deepseek2.expert_group_used_count", U8, 4);
	number(&h, "deepseek2.vocab_size", U32, 129280);
	number(&h, "split.count", U16, 3);
	m = read_pairs_of(&h);
	assert_int_equal(m.expert_groups, 8);
	assert_int_equal(m.expert_groups_used, 4);
	assert_int_equal(m.vocabulary, 129280);
	assert_int_equal(m.splits, 3);
	assert_int_equal(m.blocks, GGUF_UNKNOWN);
	assert_int_equal(m.moe_layers, 0);
}

static void assert_sum(const uint8_t *digest, const void *bytes, size_t size)
{
	uint8_t want[SHA256_BYTES];
	struct sha256 h;

	sha256__begin(&h);
	sha256__add(&h, bytes, size);
	sha256__end(&h, want);
	assert_memory_equal(digest, want, sizeof(want));
}

/* How weights are made, and the sums by which a model is known again. */
static void takes_gate_scale_and_sums(void **state)
{
	static const char three[] = "\0token\0"; /* "", "token", "", each with its zero byte */
	struct header h = { 0 };
	struct gguf_model m;
	struct buffer b;

	text(&h, "general.architecture", "deepseek2");
	number(&h, "deepseek2.expert_gating_func", U32, 2);
	number(&h, "deepseek2.expert_weights_scale", F32, 0x40200000);
	tokens(&h, 3);
	tensor(&h, "blk.1.ffn_gate_inp.weight", 0);
	b = finish(&h);
	buffer__append(&b, "data of tensors", 15);
	assert_int_equal(gguf__parse(&m, b.data, b.size, "x", NULL), 0);
	assert_int_equal(m.gating_function, 2);
	assert_true(m.weights_scale == 2.5f);
	assert_int_equal(m.vocabulary, 3);
	assert_sum(m.tokens_digest, three, sizeof(three));
	assert_sum(m.header_digest, b.data, b.size - 15);
	buffer__free(&b);

	memset(&h, 0, sizeof(h));
	text(&h, "general.architecture", "deepseek2");
	number(&h, "deepseek2.expert_weights_scale", F32, 0x7fc00000); /* not a number */
	m = read_pairs_of(&h);
	assert_true(m.weights_scale == 0);
	assert_int_equal(m.gating_function, GGUF_UNKNOWN);
	assert_int_equal(m.tokens_digest[0], 0);
	memset(&h, 0, sizeof(h));
	text(&h, "general.architecture", "olmoe");
	m = read_pairs_of(&h);
	assert_true(m.weights_scale == 1);
	assert_int_equal(m.gating_function, 1);
}

static void absurd_numbers_are_unknown(void **state)
{
	static const struct {
		uint32_t type;
		uint64_t value;
	} cases[] = {
		{ I8, 0xff },        { I16, 0x8000 },     { I32, 0xffffffff },
		{ I64, 1ull << 63 }, { U64, 1ull << 32 }, { U64, UINT64_MAX },
		{ U32, UINT32_MAX }, { F32, 0x41000000 }, { F64, 0x4020000000000000 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct header h = { 0 };
		struct gguf_model m;

		text(&h, "general.architecture", "olmoe");
		number(&h, "olmoe.expert_count", cases[i].type, cases[i].value);
		number(&h, "olmoe.block_count", I64, 7);
		m = read_pairs_of(&h);
		assert_int_equal(m.experts, GGUF_UNKNOWN);
		assert_int_equal(m.blocks, 7);
	}
}

static void a_dense_model_is_no_error(void **state)
{
	struct header h = { 0 };
	struct gguf_model m;

	text(&h, "general.architecture", "llama");
	number(&h, "llama.block_count", U32, 2);
	tensor(&h, "blk.0.ffn_up.weight", 1);
	m = read_pairs_of(&h);
	assert_int_equal(m.experts, GGUF_UNKNOWN);
	assert_int_equal(m.moe_layers, 0);
	assert_string_equal(m.quantisation, "");
}

static void refuse(const void *bytes, size_t size, const char *why)
{
	struct error e = { 0 };
	struct gguf_model m;

	memset(&m, 0x55, sizeof(m));
	assert_int_equal(gguf__parse(&m, bytes, size, "file", &e), -EINVAL);
	assert_int_equal(e.exit, EXIT_UNSUPPORTED);
	assert_true(strstr(e.what, "gguf: failed to read 'file': ") == e.what);
	assert_string_equal(e.what + strlen("gguf: failed to read 'file': "), why);
	assert_int_equal(m.moe_layers, 0);
	assert_int_equal(m.experts, GGUF_UNKNOWN);
	assert_string_equal(m.architecture, "");
}

static void refuse_header(struct header *h, const char *why)
{
	struct buffer b = finish(h);

	refuse(b.data, b.size, why);
	buffer__free(&b);
}

static void refuses_what_is_no_gguf(void **state)
{
	struct header big = { .version = 3u << 24 }, first = { .version = 1 },
		      future = { .version = 4 }, nameless = { 0 };

	refuse("", 0, "not a GGUF file");
	refuse("GGU", 3, "not a GGUF file");
	refuse("\x7f"
	       "ELFELFELFELFELFELFELFELF",
	       24, "not a GGUF file");
	refuse("GGUF", 4, "its header is cut off");
	refuse_header(&big, "it is a big-endian GGUF file");
	refuse_header(&first, "its GGUF version is neither 2 nor 3");
	refuse_header(&future, "its GGUF version is neither 2 nor 3");
	number(&nameless, "olmoe.block_count", U32, 1);
	refuse_header(&nameless, "it names no architecture");
}

static void refuses_counts_that_the_file_cannot_hold(void **state)
{
	struct header pairs = { .pair_count = 1ull << 60 }, many = { .tensor_count = UINT64_MAX },
		      array = { 0 }, wrap = { 0 }, key = { 0 }, string = { 0 };

	refuse_header(&pairs, "its counts are larger than the file");
	refuse_header(&many, "its counts are larger than the file");
	pair(&array, "x", ARRAY);
	put(&array.pairs, STRING, 4);
	put(&array.pairs, UINT64_MAX, 8);
	refuse_header(&array, "its header is cut off");
	pair(&wrap, "x", ARRAY); /* 2^61 x 8 bytes wraps to 0 */
	put(&wrap.pairs, U64, 4);
	put(&wrap.pairs, 1ull << 61, 8);
	refuse_header(&wrap, "its header is cut off");
	put(&key.pairs, UINT64_MAX, 8);
	put(&key.pairs, 0, 8);
	key.pair_count = 1;
	refuse_header(&key, "a name in it is too long");
	pair(&string, "x", STRING);
	put(&string.pairs, UINT64_MAX - 8, 8);
	refuse_header(&string, "its header is cut off");
}

static void refuses_types_that_do_not_exist(void **state)
{
	struct header value = { 0 }, element = { 0 }, nested = { 0 }, layer = { 0 };

	pair(&value, "xxxx", 13);
	put(&value.pairs, 0, 8);
	refuse_header(&value, "it has a value of an unknown type");
	pair(&element, "x", ARRAY);
	put(&element.pairs, 13, 4);
	put(&element.pairs, 0, 8);
	refuse_header(&element, "it has an array of an unknown type");
	pair(&nested, "x", ARRAY);
	for (int i = 0; i < 1000; i++) {
		put(&nested.pairs, ARRAY, 4);
		put(&nested.pairs, 1, 8);
	}
	refuse_header(&nested, "it has an array of an unknown type");
	text(&layer, "general.architecture", "olmoe");
	tensor(&layer, "blk.1024.ffn_gate_inp.weight", 0);
	refuse_header(&layer, "it has more layers than are supported");
}

/* A file cut anywhere is refused, and nothing is read outside it (sanitizers watch). */
static void refuses_every_cut(void **state)
{
	struct buffer b = olmoe();

	for (size_t n = 0; n < b.size; n++) {
		uint8_t *cut = malloc(n ? n : 1);
		struct error e = { 0 };
		struct gguf_model m;

		memcpy(cut, b.data, n);
		assert_int_equal(gguf__parse(&m, cut, n, "x", &e), -EINVAL);
		assert_int_equal(e.exit, EXIT_UNSUPPORTED);
		free(cut);
	}
	buffer__free(&b);
}

/* A sparse file that claims an endless array must not keep us busy. */
static void bounds_the_header(void **state)
{
	struct header h = { 0 };
	struct error e = { 0 };
	struct gguf_model m;
	struct buffer b;
	int fd;

	pair(&h, "x", ARRAY);
	put(&h.pairs, STRING, 4);
	put(&h.pairs, 1ull << 40, 8);
	b = finish(&h);
	fd = file_of(&b);
	assert_int_equal(ftruncate(fd, 1ll << 44), 0);
	assert_int_equal(gguf__read(&m, fd, "x", &e), -EINVAL);
	assert_string_equal(e.what, "gguf: failed to read 'x': its header is longer than 256 MB");
	close(fd);
	buffer__free(&b);
}

static void refuses_what_is_no_file(void **state)
{
	struct error e = { 0 };
	struct gguf_model m;
	int ends[2];

	assert_int_equal(pipe(ends), 0);
	assert_int_equal(gguf__read(&m, ends[0], "x", &e), -EINVAL);
	assert_int_equal(e.exit, EXIT_FAILED);
	close(ends[0]);
	close(ends[1]);
	error__clear(&e);
	assert_int_equal(gguf__read(&m, -1, "x", &e), -EBADF);
	assert_string_equal(e.what, "gguf: failed to read 'x': Bad file descriptor");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_a_model_from_memory),
		cmocka_unit_test(reads_a_model_from_a_file),
		cmocka_unit_test(reads_through_a_small_window),
		cmocka_unit_test(knows_normalisation),
		cmocka_unit_test(takes_groups_and_splits),
		cmocka_unit_test(takes_gate_scale_and_sums),
		cmocka_unit_test(absurd_numbers_are_unknown),
		cmocka_unit_test(a_dense_model_is_no_error),
		cmocka_unit_test(refuses_what_is_no_gguf),
		cmocka_unit_test(refuses_counts_that_the_file_cannot_hold),
		cmocka_unit_test(refuses_types_that_do_not_exist),
		cmocka_unit_test(refuses_every_cut),
		cmocka_unit_test(bounds_the_header),
		cmocka_unit_test(refuses_what_is_no_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
