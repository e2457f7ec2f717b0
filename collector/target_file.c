/* SPDX-License-Identifier: BSD-2-Clause */
#include "collector/target_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "probe/base/file_user.h"
#include "probe/target/opener.h"

#define STATUS_MAX 4096
#define MODEL_MAGIC "GGUF"
#define MODEL_MAGIC_SIZE 4
#define BEGINNING_MAX (256u << 10) /* of a file that is looked at, at most */
#define CONFIG_KEY "\"model_type\""
#define WEIGHTS_ENDING ".safetensors"
#define WEIGHTS_HEADER_MAX 100000000u /* by the format */
#define HUB_MODEL "models--"
#define HUB_BLOBS "blobs"
#define HUB_REFERENCES "refs"
#define HUB_COMMIT_DIGITS 40

/* The line of /proc/PID/status that begins with @name, behind it; NULL. The kernel escapes what a
 * process says of itself, so a line is a line. */
static const char *find_line(const char *text, const char *name)
{
	const char *at = strstr(text, name);

	return at ? at + strlen(name) : NULL;
}

int target_file__user(pid_t pid, struct file_user *out)
{
	char path[64], text[STATUS_MAX];
	const char *at;
	char *end;
	ssize_t n;
	int fd;

	memset(out, 0, sizeof(*out));
	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return -ESRCH;
	text[n] = '\0';
	/* real, effective, saved, file system */
	at = find_line(text, "\nUid:\t");
	if (!at || sscanf(at, "%*u %*u %*u %u", &out->uid) != 1)
		return -EPROTO;
	at = find_line(text, "\nGid:\t");
	if (!at || sscanf(at, "%*u %*u %*u %u", &out->gid) != 1)
		return -EPROTO;
	at = find_line(text, "\nGroups:\t");
	while (at && *at >= '0' && *at <= '9' && out->groups < FILE_USER_GROUPS) {
		out->group[out->groups++] = (gid_t)strtoul(at, &end, 10);
		/* A number that ends with the text may be a part of one. */
		if (!*end)
			out->groups--;
		at = *end == ' ' ? end + 1 : NULL;
	}
	return 0;
}

static bool begins_as_gguf(int fd, uint8_t *bytes)
{
	return pread(fd, bytes, MODEL_MAGIC_SIZE, 0) == MODEL_MAGIC_SIZE &&
	       !memcmp(bytes, MODEL_MAGIC, MODEL_MAGIC_SIZE);
}

/* An object, behind white space. */
static bool begins_as_json(int fd, uint8_t *bytes)
{
	ssize_t n = pread(fd, bytes, BEGINNING_MAX, 0), at = 0;

	while (at < n && strchr(" \t\r\n", bytes[at]) && bytes[at])
		at++;
	return at < n && bytes[at] == '{';
}

/* Programs of many kinds keep a config.json, some with secrets: a model's says its type. */
static bool begins_as_config(int fd, uint8_t *bytes)
{
	ssize_t n = pread(fd, bytes, BEGINNING_MAX, 0);

	return n > 0 && begins_as_json(fd, bytes) &&
	       memmem(bytes, (size_t)n, CONFIG_KEY, sizeof(CONFIG_KEY) - 1);
}

/* The length of a header, little-endian, and the header, an object. */
static bool begins_as_weights(int fd, uint8_t *bytes)
{
	uint64_t length = 0;

	if (pread(fd, bytes, 9, 0) != 9 || bytes[8] != '{')
		return false;
	for (size_t i = 8; i--;)
		length = length << 8 | bytes[i];
	return length <= WEIGHTS_HEADER_MAX;
}

/* How a file begins that may be opened by its name; the first row that fits the name counts. */
static const struct {
	const char *name;
	bool is_ending; /* of the name */
	bool (*begins)(int fd, uint8_t *bytes);
} kinds[] = {
	{ "config.json", false, begins_as_config },
	{ "generation_config.json", false, begins_as_json },
	{ "tokenizer.json", false, begins_as_json },
	{ "model.safetensors.index.json", false, begins_as_json },
	{ WEIGHTS_ENDING, true, begins_as_weights },
	{ "", true, begins_as_gguf },
};

