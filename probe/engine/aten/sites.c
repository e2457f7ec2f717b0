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

#define NO_SCALARS \
	{ \
		MP_NO_ARGUMENT, MP_NO_ARGUMENT \
	}

/* Where each argument is: the C++ method's object, or the place of the result, comes first. */

static struct mp_tensor_rule scores_rule(const struct aten_range *r)
{
	return (struct mp_tensor_rule){
		.argument = 1,
		.role = MP_ROLE_SCORES,
		.copy = MP_COPY_ROWS,
		.dims_min = 2,
		.dims_max = 2,
		.dtypes = FLOATS,
		.first_max = ANY,
		.last_min = r->experts_min,
		.last_max = r->experts_max,
	};
}

/* topk(self, k, dim, largest, sorted, values, indices): who asks for the least is no router. */
struct aten_hook aten_sites__topk(const struct aten_range *r)
{
	struct aten_hook hook = {
		.purpose = "router",
		.symbol = TOPK,
		.arguments = ARGUMENT(1) | ARGUMENT(2) | ARGUMENT(4),
		.required = 1,
		.without = "",
		.site = { .moment = MP_MOMENT_ROUTE,
			  .rules = 1,
			  .scalar = { 2, MP_NO_ARGUMENT },
			  .truth = 4,
			  .scalar_min = r->k_min,
			  .scalar_max = r->k_max },
	};

	hook.site.rule[0] = scores_rule(r);
	return hook;
}

/* gather(self, dim, index, sparse_grad, out): the scores decide whether it is a router's. */
static struct aten_hook gather_hook(const struct aten_range *r)
{
	struct aten_hook hook = {
		.purpose = "router",
		.symbol = GATHER,
		.arguments = ARGUMENT(1) | ARGUMENT(3),
		.required = 1,
		.without = "",
		.site = { .moment = MP_MOMENT_ROUTE, .rules = 3, .scalar = NO_SCALARS },
	};

	hook.site.rule[0] = hook.site.rule[2] = scores_rule(r);
	hook.site.rule[0].role = MP_ROLE_KEY;
	hook.site.rule[0].copy = MP_COPY_NOTHING;
	hook.site.rule[1] = (struct mp_tensor_rule){
		.argument = 3,
		.role = MP_ROLE_IDS,
		.copy = MP_COPY_ROWS,
		.dims_min = 2,
		.dims_max = 2,
		.dtypes = INTEGERS,
		.first_max = ANY,
		.last_min = r->k_min,
		.last_max = r->k_max,
	};
	return hook;
}

/* embedding(weight, indices, padding_idx, ...) */
static struct aten_hook embedding_hook(const struct aten_range *r)
{
	struct aten_hook hook = {
		.purpose = "rows",
		.symbol = EMBEDDING,
		.arguments = ARGUMENT(1) | ARGUMENT(2),
		.required = 1,
		.without = "",
		.site = { .moment = MP_MOMENT_BEGIN, .rules = 2, .scalar = NO_SCALARS },
	};

	hook.site.rule[0] = (struct mp_tensor_rule){
		.argument = 1,
		.role = MP_ROLE_KEY,
		.copy = MP_COPY_NOTHING,
		.dims_min = 2,
		.dims_max = 2,
		.dtypes = ANY,
		.first_min = r->vocabulary_min,
		.first_max = r->vocabulary_max,
		.last_max = ANY,
	};
	hook.site.rule[1] = (struct mp_tensor_rule){
		.argument = 2,
		.role = MP_ROLE_TOKENS,
		.copy = MP_COPY_ELEMENTS,
		.dims_min = 1,
		.dims_max = 2,
		.dtypes = INTEGERS,
		.first_max = ANY,
		.last_max = ANY,
	};
	return hook;
}

/* cos(self, out) and polar(abs, angle, out): angle 0 of a row is its position. */
#define ANGLES(name) \
	{ \
		.purpose = "positions", .symbol = (name), .arguments = ARGUMENT(1), \
		.without = "positions are those that follow from the order of rows", \
		.site = { .moment = MP_MOMENT_FIRST, \
			  .rules = 1, \
			  .scalar = NO_SCALARS, \
			  .rule = { { .argument = 1, \
				      .role = MP_ROLE_POSITIONS, \
				      .copy = MP_COPY_COLUMN, \
				      .dims_min = 2, \
				      .dims_max = 3, \
				      .dtypes = 1u << ATEN_FLOAT, \
				      .first_max = ANY, \
				      .last_max = ANY } } }, \
	}

