/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/target/gguf.h"

#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "probe/base/error.h"
#include "probe/base/sha256.h"
#include "probe/target/gguf_stream.h"

#define KEY_MAX 65535 /* by the format */
#define TENSOR_NAME_MAX 1024
#define DIMENSIONS_MAX 8
/* What the smallest key and tensor entry take: length and type; length, counts and offset. */
#define PAIR_BYTES_MIN 13
#define TENSOR_BYTES_MIN 24

/* Numbers of the architecture: X(key behind "<architecture>.", field). */
#define GEOMETRY(X) \
	X("block_count", blocks) \
	X("expert_count", experts) \
	X("expert_used_count", experts_used) \
	X("expert_shared_count", experts_shared) \
	X("expert_group_count", expert_groups) \
	X("expert_group_used_count", expert_groups_used) \
	X("expert_gating_func", gating_function) \
	X("expert_weights_norm", weights_normalised) \
	X("vocab_size", vocabulary)

static const struct {
	const char *key;
	size_t offset;
} geometry[] = {
#define X(key, field) { key, offsetof(struct gguf_model, field) },
	GEOMETRY(X)
#undef X
};

#define GEOMETRY_COUNT (sizeof(geometry) / sizeof(geometry[0]))

/* ggml's tensor types: X(id, NAME). Ids that are missing were withdrawn. */
#define TENSOR_TYPES(X) \
	X(0, F32) \
	X(1, F16) \
	X(2, Q4_0) \
	X(3, Q4_1) \
	X(6, Q5_0) \
	X(7, Q5_1) \
	X(8, Q8_0) \
	X(9, Q8_1) \
	X(10, Q2_K) \
	X(11, Q3_K) \
	X(12, Q4_K) \
	X(13, Q5_K) \
	X(14, Q6_K) \
	X(15, Q8_K) \
	X(16, IQ2_XXS) \
	X(17, IQ2_XS) \
	X(18, IQ3_XXS) \
	X(19, IQ1_S) \
	X(20, IQ4_NL) \
	X(21, IQ3_S) \
	X(22, IQ2_S) \
	X(23, IQ4_XS) \
	X(24, I8) \
	X(25, I16) \
	X(26, I32) \
	X(27, I64) \
	X(28, F64) \
	X(29, IQ1_M) \
	X(30, BF16) \
	X(34, TQ1_0) \
	X(35, TQ2_0) \
	X(39, MXFP4) \
	X(40, NVFP4) \
	X(41, Q1_0)

static const char *const tensor_types[] = {
#define X(id, name) [id] = #name,
	TENSOR_TYPES(X)
#undef X
};

#define TYPES_MAX 64 /* room for ids that are not yet named */

/* What the engine does for the architecture where the file does not say: whether the chosen gates
 * are divided by their sum. All of these take a softmax, and scale by 1. */
static const struct {
	const char *architecture;
	uint32_t normalised;
} habits[] = {
	{ "llama", 1 }, /* Mixtral */
	{ "qwen3moe", 1 },
	{ "olmoe", 0 },
};
#define GATING_SOFTMAX 1

/* What is collected from the tensors' names. */
struct layers {
	bool is_moe[GGUF_LAYERS_MAX];
	uint32_t types[TYPES_MAX]; /* of expert tensors, how many each */
};

static void copy_text(char *out, size_t size, struct gguf_text t)
{
	size_t n = t.size < size ? t.size : size - 1;

	for (size_t i = 0; i < n; i++)
		out[i] = (unsigned char)t.bytes[i] < ' ' || t.bytes[i] == 0x7f ? '?' : t.bytes[i];
	out[n] = '\0';
}

/* Behind "<architecture>." of @key, or an empty text. */
static struct gguf_text behind_architecture(const struct gguf_model *m, struct gguf_text key)
{
	size_t n = strlen(m->architecture);

