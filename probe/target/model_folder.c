/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where the model of a torch server comes from, in this order: the folders of safetensors files
 * that it has mapped or open, folders that its command line names, models of a hub's cache that it
 * names, nothing. Weights are often copied and their files let go after loading, so the command
 * line is the usual case.
 */
#include "probe/target/model_folder.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nettle/sha2.h>

#include "probe/base/buffer.h"
#include "probe/base/error.h"
#include "probe/target/hub_cache.h"
#include "probe/target/model_weights.h"
#include "probe/target/opener.h"
#include "probe/target/proc_file.h"
#include "probe/target/target.h"

#define CONFIG "config.json"
#define GENERATION "generation_config.json"
#define TOKENIZER "tokenizer.json"
#define TOKENIZER_BYTES_MAX (128u << 20)
#define SEEN_MAX 16       /* folders that are looked into, at most */
#define ARGUMENTS_MAX 512 /* of the command line that are looked at */
#define WINDOW 65536
#define HUB_ID_MAX 256 /* bytes of an id or a revision, with NUL */

/* What has been found so far. */
struct search {
	struct model_folders *out;
	struct target *target;
	struct {
		uint64_t device, inode; /* of config.json */
	} seen[SEEN_MAX];
	size_t seen_count;
	char last[PATH_MAX]; /* the folder that was looked into last: of its many files one counts
			      */
	bool revision_next;  /* the next argument is it */
	char revision[HUB_ID_MAX]; /* of models in a hub's cache, by the command line */
	bool dense;
	char dense_path[MODEL_PATH_MAX];
	uint32_t dense_blocks;
	struct error unreadable; /* the first */
	bool no_memory;
};

static void copy_path(char *out, const char *path)
{
	size_t n = strlen(path);

	snprintf(out, MODEL_PATH_MAX, "%s",
		 n < MODEL_PATH_MAX ? path : path + n - MODEL_PATH_MAX + 1);
}

/* --- one folder ----------------------------------------------------------------------------- */

/* "<cache>/models--org--name/snapshots/<revision>": "org/name". False if it is not that. */
static bool name_in_hub(char *out, size_t size, const char *path)
{
	static const char prefix[] = "/models--", middle[] = "/snapshots/";
	const char *end = strstr(path, middle), *at = NULL, *separator;

	for (const char *p = path; end && (p = strstr(p, prefix)) && p < end; p++)
		at = p + sizeof(prefix) - 1;
	if (!at || at >= end || memchr(at, '/', (size_t)(end - at)))
		return false;
	separator = memmem(at, (size_t)(end - at), "--", 2);
	if (separator)
		snprintf(out, size, "%.*s/%.*s", (int)(separator - at), at,
			 (int)(end - separator - 2), separator + 2);
	else
		snprintf(out, size, "%.*s", (int)(end - at), at);
	return true;
}

static void name_model(struct model_folder *m, const char *path)
{
	const char *base = strrchr(path, '/');

	base = base ? base + 1 : path;
	if (name_in_hub(m->name, sizeof(m->name), path))
		return;
	if (!base[0] || !strcmp(base, ".") || !strcmp(base, ".."))
		base = m->config.model_type;
	snprintf(m->name, sizeof(m->name), "%s", base);
}

static void finish_digest(struct sha256_ctx *digest, uint8_t *out)
{
	sha256_digest(digest, MODEL_DIGEST_SIZE, out);
}

static void read_tokenizer(struct model_folder *m, const struct model_place *p)
{
	int fd = model_place__open(p, TOKENIZER);
	struct sha256_ctx digest;
	uint8_t window[WINDOW];
	size_t total = 0;
	ssize_t n = -1;

	if (fd < 0)
		return;
	sha256_init(&digest);
	while (total <= TOKENIZER_BYTES_MAX) {
		n = read(fd, window, sizeof(window));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		total += (size_t)n;
		sha256_update(&digest, (size_t)n, window);
	}
	close(fd);
	if (n || !total)
		return;
	finish_digest(&digest, m->tokenizer_digest);
	m->has_tokenizer_digest = 1;
}

/* A part that guesses ahead has layers behind the last, and is not what is asked for. */
static uint32_t layers_of_tensors(uint16_t *ids, const struct model_weights *w, uint32_t blocks)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < MODEL_LAYERS_MAX && i < blocks; i++)
		if (w->headers.has_experts[i])
			ids[n++] = (uint16_t)i;
	return n;
}

