/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/engine/aten/sites.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "probe/abi/event.h"
#include "probe/base/error.h"
#include "probe/engine/aten/layout.h"
#include "probe/engine/aten/tensor.h"
#include "probe/target/elf.h"
#include "probe/target/target.h"

#define TOPK "_ZN2at6native23structured_topk_out_cpu4implERKNS_6TensorEllbbS4_S4_"
#define GATHER "_ZN2at6native21structured_gather_out4implERKNS_6TensorElS4_bS4_"
#define EMBEDDING "_ZN2at6native16embedding_symintERKNS_6TensorES3_N3c106SymIntEbb"
#define COSINE "_ZN2at6native18structured_cos_out4implERKNS_6TensorES4_"
#define POLAR "_ZN2at6native9polar_outERKNS_6TensorES3_RS1_"
#define INDEX_COPY "_ZN2at6native25structured_index_copy_out4implERKNS_6TensorElS4_S4_S4_"

#define REMEDY "run the PyTorch of the wheels, 1.13 to 2.14, with its symbols kept"

#define ARGUMENT(n) (1u << (n))
#define ANY UINT32_MAX
#define INTEGERS (1u << ATEN_INT | 1u << ATEN_LONG)
#define FLOATS (1u << ATEN_HALF | 1u << ATEN_FLOAT | 1u << ATEN_DOUBLE | 1u << ATEN_BFLOAT16)

/* Where each argument is: the C++ method's object, or the place of the result, comes first. */
#define HOOKS 6
static void fill_hooks(struct aten_hook hook[HOOKS], const struct aten_places *p)
{
	const struct aten_range *r = &p->range;
	struct mp_tensor_rule scores = {
		.role = MP_ROLE_SCORES, .copy = MP_COPY_ROWS, .argument = 1,
		.dims_min = 2, .dims_max = 2, .dtypes = FLOATS, .first_max = ANY,
		.last_min = r->experts_min, .last_max = r->experts_max,
	};
	struct mp_tensor_rule same = scores;

	same.role = MP_ROLE_KEY;
	same.copy = MP_COPY_NOTHING;
	/* topk(self, k, dim, largest, sorted, values, indices) */
	hook[0] = (struct aten_hook){ "router", TOPK, ARGUMENT(1) | ARGUMENT(2), 0, 1, "",
		{ .moment = MP_MOMENT_ROUTE, .rules = 1, .scalar = { 2, MP_NO_ARGUMENT },
		  .scalar_min = r->k_min, .scalar_max = r->k_max, .rule = { scores } } };
	/* gather(self, dim, index, sparse_grad, out) */
	if (p->gathers)
		hook[0] = (struct aten_hook){ "router", GATHER, ARGUMENT(1) | ARGUMENT(3), 0, 1, "",
			{ .moment = MP_MOMENT_ROUTE, .rules = 3,
			  .scalar = { MP_NO_ARGUMENT, MP_NO_ARGUMENT },
			  .rule = { same,
				    { .role = MP_ROLE_IDS, .copy = MP_COPY_ROWS, .argument = 3,
				      .dims_min = 2, .dims_max = 2, .dtypes = INTEGERS,
				      .first_max = ANY, .last_min = r->k_min,
				      .last_max = r->k_max },
				    scores } } };
	/* embedding(weight, indices, padding_idx, ...) */
	hook[1] = (struct aten_hook){ "rows", EMBEDDING, ARGUMENT(1) | ARGUMENT(2), 0, 1, "",
		{ .moment = MP_MOMENT_BEGIN, .rules = 2,
		  .scalar = { MP_NO_ARGUMENT, MP_NO_ARGUMENT },
		  .rule = { { .role = MP_ROLE_KEY, .copy = MP_COPY_NOTHING, .argument = 1,
			      .dims_min = 2, .dims_max = 2, .dtypes = ANY,
			      .first_min = r->vocabulary_min, .first_max = r->vocabulary_max,
			      .last_max = ANY },
			    { .role = MP_ROLE_TOKENS, .copy = MP_COPY_ELEMENTS, .argument = 2,
			      .dims_min = 1, .dims_max = 2, .dtypes = INTEGERS,
			      .first_max = ANY, .last_max = ANY } } } };
	/* cos(self, out): angle 0 of a row is its position */
	hook[2] = (struct aten_hook){ "positions", COSINE, ARGUMENT(1), 0, 0,
		"positions are those that follow from the order of rows",
		{ .moment = MP_MOMENT_FIRST, .rules = 1,
		  .scalar = { MP_NO_ARGUMENT, MP_NO_ARGUMENT },
		  .rule = { { .role = MP_ROLE_POSITIONS, .copy = MP_COPY_COLUMN, .argument = 1,
			      .dims_min = 2, .dims_max = 3, .dtypes = 1u << ATEN_FLOAT,
			      .first_max = ANY, .last_max = ANY } } } };
	/* polar(abs, angle, out), in the order of polar_out(abs, angle, result) */
	hook[3] = hook[2];
	hook[3].symbol = POLAR;
	/* index_copy(self, dim, index, source, out): paged caches */
	hook[4] = (struct aten_hook){ "cache slots", INDEX_COPY, ARGUMENT(3), 0, 0,
		"sequences in a packed batch are told apart by positions only",
		{ .moment = MP_MOMENT_FIRST, .rules = 1,
		  .scalar = { MP_NO_ARGUMENT, MP_NO_ARGUMENT },
		  .rule = { { .role = MP_ROLE_SLOTS, .copy = MP_COPY_ELEMENTS, .argument = 3,
			      .dims_min = 1, .dims_max = 1, .dtypes = INTEGERS,
			      .first_max = ANY, .last_max = ANY } } } };
}

