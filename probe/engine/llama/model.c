/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where a llama.cpp server's model comes from, in this order: a GGUF file that it has mapped (the
 * default way to load), a file that its command line names (mapping switched off), nothing.
 * A model cut into files ("-00001-of-00003.gguf") says its geometry in the first and has its
 * tensors in all: they are merged.
 */
#include "probe/engine/llama/model.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "probe/base/buffer.h"
#include "probe/base/error.h"
#include "probe/target/opener.h"
#include "probe/target/target.h"

#define FILES_MAX 1024 /* mapped files that are looked into, at most */
#define SPLITS_MAX 999
#define SPLIT_SUFFIX "-00001-of-00001.gguf"

/* What has been found so far. */
struct search {
	struct llama_models *out;
	struct target *target;
	size_t files;
	struct {
		uint64_t device, inode;
	} seen[FILES_MAX];
	bool dense;
	char dense_path[LLAMA_PATH_MAX];
	uint32_t dense_blocks;
};

static void copy_path(char *out, const char *path)
{
	size_t n = strlen(path);

	snprintf(out, LLAMA_PATH_MAX, "%s",
		 n < LLAMA_PATH_MAX ? path : path + n - LLAMA_PATH_MAX + 1);
}

/* Length of @path without a split suffix; 0 if it is no file of a split model. */
static size_t split_base(const char *path, unsigned *number, unsigned *count)
{
	const size_t suffix = sizeof(SPLIT_SUFFIX) - 1;
	size_t n = strlen(path);
	int end = 0;

	if (n <= suffix ||
	    sscanf(path + n - suffix, "-%5u-of-%5u.gguf%n", number, count, &end) != 2 ||
	    (size_t)end != suffix || *count < 2 || *count > SPLITS_MAX)
		return 0;
	return n - suffix;
}

static bool same_split_model(const char *a, const char *b)
{
	unsigned number, count_a, count_b;
	size_t base_a = split_base(a, &number, &count_a);
	size_t base_b = split_base(b, &number, &count_b);

	return base_a && base_a == base_b && count_a == count_b && !memcmp(a, b, base_a);
}

/* Add the layers of @from to @to, ascending. */
static void merge_layers(struct gguf_model *to, const struct gguf_model *from)
{
	uint16_t merged[GGUF_LAYERS_MAX];
	uint32_t n = 0, i = 0, j = 0;

	while ((i < to->moe_layers || j < from->moe_layers) && n < GGUF_LAYERS_MAX) {
		if (j >= from->moe_layers ||
		    (i < to->moe_layers && to->layer_ids[i] <= from->layer_ids[j])) {
			if (j < from->moe_layers && to->layer_ids[i] == from->layer_ids[j])
				j++;
			merged[n++] = to->layer_ids[i++];
		} else {
			merged[n++] = from->layer_ids[j++];
		}
	}
	memcpy(to->layer_ids, merged, n * sizeof(*merged));
	to->moe_layers = n;
}

static void add_model(struct search *s, const struct gguf_model *gguf, const char *path)
{
	struct llama_models *out = s->out;
	struct llama_model *m;

	for (size_t i = 0; i < out->count; i++) {
		struct gguf_model first;

		m = &out->item[i];
		if (!same_split_model(m->path, path))
			continue;
		/* Whichever file says the geometry is the one to keep. */
		first = m->gguf;
		if (first.experts == GGUF_UNKNOWN && gguf->experts != GGUF_UNKNOWN) {
			m->gguf = *gguf;
			merge_layers(&m->gguf, &first);
			copy_path(m->path, path);
		} else {
			merge_layers(&m->gguf, gguf);
		}
		return;
	}
	if (out->count == LLAMA_MODELS_MAX)
		return;
	m = &out->item[out->count++];
	m->gguf = *gguf;
	copy_path(m->path, path);
}