static bool ends_with(const char *text, const char *end)
{
	size_t n = strlen(text), m = strlen(end);

	return n >= m && !strcmp(text + n - m, end);
}

/* The last part of @path. */
static const char *base_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* The row of kinds[] that @path is named as. */
static size_t kind_of(const char *path)
{
	const char *base = base_of(path);
	size_t kind = 0;

	while (kinds[kind].is_ending ? !ends_with(base, kinds[kind].name)
				     : strcmp(base, kinds[kind].name))
		kind++;
	return kind;
}

/* @path, which is changed, is a file of @folder of a model in a hub's cache:
 * models--OWNER--NAME/FOLDER/FILE. */
static bool is_in_hub(char *path, const char *folder)
{
	const char *file = base_of(path), *its_folder, *model;

	if (file == path || !*file)
		return false;
	path[file - path - 1] = '\0';
	its_folder = base_of(path);
	if (its_folder == path || strcmp(its_folder, folder))
		return false;
	path[its_folder - path - 1] = '\0';
	model = base_of(path);
	return !strncmp(model, HUB_MODEL, strlen(HUB_MODEL));
}

/* What the names in snapshots/ are links to: blobs/HASH. @path is changed. */
static bool is_blob(char *path)
{
	const char *hash = base_of(path);
	size_t digits = strspn(hash, "0123456789abcdef");

	return !hash[digits] && (digits == 40 || digits == 64) && is_in_hub(path, HUB_BLOBS);
}

bool target_file__is_weights(const char *path)
{
	return ends_with(path, WEIGHTS_ENDING);
}

/* Which snapshot a revision of a model is: refs/REVISION, whose name is @path (changed), holds a
 * commit and nothing else. */
static bool is_reference(int fd, char *path)
{
	char text[HUB_COMMIT_DIGITS + 3] = "";
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

	return (n == HUB_COMMIT_DIGITS || (n == HUB_COMMIT_DIGITS + 1 && text[n - 1] == '\n')) &&
	       strspn(text, "0123456789abcdef") == HUB_COMMIT_DIGITS &&
	       is_in_hub(path, HUB_REFERENCES);
}

/* What @fd is named itself, links followed. */
static int name_of(int fd, char name[PATH_MAX])
{
	char link[64];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, name, PATH_MAX);
	if (n < 0 || n >= PATH_MAX)
		return n < 0 ? -errno : -ENAMETOOLONG;
	name[n] = '\0';
	return 0;
}

/* @fd was opened as @path: what it is named itself is of that kind too. Else any file could be had
 * by a link that is named as a model's. */
static int check_name(int fd, const char *path)
{
	char name[PATH_MAX];
	int err = name_of(fd, name);

	if (err)
		return err;
	return kind_of(name) == kind_of(path) || is_blob(name) ? 0 : -EACCES;
}

static int check_beginning(int fd, const char *path)
{
	size_t kind = kind_of(path);
	uint8_t *bytes;
	bool fits;

	bytes = malloc(BEGINNING_MAX);
	if (!bytes)
		return -ENOMEM;
	fits = kinds[kind].begins(fd, bytes);
	free(bytes);
	return fits ? 0 : -EACCES;
}

static int check_file(int fd, const char *path)
{
	char name[PATH_MAX];
	int err = name_of(fd, name);

	if (err || is_reference(fd, name))
		return err;
	err = check_name(fd, path);
	return err ? err : check_beginning(fd, path);
}

int target_file__open_model(pid_t pid, const char *path)
{
	struct file_user_before before;
	struct file_user user;
	int fd, err;

	err = target_file__user(pid, &user);
	if (!err)
		err = file_user__become(&user, &before);
	if (err)
		return err;
	fd = opener_direct.open_path(opener_direct.ctx, pid, path);
	err = file_user__restore(&before);
	if (fd < 0)
		return fd;
	if (!err)
		err = check_file(fd, path);
	if (!err)
		return fd;
	close(fd);
	return err;
}
