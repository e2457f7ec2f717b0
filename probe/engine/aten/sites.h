/* SPDX-License-Identifier: BSD-2-Clause */
/* Where libtorch is probed. The functions are those behind the operators, exported by every release
 * since 1.13; all begin with an instruction that the kernel emulates. */
#ifndef MP_ATEN_SITES_H
#define MP_ATEN_SITES_H

#include <stdbool.h>
#include <stddef.h>

#include "probe/engine/aten/context.h"
#include "probe/engine/engine.h"

struct elf;

/* Shape rules of a place, from what is known of the models. */
struct aten_places {
	struct aten_range range;
	bool gathers; /* the router is read where scores are gathered, not at top-k (gate.h) */
};

/* True if a libtorch with CPU operators is mapped in @t, stripped ones included. */
bool aten_sites__match(struct target *t);

/*
 * Append the places of transformers' forward computations in @t to @plan: router, tokens,
 * positions, cache slots. Errors (EXIT_UNSUPPORTED): libtorch is stripped, static or too old.
 */
int aten_sites__plan(struct engine_plan *plan, struct target *t, const struct aten_places *places,
		     struct error *e);

/* One place that an engine wants: for those with functions of their own. */
struct aten_hook {
	const char *purpose, *symbol;
	unsigned arguments; /* bit i: argument register i is read */
	int stack_arguments;
	unsigned required;
	const char *without;
	struct mp_tensors_site site; /* layout offsets are filled in */
};
/* The one where torch.topk() chooses. */
struct aten_hook aten_sites__topk(const struct aten_range *range);
/* Append @hook in @library (@f, which exports the symbol) to @plan. A hook that is not required and
 * cannot be planned is left out. */
int aten_sites__add(struct engine_plan *plan, const struct aten_hook *hook,
		    const struct mapping *library, struct elf *f, struct error *e);

/*
 * Presume where the libtorch in @t keeps sizes: the rows of @plan begin with that offset, and the
 * bytes that confirm it are delivered beside. Returns the offset; 0: no row needs one.
 */
unsigned aten_sites__presume(struct engine_plan *plan, struct target *t);

/* Row @row of a member learns where TensorImpl keeps its sizes. */
void aten_sites__learn(struct mp_site *rows, size_t count, unsigned head);

#endif