/* Takes @fd. What is no readable GGUF file is passed over: any file may be mapped. */
static bool look_into(struct search *s, int fd, const char *path)
{
	struct gguf_model gguf;
	char magic[4] = "";
	bool is_gguf;

	is_gguf = pread(fd, magic, sizeof(magic), 0) == sizeof(magic) &&
		  !memcmp(magic, "GGUF", sizeof(magic)) && !gguf__read(&gguf, fd, path, NULL);
	close(fd);
	if (is_gguf)
		add_model(s, &gguf, path);
	return is_gguf;
}

static bool was_seen(struct search *s, const struct mapping *m)
{
	for (size_t i = 0; i < s->files; i++)
		if (s->seen[i].device == m->device && s->seen[i].inode == m->inode)
			return true;
	if (s->files == FILES_MAX)
		return true;
	s->seen[s->files].device = m->device;
	s->seen[s->files++].inode = m->inode;
	return false;
}

static void search_mappings(struct search *s)
{
	const struct opener *o = target__opener(s->target);
	const struct mapping *m;
	size_t count;

	m = target__mappings(s->target, &count);
	/* Libraries first, so that their other mappings are not opened as models. */
	for (size_t i = 0; i < count; i++)
		if (m[i].executable)
			was_seen(s, &m[i]);
	for (size_t i = 0; i < count; i++) {
		int fd;

		if (m[i].executable || m[i].path[0] != '/' || was_seen(s, &m[i]))
			continue;
		fd = o->open_mapped(o->ctx, target__info(s->target)->pid, m[i].start, m[i].end);
		if (fd >= 0)
			look_into(s, fd, m[i].path);
	}
}

static bool look_into_path(struct search *s, const char *path)
{
	const struct opener *o = target__opener(s->target);
	int fd = o->open_path(o->ctx, target__info(s->target)->pid, path);

	return fd >= 0 && look_into(s, fd, path);
}

/* @path and, if it is one of a split model, the others. */
static void search_path(struct search *s, const char *path)
{
	char other[4096];
	unsigned number, count;
	size_t base = split_base(path, &number, &count);

	if (!look_into_path(s, path) || !base || base >= sizeof(other) - sizeof(SPLIT_SUFFIX))
		return;
	for (unsigned i = 1; i <= count; i++) {
		if (i == number)
			continue;
		snprintf(other, sizeof(other), "%.*s-%05u-of-%05u.gguf", (int)base, path, i, count);
		look_into_path(s, other);
	}
}

static bool ends_with(const char *text, const char *end)
{
	size_t n = strlen(text), m = strlen(end);

	return n >= m && !strcmp(text + n - m, end);
}

/* -m FILE, --model FILE, --model=FILE, or any argument that is named like a model. */
static void search_command_line(struct search *s)
{
	bool is_model = false;
	const char *text;
	size_t size, n;

	text = target__cmdline(s->target, &size);
	for (size_t at = 0; at < size; at += n + 1) {
		const char *argument = text + at;

		n = strnlen(argument, size - at);
		if (at + n == size)
			break; /* not terminated: cut off */
		if (!strncmp(argument, "--model=", 8))
			search_path(s, argument + 8);
		else if (is_model || ends_with(argument, ".gguf"))
			search_path(s, argument);
		is_model = !strcmp(argument, "-m") || !strcmp(argument, "--model");
	}
}

/* The argument behind @name or @other; NULL: none. */
static const char *argument_of(struct target *t, const char *name, const char *other)
{
	bool is_next = false;
	size_t size, n;
	const char *text = target__cmdline(t, &size);

	for (size_t at = 0; at < size; at += n + 1) {
		n = strnlen(text + at, size - at);
		if (at + n == size)
			break; /* not terminated: cut off */
		if (is_next)
			return text + at;
		is_next = !strcmp(text + at, name) || !strcmp(text + at, other);
	}
	return NULL;
}

/* "f16"; "q8_0/f16" where keys and values differ, "?" for what is not said. */
static void read_kv_type(struct search *s)
{
	const char *k = argument_of(s->target, "-ctk", "--cache-type-k");
	const char *v = argument_of(s->target, "-ctv", "--cache-type-v");
	char text[sizeof(s->out->item[0].kv_type)] = "";

	if (k && v && !strcmp(k, v))
		snprintf(text, sizeof(text), "%.15s", k);
	else if (k || v)
		snprintf(text, sizeof(text), "%.15s/%.15s", k ? k : "?", v ? v : "?");
	for (size_t i = 0; i < s->out->count; i++)
		memcpy(s->out->item[i].kv_type, text, sizeof(text));
}

