/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Models in a hub's cache, as programs of a process find them by an id: ORG/NAME is folder
 * models--ORG--NAME of the cache; file refs/REVISION there says which folder of snapshots/ it is;
 * the files in that are links to blobs/HASH. Where the cache is says the process's environment, as
 * it was when the process began: what a program set itself is not seen.
 */
#ifndef MP_TARGET_HUB_CACHE_H
#define MP_TARGET_HUB_CACHE_H

#include <stdbool.h>
#include <stddef.h>

struct target;

#define HUB_MAIN "main" /* the revision where none is said */

/* Is @id one that a hub knows: "NAME" or "ORG/NAME"? */
bool hub_cache__is_id(const char *id);

/* The caches of @t, first to last as programs look into them: *@at from 0. False: no more. */
bool hub_cache__next(const struct target *t, size_t *at, char *out, size_t size);
/* The snapshot of model @id with @revision (a name in refs/, or a commit) in @cache, if it may be
 * there. */
bool hub_cache__snapshot(const struct target *t, const char *cache, const char *id,
			 const char *revision, char *out, size_t size);
/* The snapshot with @revision of the model whose blob @path is; false also if that is no blob. */
bool hub_cache__of_blob(const struct target *t, const char *path, const char *revision, char *out,
			size_t size);

#endif
