/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A file begins with the length of its header (8 bytes, little-endian), then comes the header, one
 * JSON object: {"model.layers.3.mlp.experts.17.up_proj.weight": {"dtype": "BF16", "shape": [768,
 * 2048], "data_offsets": [0, 3145728]}, ...}. Experts are tensors each, or one tensor of which the
 * first dimension counts them.
 */
#include "probe/target/safetensors.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nettle/sha2.h>

#include "probe/target/json_stream.h"

#define WINDOW 65536
/* Experts x rows x columns: where there are fewer, the first may be anything. */
#define FUSED_DIMENSIONS_MIN 3

static const char *const type_names[] = {
#define X(name) #name,
	SAFETENSORS_TYPES(X)
#undef X
};

enum field { OTHER, DTYPE, SHAPE, OFFSETS };

/* The tensor whose description is being read. */
struct reading {
	struct safetensors *out;
	struct json_stream json;
	enum field field;
	bool is_expert;
	uint32_t layer;
	uint32_t expert; /* MODEL_UNKNOWN: all of them in one */
	uint32_t type;
	uint32_t dimensions, numbers;
	uint64_t first_dimension, offset[2];
};

/* A decimal number at *@at of at most @max, behind which @end comes; *@at is moved behind that. */
static bool take_number(const char **at, char end, uint32_t max, uint32_t *out)
{
	const char *p = *at;
	uint64_t n = 0;

	for (; *p >= '0' && *p <= '9' && n <= max; p++)
		n = n * 10 + (uint64_t)(*p - '0');
	if (p == *at || *p != end || n > max)
		return false;
	*at = p + 1;
	*out = (uint32_t)n;
	return true;
}

/* Layers of a part that guesses ahead or sees are counted from zero again. */
static bool is_other_part(const char *name, size_t n)
{
	static const char *const parts[] = {
		"mtp", "nextn", "vision", "visual", "audio", "encoder"
	};

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		if (memmem(name, n, parts[i], strlen(parts[i])))
			return true;
	return false;
}

/* "<part>.layers.<n>.<block>.experts.<rest>". */
static void read_name(struct reading *r, const char *name)
{
	static const char *const lists[] = { "layers.", "blocks.", "h." };
	const char *at = NULL, *experts;

	r->is_expert = false;
	r->expert = MODEL_UNKNOWN;
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]) && !at; i++) {
		at = strstr(name, lists[i]);
		if (at && at != name && at[-1] != '.')
			at = NULL;
		if (at && is_other_part(name, (size_t)(at - name)))
			return;
		if (at)
			at += strlen(lists[i]);
	}
	if (!at || !take_number(&at, '.', MODEL_LAYERS_MAX - 1, &r->layer))
		return;
	experts = strstr(at, ".experts.");
	if (!experts)
		return;
	r->is_expert = true;
	experts += strlen(".experts.");
	take_number(&experts, '.', MODEL_EXPERTS_MAX - 1, &r->expert);
}

static uint32_t type_of(const char *text)
{
	uint32_t i = 0;

	while (i < SAFETENSORS_TYPE_COUNT && strcmp(text, type_names[i]))
		i++;
	return i;
}

static void conclude_tensor(struct reading *r)
{
	struct safetensors *out = r->out;
	uint64_t experts = 0;

	if (!r->is_expert)
		return;
	out->has_experts[r->layer] = true;
	if (r->expert != MODEL_UNKNOWN)
		experts = r->expert + 1u;
	else if (r->dimensions >= FUSED_DIMENSIONS_MIN && r->first_dimension <= MODEL_EXPERTS_MAX)
		experts = r->first_dimension;
	if (experts > out->experts)
		out->experts = (uint32_t)experts;
	if (r->type < SAFETENSORS_TYPE_COUNT && r->offset[1] > r->offset[0])
		out->type_bytes[r->type] += r->offset[1] - r->offset[0];
}