/* Keep models with routers; remember one without, to name it. */
static void drop_dense(struct search *s)
{
	struct llama_models *out = s->out;
	size_t kept = 0;

	for (size_t i = 0; i < out->count; i++) {
		struct llama_model *m = &out->item[i];

		if (m->gguf.moe_layers && m->gguf.experts != GGUF_UNKNOWN && m->gguf.experts) {
			if (kept != i)
				out->item[kept] = *m;
			kept++;
		} else if (m->gguf.blocks != GGUF_UNKNOWN && strcmp(m->gguf.architecture, "clip")) {
			s->dense = true;
			s->dense_blocks = m->gguf.blocks;
			memcpy(s->dense_path, m->path, sizeof(s->dense_path));
		}
	}
	out->count = kept;
}

int llama_models__read(struct llama_models *out, struct target *t, struct error *e)
{
	struct search s = { .out = out, .target = t };

	memset(out, 0, sizeof(*out));
	search_mappings(&s);
	if (!out->count)
		search_command_line(&s);
	drop_dense(&s);
	read_kv_type(&s);
	if (!out->count && s.dense)
		return error__set(e, EXIT_UNSUPPORTED, ENOTSUP,
				  "attach to a server that runs a mixture-of-experts model",
				  "llama: failed to find experts in '%s': the model is dense "
				  "(%u blocks, none with a router)",
				  s.dense_path, s.dense_blocks);
	return 0;
}

bool llama_model__has_layer(const struct llama_model *m, uint32_t layer)
{
	for (uint32_t i = 0; i < m->gguf.moe_layers; i++)
		if (m->gguf.layer_ids[i] == layer)
			return true;
	return false;
}

const struct llama_model *llama_models__find(const struct llama_models *m, uint32_t experts,
					     uint32_t k, uint32_t layer)
{
	const struct llama_model *found = NULL;

	for (size_t i = 0; i < m->count; i++) {
		const struct llama_model *one = &m->item[i];

		if ((one->gguf.experts_used != k && one->gguf.experts_used != GGUF_UNKNOWN) ||
		    (one->gguf.experts != experts && experts != k) ||
		    !llama_model__has_layer(one, layer))
			continue;
		if (found)
			return NULL;
		found = one;
	}
	return found;
}

int llama_models__save(const struct llama_models *m, struct buffer *out)
{
	uint32_t count = (uint32_t)m->count;
	int err = buffer__append(out, &count, sizeof(count));

	for (size_t i = 0; i < m->count && !err; i++)
		err = buffer__append(out, &m->item[i], sizeof(m->item[i]));
	return err;
}

static bool is_text(const char *text, size_t size)
{
	return strnlen(text, size) < size;
}

int llama_models__load(struct llama_models *m, struct cursor *at)
{
	uint32_t count = cursor__u32(at);

	memset(m, 0, sizeof(*m));
	for (uint32_t i = 0; i < count; i++) {
		const uint8_t *bytes = cursor__take(at, sizeof(m->item[0]));
		struct llama_model *one = &m->item[i];

		if (!bytes || i == LLAMA_MODELS_MAX)
			return -EBADMSG;
		memcpy(one, bytes, sizeof(*one));
		if (!one->gguf.moe_layers || one->gguf.moe_layers > GGUF_LAYERS_MAX ||
		    !is_text(one->path, sizeof(one->path)) ||
		    !is_text(one->kv_type, sizeof(one->kv_type)) ||
		    !is_text(one->gguf.name, sizeof(one->gguf.name)) ||
		    !is_text(one->gguf.architecture, sizeof(one->gguf.architecture)) ||
		    !is_text(one->gguf.quantisation, sizeof(one->gguf.quantisation)))
			return -EBADMSG;
		m->count = i + 1;
	}
	return at->failed ? -EBADMSG : 0;
}
