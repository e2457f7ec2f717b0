/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Captures on their way to an engine while it is not certain where libtorch keeps the sizes of a
 * tensor. Rows of the site table begin with the offset that is presumed (aten_sites__presume()), so
 * that the first computation is read, and the kernel delivers the bytes of each TensorImpl before
 * what it read so. Until these have confirmed the offset all captures wait here, in order, bounded.
 * If they contradict it, what was read is dropped and counted, and so is what was under way when
 * the rows learnt better.
 */
#ifndef MP_ATEN_INTAKE_H
#define MP_ATEN_INTAKE_H

#include <stdbool.h>
#include <stdint.h>

#include "probe/engine/capture.h"
#include "probe/engine/sink.h"

struct aten_intake;
struct buffer;
struct cursor;
struct error;

/* A capture, not RAW, whose tensor can be believed. 0, or an error that is passed on. */
typedef int (*aten_intake_fn)(void *ctx, const struct capture *c, const struct engine_sink *sink);

/* 0 or -ENOMEM. */
int aten_intake__new(struct aten_intake **out, aten_intake_fn take, void *ctx);
/* Accepts NULL. */
void aten_intake__free(struct aten_intake *i);

/* Rows begin with @head; 0: there are none. Where none was ever presumed nothing is read before the
 * offset is known. */
void aten_intake__presume(struct aten_intake *i, unsigned head);
/* The same for a replay: append what was presumed to @out, if anything (0, -ENOMEM), and take it.
 */
int aten_intake__save(const struct aten_intake *i, struct buffer *out);
void aten_intake__load(struct aten_intake *i, struct cursor *at);
/* The offset that rows are to have; 0: it is not certain. */
unsigned aten_intake__head(const struct aten_intake *i);
/* True if computations were not read since we came: what goes on may have begun in them. */
bool aten_intake__missed(const struct aten_intake *i);

/* Any capture. 0, -EPROTO: the bytes are those of no layout that was ever seen; -ENOMEM, or what
 * @take or the sink gave. */
int aten_intake__add(struct aten_intake *i, const struct capture *c,
		     const struct engine_sink *sink);
/* Say that the layout check of @engine failed. Returns -EPROTO. */
int aten_intake__refuse(const char *engine, struct error *e);
/* Rows that had to learn have done so before @now_ns. */
void aten_intake__tick(struct aten_intake *i, uint64_t now_ns);
/* No more is to come: what waits was never confirmed. 0, or the sink's error. */
int aten_intake__finish(struct aten_intake *i, const struct engine_sink *sink);

#endif