	if (!n || key.size <= n + 1 || memcmp(key.bytes, m->architecture, n) || key.bytes[n] != '.')
		return (struct gguf_text){ "", 0 };
	return (struct gguf_text){ key.bytes + n + 1, key.size - n - 1 };
}

/* The field that @key names, or NULL. */
static uint32_t *geometry_field(struct gguf_model *m, struct gguf_text key)
{
	struct gguf_text rest = behind_architecture(m, key);

	for (size_t i = 0; i < GEOMETRY_COUNT; i++)
		if (text__is(rest, geometry[i].key))
			return (uint32_t *)((char *)m + geometry[i].offset);
	return text__is(key, "split.count") ? &m->splits : NULL;
}

static void read_text_value(struct gguf_stream *s, uint32_t type, char *out, size_t size)
{
	if (type == GGUF_STRING)
		copy_text(out, size, gguf_stream__text(s, GGUF_WINDOW));
	else
		gguf_stream__skip_value(s, type);
}

static float real_of(uint32_t bits)
{
	float real;

	memcpy(&real, &bits, sizeof(real));
	return isfinite(real) ? real : 0;
}

/* The tokens' number; their sum goes to @m. */
static uint64_t read_tokens(struct gguf_stream *s, struct gguf_model *m)
{
	uint64_t start = s->at, count;
	struct sha256 sum;

	if (gguf_stream__u32(s) != GGUF_STRING) {
		s->at = start;
		return gguf_stream__array(s);
	}
	count = gguf_stream__u64(s);
	sha256__begin(&sum);
	for (uint64_t i = 0; i < count && !s->why; i++) { /* each takes 8 bytes or fails */
		struct gguf_text token = gguf_stream__text(s, GGUF_WINDOW);

		sha256__add(&sum, token.bytes, token.size);
		sha256__add(&sum, "", 1);
	}
	sha256__end(&sum, m->tokens_digest);
	return s->why ? 0 : count;
}

/* One key and its value. The architecture names other keys: it is known before (read_pairs). */
static void read_pair(struct gguf_stream *s, struct gguf_model *m, uint64_t *tokens)
{
	struct gguf_text key = gguf_stream__text(s, KEY_MAX);
	uint32_t *field = geometry_field(m, key);
	bool is_name = text__is(key, "general.name");
	bool is_vocabulary = text__is(key, "tokenizer.ggml.tokens");
	bool is_scale = text__is(behind_architecture(m, key), "expert_weights_scale");
	uint32_t type = gguf_stream__u32(s); /* from here on @key is no longer valid */

	if (field)
		*field = gguf_stream__number(s, type);
	else if (is_name)
		read_text_value(s, type, m->name, sizeof(m->name));
	else if (is_vocabulary && type == GGUF_ARRAY)
		*tokens = read_tokens(s, m);
	else if (is_scale && type == GGUF_F32)
		m->weights_scale = real_of(gguf_stream__u32(s));
	else
		gguf_stream__skip_value(s, type);
}

/* The architecture is almost always the first key, but the format does not promise it. */
static void find_architecture(struct gguf_stream *s, struct gguf_model *m, uint64_t pairs)
{
	for (uint64_t i = 0; i < pairs && !s->why && !m->architecture[0]; i++) {
		bool is_it = text__is(gguf_stream__text(s, KEY_MAX), "general.architecture");
		uint32_t type = gguf_stream__u32(s);

		if (is_it)
			read_text_value(s, type, m->architecture, sizeof(m->architecture));
		else
			gguf_stream__skip_value(s, type);
	}
	if (!s->why && !m->architecture[0])
		gguf_stream__fail(s, "it names no architecture");
}

static void read_pairs(struct gguf_stream *s, struct gguf_model *m, uint64_t pairs)
{
	uint64_t start = s->at, tokens = 0;

	find_architecture(s, m, pairs);
	s->at = start;
	for (uint64_t i = 0; i < pairs && !s->why; i++)
		read_pair(s, m, &tokens);
	if (tokens && tokens < GGUF_UNKNOWN)
		m->vocabulary = (uint32_t)tokens;
}