static bool exports(struct elf *f, const char *symbol)
{
	struct elf_symbol found;

	return !elf__symbol(f, symbol, &found);
}

static bool is_named_torch(const char *path)
{
	const char *name = strrchr(path, '/');

	return strstr(name ? name : path, "libtorch_cpu.so") != NULL;
}

bool aten_sites__match(struct target *t)
{
	const struct mapping *m;
	size_t at = 0;

	while ((m = target__next_library(t, &at)))
		if (is_named_torch(m->path))
			return true;
	return false;
}

static void note_identity(struct engine_plan *plan, struct elf *f)
{
	const uint8_t *id;
	size_t n = elf__build_id(f, &id);

	memset(plan->build_id, 0, sizeof(plan->build_id));
	memcpy(plan->build_id, id, n < sizeof(plan->build_id) ? n : sizeof(plan->build_id));
}

int aten_sites__add(struct engine_plan *plan, const struct aten_hook *hook,
		    const struct mapping *library, struct elf *f, struct error *e)
{
	struct engine_site *s = &plan->site[plan->sites];
	struct error why = { 0 };
	int err;

	if (plan->sites == ENGINE_SITES_MAX)
		return 0;
	memset(s, 0, sizeof(*s));
	s->purpose = hook->purpose;
	s->library = library;
	s->required = hook->required;
	s->without = hook->without;
	s->row.program = MP_PROGRAM_TENSORS;
	s->row.tensors = hook->site;
	s->row.tensors.storage = ATEN_STORAGE_OFFSET;
	s->row.tensors.data = ATEN_DATA_OFFSET;
	err = site__plan(&s->place, f, hook->symbol, hook->arguments,
			 hook->stack_arguments ? 2 : 0, &why);
	if (err && hook->required) {
		if (error__is_set(&why) && e && !error__is_set(e))
			*e = why;
		return error__set(e, EXIT_UNSUPPORTED, -err, REMEDY,
				  "libtorch: failed to plan a probe on '%s' of '%s': %s",
				  hook->symbol, elf__name(f), strerror(-err));
	}
	s->row.tensors.by_frame = (uint16_t)s->place.stack_by_frame;
	if (!err)
		plan->sites++;
	if (mp_site__purpose(&s->row) == MP_PURPOSE_ROUTER)
		note_identity(plan, f);
	return 0;
}

static int refuse(struct elf *f, const char *symbol, struct error *e)
{
	if (f && elf__is_stripped(f))
		return error__set(e, EXIT_UNSUPPORTED, ENOTSUP, REMEDY,
				  "libtorch: failed to find '%s': symbols of '%s' are stripped",
				  symbol, elf__name(f));
	return error__set(e, EXIT_UNSUPPORTED, ENOTSUP, REMEDY,
			  "libtorch: failed to find '%s' in '%s': this PyTorch is older, newer, or "
			  "linked otherwise than what is known",
			  symbol, f ? elf__name(f) : "any mapped library");
}

int aten_sites__plan(struct engine_plan *plan, struct target *t, const struct aten_places *places,
		     struct error *e)
{
	struct aten_hook hook[HOOKS] = { 0 };
	const struct mapping *m;
	struct elf *f = NULL;
	size_t at = 0;
	int err;

	fill_hooks(hook, places);
	while ((m = target__next_library(t, &at)))
		if (is_named_torch(m->path))
			break;
	if (!m)
		return refuse(NULL, hook[0].symbol, e);
	err = target__elf(t, m, &f, e);
	if (err)
		return err;
	for (size_t i = 0; i < HOOKS; i++) {
		if (!hook[i].symbol)
			continue;
		if (!exports(f, hook[i].symbol)) {
			if (hook[i].required)
				return refuse(f, hook[i].symbol, e);
			continue;
		}
		err = aten_sites__add(plan, &hook[i], m, f, e);
		if (err)
			return err;
	}
	return 0;
}

void aten_sites__learn(struct mp_site *rows, size_t count, unsigned head)
{
	for (size_t i = 0; rows && i < count; i++)
		if (rows[i].program == MP_PROGRAM_TENSORS)
			__atomic_store_n(&rows[i].tensors.head, (uint16_t)head, __ATOMIC_SEQ_CST);
}