static const struct aten_hook others[] = {
	ANGLES(COSINE),
	ANGLES(POLAR),
	/* index_copy(self, dim, index, source, out): paged caches */
	{ .purpose = "cache slots",
	  .symbol = INDEX_COPY,
	  .arguments = ARGUMENT(3),
	  .without = "sequences in a packed batch are told apart by positions only",
	  .site = { .moment = MP_MOMENT_FIRST,
		    .rules = 1,
		    .scalar = NO_SCALARS,
		    .rule = { { .argument = 3,
				.role = MP_ROLE_SLOTS,
				.copy = MP_COPY_ELEMENTS,
				.dims_min = 1,
				.dims_max = 1,
				.dtypes = INTEGERS,
				.first_max = ANY,
				.last_max = ANY } } } },
};
#define OTHERS (sizeof(others) / sizeof(*others))

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
	err = site__plan(&s->place, f, hook->symbol, hook->arguments, hook->stack_arguments ? 2 : 0,
			 &why);
	if (err && hook->required) {
		if (error__is_set(&why) && e && !error__is_set(e))
			*e = why;
		return error__set(e, EXIT_UNSUPPORTED, -err, REMEDY,
				  "libtorch: failed to plan a probe on '%s' of '%s': %s",
				  hook->symbol, elf__name(f), strerror(-err));
	}
	s->row.tensors.by_frame = (uint8_t)s->place.stack_by_frame;
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
			  "libtorch: failed to find '%s' in '%s': this PyTorch is stripped, older, "
			  "newer, or linked otherwise than what is known",
			  symbol, f ? elf__name(f) : "any mapped library");
}

/* Add @hook if the library has it; one that must be there and is not is an error. */
static int add_if_there(struct engine_plan *plan, const struct aten_hook *hook,
			const struct mapping *m, struct elf *f, struct error *e)
{
	if (exports(f, hook->symbol))
		return aten_sites__add(plan, hook, m, f, e);
	return hook->required ? refuse(f, hook->symbol, e) : 0;
}

int aten_sites__plan(struct engine_plan *plan, struct target *t, const struct aten_places *places,
		     struct error *e)
{
	struct aten_hook router =
		places->gathers ? gather_hook(&places->range) : aten_sites__topk(&places->range);
	struct aten_hook rows = embedding_hook(&places->range);
	const struct mapping *m;
	struct elf *f = NULL;
	size_t at = 0;
	int err;

	while ((m = target__next_library(t, &at)))
		if (is_named_torch(m->path))
			break;
	if (!m)
		return refuse(NULL, router.symbol, e);
	err = target__elf(t, m, &f, e);
	if (!err)
		err = add_if_there(plan, &router, m, f, e);
	if (!err)
		err = add_if_there(plan, &rows, m, f, e);
	for (size_t i = 0; i < OTHERS && !err; i++)
		err = add_if_there(plan, &others[i], m, f, e);
	return err;
}

/* A function that the newest layout has, of which it is one cause: a tensor keeps one pointer less
 * to Python. Where this presumes wrong, the first computations are lost, and said to be. */
#define CAME_WITH_NEW "_ZNK3c1010TensorImpl15incref_pyobjectEv"

static unsigned presumed_head(struct target *t)
{
	const struct mapping *m;
	struct elf *f;
	size_t at = 0;

	while ((m = target__next_library(t, &at)))
		if (strstr(m->path, "/libc10.so"))
			return !target__elf(t, m, &f, NULL) && !exports(f, CAME_WITH_NEW)
				       ? ATEN_HEAD_OLD
				       : ATEN_HEAD_NEW;
	return ATEN_HEAD_NEW;
}

unsigned aten_sites__presume(struct engine_plan *plan, struct target *t)
{
	unsigned head = 0;

	for (size_t i = 0; i < plan->sites; i++) {
		struct mp_site *row = &plan->site[i].row;

		if (row->program != MP_PROGRAM_TENSORS)
			continue;
		head = head ? head : presumed_head(t);
		row->tensors.head = (uint16_t)(head | MP_TENSOR_RAW);
	}
	return head;
}

void aten_sites__learn(struct mp_site *rows, size_t count, unsigned head)
{
	for (size_t i = 0; rows && i < count; i++)
		if (rows[i].program == MP_PROGRAM_TENSORS)
			__atomic_store_n(&rows[i].tensors.head, (uint16_t)head, __ATOMIC_SEQ_CST);
}
