/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Four places tell everything (docs/adding-an-engine.md says how they were found):
 *
 *   ggml_compute_forward_mul          the multiplication of the experts' outputs with their gate
 *                                     weights: both of the router's results, in every thread
 *   llm_graph_result::set_inputs      the rows of a forward computation, just before it
 *   common_log_add                    "slot ... | launch_slot_with_task", "... release"
 *   server_queue::post(vector&&)      a request's tasks: client's id and prompt
 *
 * ggml's tensor is a public struct: DWARF where there is some, else the layout since 2024-11. The
 * rows' struct (llama_ubatch) is private and moved: where its positions are is read from the code
 * of the function that uploads them, and the fields behind them have kept their distance. A place
 * that was never seen to be right is refused by name; the kernel's shape rules and the checks of
 * the first events (assemble.c) hold what is accepted here against the data.
 */
#include "probe/engine/llama/layout.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "probe/base/error.h"
#include "probe/engine/sink.h"
#include "probe/target/elf.h"
#include "probe/target/target.h"

#define ROUTER "ggml_compute_forward_mul"
#define ROWS "_ZN16llm_graph_result10set_inputsEPK12llama_ubatch"
#define LINES "_Z14common_log_addP10common_log14ggml_log_levelPKcz"
#define TASKS "_ZN12server_queue4postEOSt6vectorI11server_taskSaIS1_EEb"
#define UPLOAD_POSITIONS "_ZN19llm_graph_input_pos9set_inputEPK12llama_ubatch"

#define UNSUPPORTED_REMEDY "run a llama.cpp release that README.md lists, with its symbols kept"

/* Types in ggml's enum; never renumbered. */
#define GGML_TYPE_F32 0u
#define GGML_TYPE_I32 26u

/* What a row of the site table is filled from. */
struct place {
	struct elf *file;
	uint32_t vocabulary;
};

/* --- filling rows ----------------------------------------------------------------------------- */

static int tensor_layout(struct mp_tensor_layout *out, struct elf *f, struct error *e)
{
	/* ggml_tensor since 2024-11 (`grad` removed). */
	struct {
		const char *member;
		uint32_t offset;
	} fields[] = { { "type", 0 },  { "ne", 16 },    { "nb", 48 },
		       { "src", 152 }, { "data", 248 }, { "name", 256 } };
	uint16_t *const to[] = {
		&out->type, &out->ne, &out->nb, &out->src, &out->data, &out->name
	};

	memset(out, 0, sizeof(*out));
	for (size_t i = 0; i < sizeof(fields) / sizeof(*fields); i++) {
		uint32_t offset;

		if (elf__member_offset(f, "ggml_tensor", fields[i].member, &offset))
			offset = fields[i].offset;
		if (offset > 1024)
			return error__set(e, EXIT_UNSUPPORTED, ENOTSUP, UNSUPPORTED_REMEDY,
					  "llama: failed to use '%s': layout check failed: "
					  "ggml_tensor.%s at %u",
					  elf__name(f), fields[i].member, offset);
		*to[i] = (uint16_t)offset;
	}
	out->type_ids = GGML_TYPE_I32;
	out->type_weights = GGML_TYPE_F32;
	return 0;
}

/* f(params, dst): dst = experts' outputs (src 0, whose src 2 are the ids) x weights (src 1). By
 * structure, because the name of dst differs between releases. */
static int fill_route(struct mp_site *row, const struct place *p, struct error *e)
{
	struct mp_route_site *r = &row->route;
	int err = tensor_layout(&r->tensor, p->file, e);

	if (err)
		return err;
	/* params->ith: thread 0 reads for all. */
	r->guard = (struct mp_path){ .base = 0, .steps = 0 };
	r->ids = (struct mp_path){ .base = 1,
				   .steps = 2,
				   .offset = { r->tensor.src, r->tensor.src + 2 * 8 } };
	r->weights = (struct mp_path){ .base = 1, .steps = 1, .offset = { r->tensor.src + 8 } };
	memcpy(r->prefix, LLAMA_TENSOR_PREFIX, sizeof(LLAMA_TENSOR_PREFIX) - 1);
	return 0;
}

