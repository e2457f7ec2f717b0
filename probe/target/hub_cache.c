/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/target/hub_cache.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "probe/target/opener.h"
#include "probe/target/target.h"

#define MODEL "models--"
#define BLOBS "/blobs/"
#define NAME_MAX_BYTES 96 /* of a hub's id, by its rules */
#define COMMIT_DIGITS 40

/* --- ids -------------------------------------------------------------------------------------- */

/* Letters, digits, "-", "_", "."; none of the last three at an end, and no "--" or "..". */
static bool is_name(const char *text, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		char c = text[i];
		bool is_letter =
			(c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
		bool is_inside = i && i + 1 < size && (c == '_' || text[i - 1] != c);

		if (!is_letter && (!is_inside || !strchr("-_.", c) || !c))
			return false;
	}
	return size > 0 && size <= NAME_MAX_BYTES;
}

bool hub_cache__is_id(const char *id)
{
	const char *slash = strchr(id, '/');

	if (!slash)
		return is_name(id, strlen(id));
	return is_name(id, (size_t)(slash - id)) && is_name(slash + 1, strlen(slash + 1));
}

static bool is_commit(const char *text, size_t size)
{
	return size == COMMIT_DIGITS && strspn(text, "0123456789abcdef") == COMMIT_DIGITS;
}

/* --- caches ----------------------------------------------------------------------------------- */

static bool format(char *out, size_t size, const char *a, const char *b)
{
	int n = snprintf(out, size, "%s%s", a, b);

	return n >= 0 && (size_t)n < size;
}

static bool read_variable(const struct target *t, enum proc_variable v, char *out, size_t size)
{
	const struct opener *o = target__opener(t);

	return o->read_variable && !o->read_variable(o->ctx, target__info(t)->pid, v, out, size) &&
	       *out;
}

/* A folder that a variable names; "~" is the user's. */
static bool read_folder(const struct target *t, enum proc_variable v, char *out, size_t size)
{
	char text[PATH_MAX], home[PATH_MAX];

	if (!read_variable(t, v, text, sizeof(text)))
		return false;
	if (text[0] == '/')
		return format(out, size, text, "");
	return text[0] == '~' && (!text[1] || text[1] == '/') &&
	       read_variable(t, PROC_VARIABLE_HOME, home, sizeof(home)) && home[0] == '/' &&
	       format(out, size, home, text + 1);
}

static bool hub_home(const struct target *t, char *out, size_t size)
{
	char text[PATH_MAX];

	if (read_folder(t, PROC_VARIABLE_HF_HOME, text, sizeof(text)))
		return format(out, size, text, "/hub");
	if (read_folder(t, PROC_VARIABLE_XDG_CACHE_HOME, text, sizeof(text)))
		return format(out, size, text, "/huggingface/hub");
	return read_folder(t, PROC_VARIABLE_HOME, text, sizeof(text)) &&
	       format(out, size, text, "/.cache/huggingface/hub");
}

/* Of the variables that name the cache itself the first that is set counts; older releases of
 * transformers look elsewhere first. */
bool hub_cache__next(const struct target *t, size_t *at, char *out, size_t size)
{
	switch ((*at)++) {
	case 0:
		return read_folder(t, PROC_VARIABLE_HF_HUB_CACHE, out, size) ||
		       read_folder(t, PROC_VARIABLE_HUGGINGFACE_HUB_CACHE, out, size) ||
		       hub_home(t, out, size) || hub_cache__next(t, at, out, size);
	case 1:
		return read_folder(t, PROC_VARIABLE_TRANSFORMERS_CACHE, out, size);
	default:
		return false;
	}
}

/* --- snapshots -------------------------------------------------------------------------------- */

/* The commit that file refs/@revision of @model says; false if there is none. */
static bool read_reference(const struct target *t, const char *model, const char *revision,
			   char commit[COMMIT_DIGITS + 1])
{
	const struct opener *o = target__opener(t);
	char path[PATH_MAX];
	ssize_t n;
	int fd;

	if (snprintf(path, sizeof(path), "%s/refs/%s", model, revision) >= (int)sizeof(path))
		return false;
	fd = o->open_path(o->ctx, target__info(t)->pid, path);
	if (fd < 0)
		return false;
	do
		n = read(fd, commit, COMMIT_DIGITS);
	while (n < 0 && errno == EINTR);
	close(fd);
	commit[COMMIT_DIGITS] = '\0';
	return n == COMMIT_DIGITS && is_commit(commit, COMMIT_DIGITS);
}

/* The snapshot of folder @model. */
static bool find_snapshot(const struct target *t, const char *model, const char *revision,
			  char *out, size_t size)
{
	char commit[COMMIT_DIGITS + 1];
	int n;

	if (is_commit(revision, strlen(revision)))
		memcpy(commit, revision, sizeof(commit));
	else if (!is_name(revision, strlen(revision)) ||
		 !read_reference(t, model, revision, commit))
		return false;
	n = snprintf(out, size, "%s/snapshots/%s", model, commit);
	return n >= 0 && (size_t)n < size;
}

bool hub_cache__snapshot(const struct target *t, const char *cache, const char *id,
			 const char *revision, char *out, size_t size)
{
	const char *slash = strchr(id, '/');
	char model[PATH_MAX];
	int n;

	if (!hub_cache__is_id(id))
		return false;
	n = slash ? snprintf(model, sizeof(model), "%s/" MODEL "%.*s--%s", cache, (int)(slash - id),
			     id, slash + 1)
		  : snprintf(model, sizeof(model), "%s/" MODEL "%s", cache, id);
	return n >= 0 && (size_t)n < sizeof(model) && find_snapshot(t, model, revision, out, size);
}

bool hub_cache__of_blob(const struct target *t, const char *path, const char *revision, char *out,
			size_t size)
{
	const char *blobs = NULL, *name;
	char model[PATH_MAX];

	for (const char *at = path; (at = strstr(at, BLOBS)); at++)
		blobs = at;
	if (path[0] != '/' || !blobs || (size_t)(blobs - path) >= sizeof(model))
		return false;
	memcpy(model, path, (size_t)(blobs - path));
	model[blobs - path] = '\0';
	name = strrchr(model, '/');
	return name && !strncmp(name + 1, MODEL, strlen(MODEL)) &&
	       !strchr(blobs + strlen(BLOBS), '/') && find_snapshot(t, model, revision, out, size);
}
