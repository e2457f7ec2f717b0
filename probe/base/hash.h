/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * uthash, with one rule of ours: without memory an element is not added, and the caller says
 * -ENOMEM; by default uthash would end the program. Include this, never <uthash.h>.
 */
#ifndef MP_BASE_HASH_H
#define MP_BASE_HASH_H

#define HASH_NONFATAL_OOM 1
#define uthash_nonfatal_oom(element) ((void)(element))
#include <uthash.h>

/* After HASH_ADD*(): true if @element is in its table. It must have been zeroed before. */
#define hash__has(element) ((element)->hh.tbl != NULL)

#endif