/* Split "blk.<n>.<rest>". False if it is another name. */
static bool split_layer(struct gguf_text name, uint32_t *layer, struct gguf_text *rest)
{
	const char *at = name.bytes, *end = name.bytes + name.size;
	uint64_t n = 0;

	if (name.size < 4 || memcmp(at, "blk.", 4))
		return false;
	at += 4;
	if (at == end || *at < '0' || *at > '9')
		return false;
	for (; at < end && *at >= '0' && *at <= '9'; at++)
		if ((n = n * 10 + (uint64_t)(*at - '0')) > UINT32_MAX)
			return false;
	if (at == end || *at != '.')
		return false;
	*layer = (uint32_t)n;
	*rest = (struct gguf_text){ at + 1, (size_t)(end - at - 1) };
	return true;
}

static bool is_expert_tensor(struct gguf_text name)
{
	static const char first[] = "ffn_", last[] = "_exps.weight";

	return name.size > sizeof(first) + sizeof(last) - 2 &&
	       !memcmp(name.bytes, first, sizeof(first) - 1) &&
	       !memcmp(name.bytes + name.size - (sizeof(last) - 1), last, sizeof(last) - 1);
}

static void read_tensor(struct gguf_stream *s, struct layers *l)
{
	struct gguf_text name = gguf_stream__text(s, TENSOR_NAME_MAX), rest;
	bool is_layer, is_router, is_expert;
	uint32_t layer = 0, dimensions, type;

	is_layer = split_layer(name, &layer, &rest);
	is_router = is_layer && text__is(rest, "ffn_gate_inp.weight");
	is_expert = is_layer && is_expert_tensor(rest);
	dimensions = gguf_stream__u32(s); /* from here on @name is no longer valid */
	if (dimensions > DIMENSIONS_MAX)
		gguf_stream__fail(s, "a tensor in it has too many dimensions");
	gguf_stream__skip(s, (uint64_t)dimensions * 8);
	type = gguf_stream__u32(s);
	gguf_stream__skip(s, 8); /* where its data is */
	if (s->why)
		return;
	if (is_router && layer >= GGUF_LAYERS_MAX)
		gguf_stream__fail(s, "it has more layers than are supported");
	else if (is_router)
		l->is_moe[layer] = true;
	if (is_expert && type < TYPES_MAX)
		l->types[type]++;
}

static void name_type(char *out, size_t size, uint32_t type)
{
	const size_t count = sizeof(tensor_types) / sizeof(tensor_types[0]);

	if (type < count && tensor_types[type])
		snprintf(out, size, "%s", tensor_types[type]);
	else
		snprintf(out, size, "type %u", type);
}

static void conclude(struct gguf_model *m, const struct layers *l)
{
	uint32_t best = 0;

	for (uint32_t i = 0; i < GGUF_LAYERS_MAX; i++)
		if (l->is_moe[i])
			m->layer_ids[m->moe_layers++] = (uint16_t)i;
	for (uint32_t i = 1; i < TYPES_MAX; i++)
		if (l->types[i] > l->types[best])
			best = i;
	if (l->types[best])
		name_type(m->quantisation, sizeof(m->quantisation), best);
	if (m->weights_normalised != GGUF_UNKNOWN)
		m->weights_normalised = m->weights_normalised != 0;
	for (size_t i = 0; i < sizeof(habits) / sizeof(habits[0]); i++) {
		if (strcmp(m->architecture, habits[i].architecture))
			continue;
		if (m->weights_normalised == GGUF_UNKNOWN)
			m->weights_normalised = habits[i].normalised;
		if (m->gating_function == GGUF_UNKNOWN)
			m->gating_function = GATING_SOFTMAX;
		if (m->weights_scale == 0)
			m->weights_scale = 1;
	}
}

