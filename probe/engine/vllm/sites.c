/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/engine/vllm/sites.h"

#include <errno.h>
#include <string.h>

#include "probe/abi/event.h"
#include "probe/base/error.h"
#include "probe/engine/aten/sites.h"
#include "probe/engine/aten/tensor.h"
#include "probe/engine/wire/sites.h"
#include "probe/target/elf.h"
#include "probe/target/target.h"

/* One of these libraries is loaded, by what the processor can: _C.abi3.so (AVX512 with bfloat16,
 * AMX), _C_AVX512.abi3.so, _C_AVX2.abi3.so. They export the same functions. */
#define KERNELS "/vllm/_C"
#define TORCH "libtorch_cpu.so"
#define LIBC "libc.so.6"

/* cpu_fused_moe(output, input, w13, w2, w13_bias, w2_bias, weights, ids, ...): ids and weights are
 * final at its entry */
#define FUSED \
	"_Z13cpu_fused_moeRN2at6TensorERKS0_S3_S3_RKSt8optionalIS0_ES7_S3_S3_bRKNSt7__" \
	"cxx1112basic" \
	"_stringIcSt11char_traitsIcESaIcEEESF_"
/* compute_slot_mapping(query_start_loc, positions, block_table, slot_mapping, block_size): once a
 * step, before it computes */
#define MAPPING "_Z32compute_slot_mapping_kernel_implN2at6TensorES0_S0_S0_l"
/* reshape_and_cache(key, value, key_cache, value_cache, slot_mapping, ...): each layer */
#define CACHE \
	"_Z26cpu_attn_reshape_and_cacheRKN2at6TensorES2_RS0_S3_S2_RKNSt7__cxx1112basic_stringIcSt" \
	"11char_traitsIcESaIcEEEddSB_"
/* index_select(self, dim, index, out): into the step's token ids, before the mapping */
#define SELECT "_ZN2at6native21index_select_out_cpu_ERKNS_6TensorElS3_RS1_"

#define REMEDY "run the vLLM of the wheels for CPU, 0.32, with its symbols kept"
#define ARGUMENT(n) (1u << (n))
#define ANY UINT32_MAX
#define FLOATS (1u << ATEN_HALF | 1u << ATEN_FLOAT | 1u << ATEN_BFLOAT16)
#define BLOCK_SIZE_MAX (1u << 20)
/* Longer pieces are captured as head and tail. What goes through ZeroMQ is sent in pieces of
 * 8192 bytes; of a long prompt the beginning tells which request it is. */
#define WHOLE_MESSAGE 16384
#define WHOLE_RESPONSE 8192

static const struct mapping *find_library(struct target *t, const char *part)
{
	const struct mapping *m;
	size_t at = 0;

	while ((m = target__next_library(t, &at)))
		if (strstr(m->path, part))
			return m;
	return NULL;
}

bool vllm_sites__match(struct target *t)
{
	return find_library(t, KERNELS) != NULL;
}

/* --- workers -----------------------------------------------------------------------------------
 */

#define NO_SCALAR \
	{ \
		MP_NO_ARGUMENT, MP_NO_ARGUMENT \
	}

static struct aten_hook router(const struct aten_range *r)
{
	return (struct aten_hook){ "router",
				   FUSED,
				   ARGUMENT(2),
				   1,
				   1,
				   "",
				   { .moment = MP_MOMENT_ROUTE,
				     .rules = 3,
				     .scalar = NO_SCALAR,
				     .rule = { { .role = MP_ROLE_KEY,
						 .copy = MP_COPY_NOTHING,
						 .argument = 2,
						 .dims_min = 3,
						 .dims_max = 3,
						 .dtypes = FLOATS,
						 .first_min = r->experts_min,
						 .first_max = r->experts_max,
						 .last_max = ANY },
					       { .role = MP_ROLE_IDS,
						 .copy = MP_COPY_ROWS,
						 .argument = MP_STACK_ARGUMENT + 1,
						 .dims_min = 2,
						 .dims_max = 2,
						 .dtypes = 1u << ATEN_INT,
						 .first_max = ANY,
						 .last_min = r->k_min,
						 .last_max = r->k_max },
					       { .role = MP_ROLE_WEIGHTS,
						 .copy = MP_COPY_ROWS,
						 .argument = MP_STACK_ARGUMENT,
						 .dims_min = 2,
						 .dims_max = 2,
						 .dtypes = 1u << ATEN_FLOAT,
						 .first_max = ANY,
						 .last_min = r->k_min,
						 .last_max = r->k_max } } } };
}