static void begin_tensor(struct reading *r, const char *name)
{
	r->field = OTHER;
	r->type = SAFETENSORS_TYPE_COUNT;
	r->dimensions = r->numbers = 0;
	r->first_dimension = r->offset[0] = r->offset[1] = 0;
	read_name(r, name);
}

static void begin_field(struct reading *r, const char *key)
{
	r->numbers = 0;
	r->field = !strcmp(key, "dtype")          ? DTYPE
		   : !strcmp(key, "shape")        ? SHAPE
		   : !strcmp(key, "data_offsets") ? OFFSETS
						  : OTHER;
}

static void take_value(struct reading *r, const char *text)
{
	uint64_t n = strtoull(text, NULL, 10);

	if (r->field == SHAPE && !r->dimensions++)
		r->first_dimension = n;
	else if (r->field == OFFSETS && r->numbers < 2)
		r->offset[r->numbers++] = n;
}

/* The tensor's name has one container around it, its fields two, their numbers three. */
static void on_token(void *ctx, enum json_token kind, const char *text)
{
	struct reading *r = ctx;
	unsigned depth = r->json.depth;

	if (kind == JSON_KEY && depth == 1)
		begin_tensor(r, text);
	else if (kind == JSON_KEY && depth == 2)
		begin_field(r, text);
	else if (kind == JSON_STRING && depth == 2 && r->field == DTYPE)
		r->type = type_of(text);
	else if (kind == JSON_BARE && depth == 3)
		take_value(r, text);
	else if (kind == JSON_END && depth == 1)
		conclude_tensor(r);
}

/* @n bytes at @at. 0, -EINVAL if there are fewer, or -errno. */
static int read_exactly(int fd, void *bytes, size_t n, uint64_t at)
{
	for (size_t done = 0; done < n;) {
		ssize_t got = pread(fd, (char *)bytes + done, n - done, (off_t)(at + done));

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got < 0 ? -errno : -EINVAL;
		done += (size_t)got;
	}
	return 0;
}

/* The header's length in *@size, checked against the file's. */
static int read_length(struct safetensors *s, int fd, uint64_t *size, struct sha256_ctx *digest)
{
	uint8_t length[8];
	struct stat st;
	int err;

	*size = 0;
	if (fstat(fd, &st))
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	err = read_exactly(fd, length, sizeof(length), 0);
	if (err)
		return err;
	for (size_t i = sizeof(length); i--;)
		*size = *size << 8 | length[i];
	if (*size > SAFETENSORS_HEADER_MAX || *size + sizeof(length) > (uint64_t)st.st_size)
		return -EINVAL;
	if (*size > SAFETENSORS_HEADERS_MAX - s->header_bytes)
		return -EFBIG;
	s->header_bytes += *size;
	if (digest)
		sha256_update(digest, sizeof(length), length);
	return 0;
}

int safetensors__add(struct safetensors *s, int fd, struct sha256_ctx *digest)
{
	struct reading r = { .out = s, .json = { .token = on_token } };
	uint8_t *window = NULL;
	uint64_t size, n;
	int err;

	r.json.ctx = &r;
	err = read_length(s, fd, &size, digest);
	if (err)
		return err;
	window = malloc(WINDOW);
	if (!window)
		return -ENOMEM;
	for (uint64_t at = 0; at < size && !err; at += n) {
		n = size - at < WINDOW ? size - at : WINDOW;
		err = read_exactly(fd, window, n, sizeof(uint64_t) + at);
		if (err)
			break;
		if (!at && window[0] != '{')
			err = -EINVAL;
		json_stream__feed(&r.json, window, n);
		if (digest)
			sha256_update(digest, n, window);
	}
	free(window);
	return err ? err : json_stream__is_whole(&r.json) ? 0 : -EINVAL;
}

const char *safetensors__expert_type(const struct safetensors *s)
{
	uint32_t best = 0;

	for (uint32_t i = 1; i < SAFETENSORS_TYPE_COUNT; i++)
		if (s->type_bytes[i] > s->type_bytes[best])
			best = i;
	return s->type_bytes[best] ? type_names[best] : "";
}