/* llama_ubatch: {flags, n_tokens, n_seq_tokens, n_seqs, n_seqs_unq, [n_pos,] token, embd, ..., pos,
 * n_seq_id, seq_id, seq_id_unq, seq_idx, output}. */
static int fill_rows(struct mp_site *row, const struct place *p, struct error *e)
{
	struct mp_rows_site *r = &row->rows;
	int32_t positions = 0;
	int err;

	err = site__first_displacement(p->file, UPLOAD_POSITIONS, 1, 16, &positions);
	if (err == -ENOENT && !positions)
		return error__set(e, EXIT_UNSUPPORTED, ENOTSUP, UNSUPPORTED_REMEDY,
				  "llama: failed to use '%s': layout check failed: no use of "
				  "llama_ubatch.pos in %s",
				  elf__name(p->file), UPLOAD_POSITIONS);
	if (err)
		return err;
	if (positions != 40 && positions != 48)
		return error__set(
			e, EXIT_UNSUPPORTED, ENOTSUP, UNSUPPORTED_REMEDY,
			"llama: failed to use '%s': layout check failed: llama_ubatch.pos "
			"at %d (known: 40, 48)",
			elf__name(p->file), positions);
	r->batch = (struct mp_path){ .base = 1, .steps = 0 };
	r->count = 4;
	r->token = 24;
	r->position = (uint16_t)positions;
	r->sequences = r->position + 8;
	r->sequence = r->position + 16;
	r->output = r->position + 40;
	return 0;
}

static int fill_lines(struct mp_site *row, const struct place *p, struct error *e)
{
	memcpy(row->line.prefix, LLAMA_SLOT_PREFIX, sizeof(LLAMA_SLOT_PREFIX) - 1);
	return 0;
}

/* Offsets in server_task stay 0: they are learnt at run time (learn.c). */
static int fill_tasks(struct mp_site *row, const struct place *p, struct error *e)
{
	row->tasks.argument = 1;
	row->tasks.vocabulary = p->vocabulary;
	row->tasks.tokens_max = LLAMA_PROMPT_MAX;
	memcpy(row->tasks.prefix, LLAMA_CLIENT_PREFIX, sizeof(LLAMA_CLIENT_PREFIX) - 1);
	return 0;
}

/* --- which places ----------------------------------------------------------------------------- */

#define ARGUMENT(n) (1u << (n))

static const struct hook {
	const char *purpose, *symbol;
	enum mp_program program;
	unsigned arguments; /* bit i: argument i must still be in its register */
	int stack_arguments;
	unsigned required;
	const char *without;
	int (*fill)(struct mp_site *row, const struct place *p, struct error *e);
} hooks[] = {
	{ "router", ROUTER, MP_PROGRAM_ROUTE, ARGUMENT(0) | ARGUMENT(1), 0, 1, "", fill_route },
	{ "rows", ROWS, MP_PROGRAM_ROWS, ARGUMENT(0) | ARGUMENT(1), 0, 1, "", fill_rows },
	{ "slots", LINES, MP_PROGRAM_LINE, ARGUMENT(0) | ARGUMENT(2) | ARGUMENT(4) | ARGUMENT(5), 1,
	  0, "begin and end of requests are inferred from positions", fill_lines },
	{ "clients", TASKS, MP_PROGRAM_TASKS, ARGUMENT(0) | ARGUMENT(1), 0, 0,
	  "the clients' ids and the prompts' tokens stay unknown", fill_tasks },
};
#define HOOKS (sizeof(hooks) / sizeof(*hooks))

static bool exports(struct elf *f, const char *symbol)
{
	struct elf_symbol found;

	return !elf__symbol(f, symbol, &found);
}

/* Named like one of llama.cpp's libraries or programs: only used to say why it cannot be read. */
static bool is_named_llama(const char *path)
{
	const char *name = strrchr(path, '/');

	name = name ? name + 1 : path;
	return strstr(name, "llama") || strstr(name, "ggml");
}