static struct aten_hook rows(void)
{
	return (struct aten_hook){ "rows",
				   MAPPING,
				   ARGUMENT(0) | ARGUMENT(1) | ARGUMENT(4),
				   0,
				   1,
				   "",
				   { .moment = MP_MOMENT_BEGIN,
				     .rules = 2,
				     .scalar = { 4, MP_NO_ARGUMENT },
				     .scalar_min = 1,
				     .scalar_max = BLOCK_SIZE_MAX,
				     .rule = { { .role = MP_ROLE_STARTS,
						 .copy = MP_COPY_ELEMENTS,
						 .argument = 0,
						 .dims_min = 1,
						 .dims_max = 1,
						 .dtypes = 1u << ATEN_INT,
						 .first_min = 2,
						 .first_max = ANY,
						 .last_max = ANY },
					       { .role = MP_ROLE_POSITIONS,
						 .copy = MP_COPY_ELEMENTS,
						 .argument = 1,
						 .dims_min = 1,
						 .dims_max = 1,
						 .dtypes = 1u << ATEN_LONG,
						 .first_min = 1,
						 .first_max = ANY,
						 .last_max = ANY } } } };
}

static struct aten_hook slots(void)
{
	return (struct aten_hook){
		"cache slots",
		CACHE,
		ARGUMENT(4),
		0,
		0,
		"requests with equal beginnings are told apart by their tokens only",
		{ .moment = MP_MOMENT_FIRST,
		  .rules = 1,
		  .scalar = NO_SCALAR,
		  .rule = { { .role = MP_ROLE_SLOTS,
			      .copy = MP_COPY_ELEMENTS,
			      .argument = 4,
			      .dims_min = 1,
			      .dims_max = 1,
			      .dtypes = 1u << ATEN_LONG,
			      .first_max = ANY,
			      .last_max = ANY } } }
	};
}

static struct aten_hook tokens(void)
{
	return (struct aten_hook){ "tokens",
				   SELECT,
				   ARGUMENT(3),
				   0,
				   0,
				   "tokens are unknown, and so is which request a row is of",
				   { .moment = MP_MOMENT_REMEMBER,
				     .rules = 1,
				     .scalar = NO_SCALAR,
				     .rule = { { .role = MP_ROLE_TOKENS,
						 .copy = MP_COPY_ELEMENTS,
						 .argument = 3,
						 .dims_min = 1,
						 .dims_max = 1,
						 .dtypes = 1u << ATEN_INT,
						 .first_max = ANY,
						 .last_max = ANY } } } };
}

static int refuse(const char *symbol, const char *library, struct error *e)
{
	return error__set(
		e, EXIT_UNSUPPORTED, ENOTSUP, REMEDY,
		"vLLM: failed to find '%s' in '%s': this vLLM is older, newer, or stripped", symbol,
		library);
}

static int add_hook(struct engine_plan *plan, struct target *t, const char *part,
		    const struct aten_hook *hook, struct error *e)
{
	const struct mapping *m = find_library(t, part);
	struct elf_symbol found;
	struct elf *f;
	int err = m ? target__elf(t, m, &f, e) : -ENOENT;

	if (!err && elf__symbol(f, hook->symbol, &found))
		err = -ENOENT;
	if (err == -ENOENT)
		return hook->required ? refuse(hook->symbol, part, e) : 0;
	return err ? err : aten_sites__add(plan, hook, m, f, e);
}