/* The weights are what is run: where all of them are known, they are right about layers. */
static void hold_against_weights(struct model_folder *m, const struct model_weights *w)
{
	struct model_config *c = &m->config;
	uint16_t ids[MODEL_LAYERS_MAX];
	uint32_t n = layers_of_tensors(ids, w, c->blocks);

	m->tensor_experts = w->headers.experts ? w->headers.experts : MODEL_UNKNOWN;
	snprintf(m->expert_type, sizeof(m->expert_type), "%s",
		 safetensors__expert_type(&w->headers));
	if (!w->complete || !n)
		return;
	if (c->experts == MODEL_UNKNOWN) {
		c->experts = m->tensor_experts;
		if (!c->k || c->k > c->experts)
			c->k = MODEL_UNKNOWN;
	}
	if (n == c->moe_layers && !memcmp(ids, c->layer_ids, n * sizeof(*ids)))
		return;
	memset(c->layer_ids, 0, sizeof(c->layer_ids));
	memcpy(c->layer_ids, ids, n * sizeof(*ids));
	c->moe_layers = n;
	m->layers_from_tensors = 1;
}

static int read_weights(struct model_folder *m, const struct model_place *p,
			const struct buffer *config)
{
	struct model_weights weights;
	struct sha256_ctx digest;
	int err;

	sha256_init(&digest);
	sha256_update(&digest, config->size, config->data);
	err = model_weights__read(&weights, p, &digest);
	if (err)
		return err;
	hold_against_weights(m, &weights);
	m->has_digest = weights.complete;
	if (m->has_digest)
		finish_digest(&digest, m->digest);
	return 0;
}

/* Takes @fd, config.json's. 0; -ENODATA: not a model's; another -errno with @e. */
static int read_config(struct model_folder *m, const struct model_place *p, int fd,
		       struct buffer *config, struct error *e)
{
	struct buffer generation = { 0 };
	char name[MODEL_PATH_MAX + sizeof(CONFIG)];
	int err, other;

	snprintf(name, sizeof(name), "%s/%s", m->path, CONFIG);
	err = proc_file__drain(fd, MODEL_CONFIG_BYTES_MAX, config);
	close(fd);
	if (err)
		return error__set(e, EXIT_UNSUPPORTED, -err, NULL, "model: failed to read '%s': %s",
				  name, strerror(-err));
	other = model_place__open(p, GENERATION);
	if (other >= 0) {
		if (proc_file__drain(other, MODEL_CONFIG_BYTES_MAX, &generation))
			generation.size = 0;
		close(other);
	}
	err = model_config__parse(&m->config, name, config->data, config->size, generation.data,
				  generation.size, e);
	buffer__free(&generation);
	return err;
}

/* --- all of them ---------------------------------------------------------------------------- */

/* True if config.json, open as @fd, is known already. */
static bool was_seen(struct search *s, int fd)
{
	struct stat st;

	if (fstat(fd, &st) || s->seen_count == SEEN_MAX)
		return true;
	for (size_t i = 0; i < s->seen_count; i++)
		if (s->seen[i].device == st.st_dev && s->seen[i].inode == st.st_ino)
			return true;
	s->seen[s->seen_count].device = st.st_dev;
	s->seen[s->seen_count++].inode = st.st_ino;
	return false;
}

static void conclude(struct search *s, struct model_folder *m)
{
	struct model_folders *out = s->out;

	if (model_config__is_moe(&m->config) && m->config.moe_layers) {
		out->item[out->count++] = *m;
		return;
	}
	s->dense = true;
	s->dense_blocks = m->config.blocks;
	memcpy(s->dense_path, m->path, sizeof(s->dense_path));
}