/* The sum of all that was read. */
static void sum_header(struct gguf_stream *s, struct gguf_model *m)
{
	uint64_t left = s->at;
	struct sha256 sum;

	s->at = 0;
	sha256__begin(&sum);
	while (left) {
		size_t n = left < GGUF_WINDOW ? (size_t)left : GGUF_WINDOW;
		const uint8_t *bytes = gguf_stream__take(s, n);

		if (!bytes)
			return;
		sha256__add(&sum, bytes, n);
		left -= n;
	}
	sha256__end(&sum, m->header_digest);
}

static void clear_model(struct gguf_model *m)
{
	memset(m, 0, sizeof(*m));
	for (size_t i = 0; i < GEOMETRY_COUNT; i++)
		*(uint32_t *)((char *)m + geometry[i].offset) = GGUF_UNKNOWN;
	m->splits = GGUF_UNKNOWN;
}

/* Magic, version, counts. */
static void read_preamble(struct gguf_stream *s, uint64_t *tensors, uint64_t *pairs)
{
	const uint8_t *magic = gguf_stream__take(s, 4);
	uint32_t version;

	if (!magic || memcmp(magic, "GGUF", 4)) {
		s->why = "not a GGUF file";
		return;
	}
	version = gguf_stream__u32(s);
	if (version && !(version & 0xffff))
		gguf_stream__fail(s, "it is a big-endian GGUF file");
	else if (version != 2 && version != 3)
		gguf_stream__fail(s, "its GGUF version is neither 2 nor 3");
	*tensors = gguf_stream__u64(s);
	*pairs = gguf_stream__u64(s);
	if (*pairs > (s->size - s->at) / PAIR_BYTES_MIN ||
	    *tensors > (s->size - s->at) / TENSOR_BYTES_MIN)
		gguf_stream__fail(s, "its counts are larger than the file");
}

static int read_header(struct gguf_model *m, struct gguf_stream *s, const char *name,
		       struct error *e)
{
	uint64_t tensors = 0, pairs = 0;
	struct layers l = { 0 };

	clear_model(m);
	read_preamble(s, &tensors, &pairs);
	if (!s->why)
		read_pairs(s, m, pairs);
	for (uint64_t i = 0; i < tensors && !s->why; i++)
		read_tensor(s, &l);
	if (!s->why) {
		conclude(m, &l);
		sum_header(s, m);
	}
	if (!s->why)
		return 0;
	clear_model(m);
	if (s->errnum)
		return error__set(e, EXIT_FAILED, s->errnum, NULL, "gguf: failed to read '%s': %s",
				  name, strerror(s->errnum));
	return error__set(e, EXIT_UNSUPPORTED, EINVAL,
			  "check that the model file is whole and that this engine loads it",
			  "gguf: failed to read '%s': %s", name, s->why);
}

static int read_source(struct gguf_model *out, int fd, const void *bytes, uint64_t size,
		       const char *name, struct error *e)
{
	struct gguf_stream *s = calloc(1, sizeof(*s));
	int err;

	if (!s) {
		clear_model(out);
		return error__set(e, EXIT_FAILED, ENOMEM, NULL,
				  "gguf: failed to read '%s': out of memory", name);
	}
	s->fd = fd;
	s->memory = bytes;
	s->size = size;
	err = read_header(out, s, name, e);
	free(s);
	return err;
}

int gguf__read(struct gguf_model *out, int fd, const char *name, struct error *e)
{
	struct stat st;
	int err = 0;

	clear_model(out);
	if (fstat(fd, &st))
		err = errno;
	else if (!S_ISREG(st.st_mode))
		err = EINVAL;
	if (err)
		return error__set(e, EXIT_FAILED, err, NULL, "gguf: failed to read '%s': %s", name,
				  strerror(err));
	return read_source(out, fd, NULL, (uint64_t)st.st_size, name, e);
}

int gguf__parse(struct gguf_model *out, const void *bytes, uint64_t size, const char *name,
		struct error *e)
{
	return read_source(out, -1, bytes, size, name, e);
}