static bool has_symbol(struct target *t, const char *part, const char *symbol)
{
	const struct mapping *m = find_library(t, part);
	struct elf_symbol found;
	struct elf *f;

	return m && !target__elf(t, m, &f, NULL) && !elf__symbol(f, symbol, &found);
}

/* Where the kernel that takes the choice has another name, the choice itself is read: at
 * torch.topk(), and made again. */
static int plan_router(struct engine_plan *plan, struct target *t, const struct aten_range *range,
		       struct error *e)
{
	struct aten_hook own = router(range), topk = aten_sites__topk(range);
	bool by_topk = !has_symbol(t, KERNELS, FUSED) && has_symbol(t, TORCH, topk.symbol);

	topk.purpose = "router by top-k";
	return by_topk ? add_hook(plan, t, TORCH, &topk, e) : add_hook(plan, t, KERNELS, &own, e);
}

static int plan_worker(struct engine_plan *plan, struct target *t, const struct aten_range *range,
		       struct error *e)
{
	struct aten_hook own[] = { rows(), slots() }, selects = tokens();
	int err = plan_router(plan, t, range, e);

	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]) && !err; i++)
		err = add_hook(plan, t, KERNELS, &own[i], e);
	return err ? err : add_hook(plan, t, TORCH, &selects, e);
}

/* --- who sends ----------------------------------------------------------------------------------
 */

static void add_sender(struct engine_plan *plan, const struct mapping *library, struct elf *f,
		       const char *function, uint32_t form, uint32_t whole)
{
	struct engine_site *s = &plan->site[plan->sites];

	if (plan->sites == ENGINE_SITES_MAX)
		return;
	memset(s, 0, sizeof(*s));
	s->purpose = "names";
	s->library = library;
	s->without = "which request of a client a row is of is unknown";
	s->row.program = MP_PROGRAM_BYTES;
	s->row.sent.form = form;
	s->row.sent.whole = whole;
	s->row.sent.all = 1; /* messages of ZeroMQ are no HTTP */
	if (!site__plan(&s->place, f, function, ARGUMENT(0) | ARGUMENT(1) | ARGUMENT(2), 0, NULL))
		plan->sites++;
}

/* Messages go by send(), from ZeroMQ; responses by what libuv takes. */
static int plan_senders(struct engine_plan *plan, struct target *t, const struct vllm_role *r,
			struct error *e)
{
	const struct mapping *m = find_library(t, LIBC);
	struct elf *f;
	int err = m ? target__elf(t, m, &f, e) : 0;

	if (err || !m)
		return err;
	add_sender(plan, m, f, "send", MP_BYTES_BUFFER, WHOLE_MESSAGE);
	if (r->part != VLLM_SERVER)
		return 0;
	add_sender(plan, m, f, "write", MP_BYTES_BUFFER, WHOLE_RESPONSE);
	add_sender(plan, m, f, "writev", MP_BYTES_VECTOR, WHOLE_RESPONSE);
	add_sender(plan, m, f, "sendmsg", MP_BYTES_MESSAGE, WHOLE_RESPONSE);
	wire_sites__plan_tls(plan, t);
	return 0;
}

int vllm_sites__plan(struct engine_plan *plan, struct target *t, const struct vllm_role *r,
		     const struct aten_range *range, struct error *e)
{
	int err = 0;

	/* Ranks of one tensor-parallel group compute the same routing: one is read. */
	if (r->part == VLLM_WORKER)
		return r->tensor && r->tensor != ENGINE_UNKNOWN ? 0
								: plan_worker(plan, t, range, e);
	/* A core without workers computes itself. */
	if (r->part == VLLM_CORE && vllm_sites__match(t))
		err = plan_worker(plan, t, range, e);
	return err ? err : plan_senders(plan, t, r, e);
}