static void look_into(struct search *s, const char *path)
{
	struct model_place place = { s->target, path };
	struct model_folder m = { 0 };
	struct buffer config = { 0 };
	struct error e = { 0 };
	int fd, err;

	if (s->out->count == MODEL_FOLDERS_MAX)
		return;
	fd = model_place__open(&place, CONFIG);
	if (fd < 0)
		return;
	if (was_seen(s, fd)) {
		close(fd);
		return;
	}
	copy_path(m.path, path);
	err = read_config(&m, &place, fd, &config, &e);
	if (!err)
		err = read_weights(&m, &place, &config);
	buffer__free(&config);
	if (!err) {
		name_model(&m, path);
		read_tokenizer(&m, &place);
		conclude(s, &m);
	}
	s->no_memory |= err == -ENOMEM;
	if (err && err != -ENODATA && !error__is_set(&s->unreadable))
		s->unreadable = e;
}

/* The folder of @path, if that is a safetensors file. */
static void look_beside(struct search *s, const char *path)
{
	int n = model_weights__folder_length(path);
	char folder[PATH_MAX];

	if (path[0] != '/' || n <= 0 || (size_t)n >= sizeof(folder))
		return;
	snprintf(folder, sizeof(folder), "%.*s", n, path);
	if (!strcmp(folder, s->last))
		return;
	memcpy(s->last, folder, (size_t)n + 1);
	look_into(s, folder);
}

/* The snapshot with a link to the blob that @m maps. */
static void look_for_blob(struct search *s, const struct mapping *m)
{
	const struct opener *o = target__opener(s->target);
	char folder[PATH_MAX];
	const struct model_place place = { s->target, folder };
	int fd;

	if (!hub_cache__of_blob(s->target, m->path, s->revision, folder, sizeof(folder)) ||
	    !strcmp(folder, s->last))
		return;
	fd = o->open_mapped(o->ctx, target__info(s->target)->pid, m->start, m->end);
	if (fd < 0)
		return;
	if (model_weights__has(&place, fd)) {
		memcpy(s->last, folder, strlen(folder) + 1);
		look_into(s, folder);
	}
	close(fd);
}

static void search_mappings(struct search *s)
{
	const struct mapping *m;
	size_t count;

	m = target__mappings(s->target, &count);
	for (size_t i = 0; i < count; i++) {
		if (m[i].executable)
			continue;
		look_beside(s, m[i].path);
		look_for_blob(s, &m[i]);
	}
}

static int look_at_fd(void *ctx, int number)
{
	struct search *s = ctx;
	const struct opener *o = target__opener(s->target);
	char text[MODEL_PATH_MAX];

	if (!o->read_fd_link(o->ctx, target__info(s->target)->pid, number, text, sizeof(text)))
		look_beside(s, text);
	return 0;
}

static void search_descriptors(struct search *s)
{
	const struct opener *o = target__opener(s->target);
	int fd = o->open_proc(o->ctx, target__info(s->target)->pid, PROC_FDS);

	if (fd >= 0)
		proc_file__each_number(fd, look_at_fd, s);
}

/* What an argument may name: behind the first '=' of an option, else all of it; "" if nothing. */
static const char *value_of(const char *argument)
{
	const char *value;

	if (argument[0] != '-')
		return argument;
	value = strchr(argument, '=');
	return value ? value + 1 : "";
}

static void look_at_argument(struct search *s, const char *argument)
{
	const char *value = value_of(argument);
	size_t n = strlen(value);
	char path[PATH_MAX];

	while (n > 1 && value[n - 1] == '/')
		n--;
	if (!n || n >= sizeof(path))
		return;
	memcpy(path, value, n);
	path[n] = '\0';
	look_into(s, path);
}

/* An id of a hub, maybe with "@REVISION", in the caches that the process looks into. */
static void look_for_id(struct search *s, const char *argument)
{
	char id[HUB_ID_MAX], cache[PATH_MAX], folder[PATH_MAX];
	const char *revision = s->revision;
	size_t n = strlen(value_of(argument)), next = 0;
	char *at;

	if (n >= sizeof(id))
		return;
	memcpy(id, value_of(argument), n + 1);
	at = strchr(id, '@');
	if (at) {
		*at = '\0';
		revision = at + 1;
	}
	if (!hub_cache__is_id(id))
		return;
	while (hub_cache__next(s->target, &next, cache, sizeof(cache)))
		if (hub_cache__snapshot(s->target, cache, id, revision, folder, sizeof(folder)))
			look_into(s, folder);
}

