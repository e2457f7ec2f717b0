/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A model folder of any content, as a process has it: what is read keeps its bounds and survives
 * being saved. The input is the folder's files, with a byte 0xff between them, in the order of
 * `enum part`; the safetensors file gets its right length in front unless it begins with '!'.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "probe/base/buffer.h"
#include "probe/base/error.h"
#include "probe/target/model_folder.h"
#include "probe/target/opener.h"
#include "probe/target/target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define require(condition) \
	do { \
		if (!(condition)) \
			abort(); \
	} while (0)

enum part { CONFIG, WEIGHTS, GENERATION, INDEX, TOKENIZER, CHANGES, PARTS };

static const char *const names[] = {
	[CONFIG] = "folder/config.json",
	[WEIGHTS] = ".safetensors",
	[GENERATION] = "folder/generation_config.json",
	[INDEX] = "folder/model.safetensors.index.json",
	[TOKENIZER] = "folder/tokenizer.json",
};

static struct {
	const uint8_t *bytes;
	size_t size;
} part[PARTS];

static int file_of(const void *head, size_t head_size, const void *bytes, size_t size)
{
	int fd = memfd_create("file", MFD_CLOEXEC);

	require(fd >= 0 && write(fd, head, head_size) == (ssize_t)head_size &&
		write(fd, bytes, size) == (ssize_t)size && !lseek(fd, 0, SEEK_SET));
	return fd;
}

static int open_part(void *ctx, pid_t pid, const char *path)
{
	size_t n = strlen(path);

	for (size_t i = 0; i < CHANGES; i++) {
		size_t m = strlen(names[i]);
		uint64_t length = part[i].size;

		if (!part[i].bytes || n < m || strcmp(path + n - m, names[i]))
			continue;
		if (i == WEIGHTS && length && part[i].bytes[0] == '!')
			return file_of("", 0, part[i].bytes + 1, length - 1);
		return file_of(&length, i == WEIGHTS ? 8 : 0, part[i].bytes, part[i].size);
	}
	return -ENOENT;
}

static int open_proc(void *ctx, pid_t pid, enum proc_file file)
{
	static const char line[] = "serve\0--model\0folder";

	if (file == PROC_CMDLINE)
		return file_of("", 0, line, sizeof(line));
	return file == PROC_FDS ? -EACCES : opener_direct.open_proc(NULL, pid, file);
}

static void split(const uint8_t *data, size_t size)
{
	memset(part, 0, sizeof(part));
	for (size_t i = 0; i < PARTS && size; i++) {
		const uint8_t *end = i + 1 < PARTS ? memchr(data, 0xff, size) : NULL;
		size_t n = end ? (size_t)(end - data) : size;

		part[i].bytes = data;
		part[i].size = n;
		data += end ? n + 1 : n;
		size -= end ? n + 1 : n;
	}
}

static bool is_text(const char *text, size_t size)
{
	return strnlen(text, size) < size;
}

static void check(const struct model_folders *m)
{
	require(m->count <= MODEL_FOLDERS_MAX);
	for (size_t i = 0; i < m->count; i++) {
		const struct model_folder *f = &m->item[i];

		require(model_config__is_sane(&f->config) && model_config__is_moe(&f->config));
		require(f->config.moe_layers && f->config.moe_layers <= MODEL_LAYERS_MAX);
		require(f->config.experts <= MODEL_EXPERTS_MAX);
		require(is_text(f->name, sizeof(f->name)) && is_text(f->path, sizeof(f->path)) &&
			is_text(f->expert_type, sizeof(f->expert_type)));
	}
}

/* As saved, then with {where, where, value} triples changed. */
static void save_and_load(const struct model_folders *m)
{
	static struct model_folders again;
	struct buffer saved = { 0 };
	struct cursor at;

	require(!model_folders__save(m, &saved));
	at = cursor__over(saved.data, saved.size);
	require(!model_folders__load(&again, &at) && !cursor__left(&at));
	require(!memcmp(m, &again, sizeof(again)));
	for (size_t i = 0; i + 3 <= part[CHANGES].size; i += 3) {
		const uint8_t *change = part[CHANGES].bytes + i;

		saved.data[(change[0] | (size_t)change[1] << 8) % saved.size] = change[2];
	}
	at = cursor__over(saved.data, saved.size);
	if (!model_folders__load(&again, &at))
		check(&again);
	buffer__free(&saved);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct opener opener = { .open_proc = open_proc, .open_path = open_part };
	static struct model_folders m;
	static struct target *t;
	struct error e = { 0 };
	int err;

	if (!t)
		require(!target__open(&t, getpid(), &opener, NULL));
	split(data, size);
	err = model_folders__read(&m, t, &e);
	require(err ? e.exit == EXIT_UNSUPPORTED && !m.count : !error__is_set(&e));
	check(&m);
	save_and_load(&m);
	return 0;
}