static int add_site(struct engine_plan *plan, const struct hook *h, const struct mapping *library,
		    const struct place *p, uint32_t tgid, struct error *e)
{
	struct engine_site *s = &plan->site[plan->sites];
	struct error why = { 0 };
	int err;

	if (plan->sites == ENGINE_SITES_MAX)
		return 0;
	memset(s, 0, sizeof(*s));
	s->purpose = h->purpose;
	s->library = library;
	s->required = h->required;
	s->without = h->without;
	s->row.program = h->program;
	s->row.tgid = tgid;
	s->row.enabled = 1;
	err = site__plan(&s->place, p->file, h->symbol, h->arguments, h->stack_arguments, &why);
	if (!err)
		err = h->fill(&s->row, p, &why);
	if (err && h->required) {
		if (error__is_set(&why) && e && !error__is_set(e))
			*e = why;
		return error__set(e, EXIT_UNSUPPORTED, -err, UNSUPPORTED_REMEDY,
				  "llama: failed to plan a probe on '%s' of '%s': %s", h->symbol,
				  elf__name(p->file), strerror(-err));
	}
	if (!err)
		plan->sites++;
	return 0;
}

static void note_identity(struct engine_plan *plan, struct elf *f)
{
	const uint8_t *id;
	size_t n = elf__build_id(f, &id);

	memset(plan->build_id, 0, sizeof(plan->build_id));
	memcpy(plan->build_id, id, n < sizeof(plan->build_id) ? n : sizeof(plan->build_id));
}

/* Which hook no library has; NULL if all required ones were planned. */
static const struct hook *missing_hook(const struct engine_plan *plan)
{
	for (size_t i = 0; i < HOOKS; i++) {
		bool planned = !hooks[i].required;

		for (size_t j = 0; j < plan->sites; j++)
			planned |= plan->site[j].row.program == hooks[i].program;
		if (!planned)
			return &hooks[i];
	}
	return NULL;
}

static int refuse(const struct hook *missing, const char *stripped, struct error *e)
{
	if (stripped)
		return error__set(e, EXIT_UNSUPPORTED, ENOTSUP,
				  "run a build whose symbols are not stripped",
				  "llama: failed to find '%s': symbols of '%s' are stripped",
				  missing->symbol, stripped);
	return error__set(e, EXIT_UNSUPPORTED, ENOTSUP, UNSUPPORTED_REMEDY,
			  "llama: failed to find '%s' in any mapped library: this llama.cpp is too "
			  "old, computes elsewhere, or hides its symbols",
			  missing->symbol);
}

int llama_layout__plan(struct engine_plan *plan, struct target *t, uint32_t vocabulary,
		       struct error *e)
{
	const struct hook *missing;
	const struct mapping *m;
	const char *stripped = NULL;
	size_t at = 0;

	engine_plan__clear(plan);
	while ((m = target__next_library(t, &at))) {
		struct place p = { .vocabulary = vocabulary };

		if (target__elf(t, m, &p.file, NULL))
			continue;
		if (is_named_llama(m->path) && !exports(p.file, ROUTER) && !exports(p.file, ROWS) &&
		    elf__is_stripped(p.file))
			stripped = m->path;
		for (size_t i = 0; i < HOOKS; i++) {
			int err;

			if (!exports(p.file, hooks[i].symbol))
				continue;
			err = add_site(plan, &hooks[i], m, &p, (uint32_t)target__info(t)->pid, e);
			if (err)
				return err;
			if (hooks[i].program == MP_PROGRAM_ROUTE)
				note_identity(plan, p.file);
		}
	}
	missing = missing_hook(plan);
	return missing ? refuse(missing, stripped, e) : 0;
}

static bool any_exports(struct target *t, const char *symbol)
{
	const struct mapping *m;
	size_t at = 0;
	struct elf *f;

	while ((m = target__next_library(t, &at)))
		if (!target__elf(t, m, &f, NULL) && exports(f, symbol))
			return true;
	return false;
}

int llama_layout__match(struct target *t, struct error *e)
{
	const struct mapping *m;
	size_t at = 0;

	/* Only the name: llama.cpp, but not one that we can read; open says why. */
	while ((m = target__next_library(t, &at)))
		if (is_named_llama(m->path))
			return 1;
	/* Most processes have neither: then the names of all their symbols are searched once. */
	return any_exports(t, ROUTER) && any_exports(t, ROWS);
}