/* "--revision X" and "--revision=X". */
static void note_revision(struct search *s, const char *argument)
{
	static const char option[] = "--revision";
	size_t n = sizeof(option) - 1;
	const char *value = argument + n;

	if (s->revision_next) {
		snprintf(s->revision, sizeof(s->revision), "%s",
			 strlen(argument) < sizeof(s->revision) ? argument : HUB_MAIN);
		s->revision_next = false;
	} else if (!strncmp(argument, option, n)) {
		s->revision_next = !*value;
		if (*value == '=' && strlen(value + 1) < sizeof(s->revision))
			snprintf(s->revision, sizeof(s->revision), "%s", value + 1);
	}
}

/* Any argument may be the model: servers of this kind have no one option for it. */
static void each_argument(struct search *s, void (*each)(struct search *s, const char *argument))
{
	const char *text;
	size_t size, n, arguments = 0;

	text = target__cmdline(s->target, &size);
	for (size_t at = 0; at < size && arguments < ARGUMENTS_MAX; at += n + 1, arguments++) {
		n = strnlen(text + at, size - at);
		if (at + n == size)
			break; /* not terminated: cut off */
		each(s, text + at);
	}
}

static int refuse_dense(const struct search *s, struct error *e)
{
	char layers[32] = "of unknown layers";

	if (s->dense_blocks != MODEL_UNKNOWN)
		snprintf(layers, sizeof(layers), "of %u layers", s->dense_blocks);
	return error__set(
		e, EXIT_UNSUPPORTED, ENOTSUP,
		"attach to a server that runs a mixture-of-experts model",
		"model: failed to find experts in '%s': the model is dense (%s, none with a "
		"router)",
		s->dense_path, layers);
}

int model_folders__read(struct model_folders *out, struct target *t, struct error *e)
{
	struct search s = { .out = out, .target = t, .revision = HUB_MAIN };

	memset(out, 0, sizeof(*out));
	each_argument(&s, note_revision);
	search_mappings(&s);
	search_descriptors(&s);
	if (!out->count)
		each_argument(&s, look_at_argument);
	if (!out->count)
		each_argument(&s, look_for_id);
	if (out->count)
		return 0;
	if (s.no_memory)
		return error__set(e, EXIT_FAILED, ENOMEM, NULL,
				  "model: failed to read the model of process %d: out of memory",
				  (int)target__info(t)->pid);
	if (s.dense)
		return refuse_dense(&s, e);
	if (!error__is_set(&s.unreadable))
		return 0;
	if (e && !error__is_set(e))
		*e = s.unreadable;
	return -s.unreadable.errnum;
}

const struct model_folder *model_folders__find(const struct model_folders *m, uint32_t experts,
					       uint32_t k, uint32_t layer)
{
	const struct model_folder *found = NULL;

	for (size_t i = 0; i < m->count; i++) {
		const struct model_config *c = &m->item[i].config;
		bool has_layer = false;

		for (uint32_t j = 0; j < c->moe_layers; j++)
			has_layer |= c->layer_ids[j] == layer;
		if (!has_layer || c->experts != experts || (c->k != k && c->k != MODEL_UNKNOWN))
			continue;
		if (found)
			return NULL;
		found = &m->item[i];
	}
	return found;
}

int model_folders__save(const struct model_folders *m, struct buffer *out)
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

static bool is_sane(const struct model_folder *m)
{
	return model_config__is_sane(&m->config) && model_config__is_moe(&m->config) &&
	       m->config.moe_layers && is_text(m->name, sizeof(m->name)) &&
	       is_text(m->path, sizeof(m->path)) &&
	       is_text(m->expert_type, sizeof(m->expert_type)) && m->layers_from_tensors <= 1 &&
	       m->has_digest <= 1 && m->has_tokenizer_digest <= 1;
}

int model_folders__load(struct model_folders *m, struct cursor *at)
{
	uint32_t count = cursor__u32(at);

	memset(m, 0, sizeof(*m));
	for (uint32_t i = 0; i < count; i++) {
		const uint8_t *bytes = cursor__take(at, sizeof(m->item[0]));

		if (!bytes || i == MODEL_FOLDERS_MAX)
			return -EBADMSG;
		memcpy(&m->item[i], bytes, sizeof(m->item[i]));
		if (!is_sane(&m->item[i]))
			return -EBADMSG;
		m->count = i + 1;
	}
	return at->failed ? -EBADMSG : 0;
}
