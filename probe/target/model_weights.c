/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/target/model_weights.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "probe/target/json_stream.h"
#include "probe/target/opener.h"
#include "probe/target/target.h"

#define SUFFIX ".safetensors"
#define INDEX "model.safetensors.index.json"
#define WHOLE "model.safetensors"
#define NAME_MAX_BYTES 128          /* of one file, with NUL; usual ones have 34 */
#define INDEX_BYTES_MAX (64u << 20) /* the largest known have some 20 MB */
#define WINDOW 65536

/* File names, ascending, each once. */
struct shards {
	char (*name)[NAME_MAX_BYTES]; /* MODEL_SHARDS_MAX of them */
	size_t count;
	bool complete;
	bool in_map; /* of the index */
	struct json_stream json;
};

int model_place__open(const struct model_place *p, const char *name)
{
	const struct opener *o = target__opener(p->target);
	char path[PATH_MAX];
	int n = snprintf(path, sizeof(path), "%s/%s", p->path, name);

	if (n < 0 || (size_t)n >= sizeof(path))
		return -ENAMETOOLONG;
	return o->open_path(o->ctx, target__info(p->target)->pid, path);
}

static bool is_shard(const char *name)
{
	size_t n = strlen(name), suffix = sizeof(SUFFIX) - 1;

	return n > suffix && !strcmp(name + n - suffix, SUFFIX);
}

int model_weights__folder_length(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash && is_shard(slash + 1) ? (int)(slash - path) : -1;
}

/* A name that leads elsewhere, or that we cannot hold, is a file that is not read. */
static void add_shard(struct shards *s, const char *name)
{
	size_t low = 0, high = s->count;

	while (low < high) {
		size_t middle = (low + high) / 2;
		int order = strcmp(s->name[middle], name);

		if (!order)
			return;
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	if (s->count == MODEL_SHARDS_MAX || strlen(name) >= NAME_MAX_BYTES ||
	    strpbrk(name, "/\\")) {
		s->complete = false;
		return;
	}
	memmove(s->name + low + 1, s->name + low, (s->count++ - low) * sizeof(*s->name));
	snprintf(s->name[low], NAME_MAX_BYTES, "%s", name);
}

/* {"metadata": {...}, "weight_map": {"<tensor>": "<file>", ...}} */
static void on_index_token(void *ctx, enum json_token kind, const char *text)
{
	struct shards *s = ctx;

	if (kind == JSON_KEY && s->json.depth == 1)
		s->in_map = !strcmp(text, "weight_map");
	if (kind == JSON_STRING && s->json.depth == 2 && s->in_map && is_shard(text))
		add_shard(s, text);
}

/* False if there is no index that names a file. */
static bool read_index(struct shards *s, const struct model_place *p)
{
	int fd = model_place__open(p, INDEX);
	uint8_t *window;
	size_t total = 0;
	ssize_t n = -1;

	if (fd < 0)
		return false;
	window = malloc(WINDOW);
	s->json = (struct json_stream){ .token = on_index_token, .ctx = s };
	while (window && total <= INDEX_BYTES_MAX) {
		n = read(fd, window, WINDOW);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		total += (size_t)n;
		json_stream__feed(&s->json, window, (size_t)n);
	}
	free(window);
	close(fd);
	s->complete &= !n && json_stream__is_whole(&s->json);
	return s->count;
}

static void add_mapped(struct shards *s, const struct model_place *p)
{
	size_t count, length = strlen(p->path);
	const struct mapping *m = target__mappings(p->target, &count);

	for (size_t i = 0; i < count; i++) {
		int n = model_weights__folder_length(m[i].path);

		if (n >= 0 && (size_t)n == length && !memcmp(m[i].path, p->path, length))
			add_shard(s, m[i].path + n + 1);
	}
	/* Others may be there that are not mapped, or no more. */
	s->complete = false;
}

static void find_shards(struct shards *s, const struct model_place *p)
{
	int fd;

	s->complete = true;
	if (read_index(s, p))
		return;
	fd = model_place__open(p, WHOLE);
	if (fd >= 0) {
		close(fd);
		s->complete = true;
		add_shard(s, WHOLE);
		return;
	}
	add_mapped(s, p);
}

bool model_weights__has(const struct model_place *p, int fd)
{
	struct shards s = { .name = calloc(MODEL_SHARDS_MAX, sizeof(*s.name)) };
	struct stat wanted, st;
	bool found = false;

	if (s.name && !fstat(fd, &wanted)) {
		find_shards(&s, p);
		for (size_t i = 0; i < s.count && !found; i++) {
			int other = model_place__open(p, s.name[i]);

			found = other >= 0 && !fstat(other, &st) && st.st_dev == wanted.st_dev &&
				st.st_ino == wanted.st_ino;
			if (other >= 0)
				close(other);
		}
	}
	free(s.name);
	return found;
}

int model_weights__read(struct model_weights *out, const struct model_place *p,
			struct sha256_ctx *digest)
{
	struct shards s = { 0 };
	int err = 0;

	memset(out, 0, sizeof(*out));
	s.name = calloc(MODEL_SHARDS_MAX, sizeof(*s.name));
	if (!s.name)
		return -ENOMEM;
	find_shards(&s, p);
	for (size_t i = 0; i < s.count && err != -ENOMEM && err != -EFBIG; i++) {
		int fd = model_place__open(p, s.name[i]);

		err = fd < 0 ? fd : safetensors__add(&out->headers, fd, digest);
		if (fd >= 0)
			close(fd);
		out->files += !err;
		s.complete &= !err;
	}
	out->complete = s.complete && s.count;
	free(s.name);
	return err == -ENOMEM ? err : 0;
}
