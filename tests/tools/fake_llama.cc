/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A process that looks like a llama.cpp server from outside, for what no real server does on
 * demand: impossible values in its memory, exceptions through probed frames, an unknown
 * layout, becoming another program. Never used to show exactness; real servers do that.
 *
 *   fake_llama SCENARIO STEPS     prints "ready PID", waits for a line, runs, prints
 *                                 "done MUL SET_INPUTS", waits for a line, exits 0.
 */
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <unistd.h>

#ifndef POS_OFFSET
#define POS_OFFSET 48 /* of llama_ubatch::pos, as in builds since 2026-10 */
#endif

/* ggml's tensor: the layout since 2024-11. */
struct ggml_tensor {
	int32_t type;
	int32_t pad0;
	void *buffer;
	int64_t ne[4];
	size_t nb[4];
	int32_t op;
	int32_t op_params[16];
	int32_t flags;
	ggml_tensor *src[10];
	ggml_tensor *view_src;
	size_t view_offs;
	void *data;
	char name[64];
	void *extra;
	char padding[8];
};
static_assert(sizeof(ggml_tensor) == 336, "ggml_tensor of 2024-11");
static_assert(offsetof(ggml_tensor, src) == 152 && offsetof(ggml_tensor, data) == 248, "layout");

struct ggml_compute_params {
	int32_t ith, nth;
};

struct llama_ubatch {
	uint32_t b_equal_seqs, n_tokens, n_seq_tokens, n_seqs, n_seqs_unq, n_pos;
	int32_t *token;
	char until_pos[POS_OFFSET - 32];
	int32_t *pos;
	int32_t *n_seq_id;
	int32_t **seq_id;
	void *seq_id_unq, *seq_idx;
	int8_t *output;
};
static_assert(offsetof(llama_ubatch, pos) == POS_OFFSET, "layout");

#define EXPORTED __attribute__((visibility("default"), noinline, used))

static volatile long calls_mul, calls_inputs;
static bool throwing;

extern "C" EXPORTED void ggml_compute_forward_mul(const ggml_compute_params *params,
						  ggml_tensor *dst)
{
	calls_mul = calls_mul + 1;
	if (throwing && params->ith == 0)
		throw std::runtime_error(dst->name);
}

struct llm_graph_result {
	EXPORTED void set_inputs(const llama_ubatch *ubatch);
};
void llm_graph_result::set_inputs(const llama_ubatch *ubatch)
{
	calls_inputs = calls_inputs + (ubatch != nullptr);
	if (throwing)
		throw std::runtime_error("inputs");
}

struct llm_graph_input_pos {
	EXPORTED void set_input(const llama_ubatch *ubatch);
	const void *seen;
};
void llm_graph_input_pos::set_input(const llama_ubatch *ubatch)
{
	seen = ubatch->pos;
}

struct common_log;
enum ggml_log_level { GGML_LOG_LEVEL_INFO = 2 };
EXPORTED void common_log_add(common_log *, ggml_log_level, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	if (getenv("FAKE_LLAMA_LOG"))
		vfprintf(stderr, format, ap);
	va_end(ap);
}

static const int K = 4, EXPERTS = 16, LAYERS = 3, ROWS = 5;

/* One step's tensors, rebuilt for each call so that a scenario can spoil any field. */
struct step {
	int32_t ids[ROWS][EXPERTS];
	float weights[ROWS][K];
	int32_t token[ROWS], pos[ROWS], n_seq_id[ROWS], seq[ROWS];
	int32_t *seq_id[ROWS];
	int8_t output[ROWS];
	ggml_tensor ids_tensor, weights_tensor, experts_tensor, dst;
	llama_ubatch ubatch;
};

static void fill(step *s, int number, int layer)
{
	memset(s, 0, sizeof(*s));
	for (int r = 0; r < ROWS; r++) {
		for (int e = 0; e < EXPERTS; e++)
			s->ids[r][e] = (e * 5 + r + layer + number) % EXPERTS;
		for (int j = 0; j < K; j++)
			s->weights[r][j] = 0.4f - 0.1f * j;
		s->token[r] = 97 + r;
		s->pos[r] = number * ROWS + r;
		s->n_seq_id[r] = 1;
		s->seq_id[r] = &s->seq[r];
		s->output[r] = r == ROWS - 1;
	}
	int rows = layer == LAYERS - 1 ? 1 : ROWS;
	s->ids_tensor.type = 26;
	s->ids_tensor.ne[0] = K;
	s->ids_tensor.ne[1] = rows;
	s->ids_tensor.ne[2] = s->ids_tensor.ne[3] = 1;
	s->ids_tensor.nb[0] = 4;
	s->ids_tensor.nb[1] = EXPERTS * 4;
	s->ids_tensor.data = s->ids;
	snprintf(s->ids_tensor.name, sizeof(s->ids_tensor.name), "ffn_moe_topk-%d", layer);
	s->weights_tensor.type = 0;
	s->weights_tensor.ne[0] = 1;
	s->weights_tensor.ne[1] = K;
	s->weights_tensor.ne[2] = rows;
	s->weights_tensor.ne[3] = 1;
	s->weights_tensor.nb[0] = s->weights_tensor.nb[1] = 4;
	s->weights_tensor.nb[2] = s->weights_tensor.nb[3] = K * 4;
	s->weights_tensor.data = s->weights;
	s->experts_tensor.src[2] = &s->ids_tensor;
	s->dst.src[0] = &s->experts_tensor;
	s->dst.src[1] = &s->weights_tensor;
	snprintf(s->dst.name, sizeof(s->dst.name), "ffn_moe_weighted-%d", layer);
	s->ubatch.n_tokens = ROWS;
	s->ubatch.n_pos = 1;
	s->ubatch.token = s->token;
	s->ubatch.pos = s->pos;
	s->ubatch.n_seq_id = s->n_seq_id;
	s->ubatch.seq_id = s->seq_id;
	s->ubatch.output = s->output;
}

static void *const nowhere = reinterpret_cast<void *>(0x123456789000);

/* What each scenario does to an otherwise good step. */
static const struct scenario {
	const char *name;
	void (*spoil)(step *s);
} scenarios[] = {
	{ "good", [](step *) {} },
	{ "throw", [](step *) {} },
	{ "exec", [](step *) {} },
	{ "k-zero", [](step *s) { s->ids_tensor.ne[0] = 0; } },
	{ "k-huge", [](step *s) { s->ids_tensor.ne[0] = 1000000000; } },
	{ "rows-huge", [](step *s) { s->ids_tensor.ne[1] = int64_t(1) << 40; } },
	{ "rows-negative", [](step *s) { s->ids_tensor.ne[1] = -1; } },
	{ "stride-huge", [](step *s) { s->ids_tensor.nb[1] = SIZE_MAX; } },
	{ "data-unmapped", [](step *s) { s->ids_tensor.data = nowhere; } },
	{ "weights-unmapped", [](step *s) { s->weights_tensor.data = nullptr; } },
	{ "tensor-unmapped",
	  [](step *s) { s->experts_tensor.src[2] = static_cast<ggml_tensor *>(nowhere); } },
	{ "name-unterminated",
	  [](step *s) { memset(s->ids_tensor.name + 13, '9', sizeof(s->ids_tensor.name) - 13); } },
	{ "layer-huge",
	  [](step *s) { strcpy(s->ids_tensor.name, "ffn_moe_topk-4294967297"); } },
	{ "expert-out-of-range", [](step *s) { s->ids[0][0] = EXPERTS; } },
	{ "expert-negative", [](step *s) { s->ids[0][1] = -1; } },
	{ "expert-repeated", [](step *s) { s->ids[0][1] = s->ids[0][0]; } },
	{ "weight-nan", [](step *s) { s->weights[0][0] = __builtin_nanf(""); } },
	{ "weight-infinite", [](step *s) { s->weights[0][0] = __builtin_inff(); } },
	{ "type-wrong", [](step *s) { s->ids_tensor.type = 0; } },
	{ "position-negative", [](step *s) { s->pos[0] = -7; } },
	{ "sequence-huge", [](step *s) { s->seq[0] = 1 << 30; } },
	{ "output-absurd", [](step *s) { memset(s->output, -1, sizeof(s->output)); } },
	{ "tokens-huge", [](step *s) { s->ubatch.n_tokens = UINT32_MAX; } },
	{ "ubatch-unmapped", [](step *s) { s->ubatch.pos = static_cast<int32_t *>(nowhere); } },
};

static void run_step(const scenario *what, int number)
{
	static const int threads = 2;
	static llm_graph_result graph;
	static step s;

	fill(&s, number, 0);
	what->spoil(&s);
	try {
		graph.set_inputs(&s.ubatch);
	} catch (const std::exception &) {
	}
	for (int layer = 0; layer < LAYERS; layer++) {
		fill(&s, number, layer);
		what->spoil(&s);
		for (int ith = threads - 1; ith >= 0; ith--) {
			ggml_compute_params params = { ith, threads };
			try {
				ggml_compute_forward_mul(&params, &s.dst);
			} catch (const std::exception &) {
			}
		}
	}
}

int main(int argc, char **argv)
{
	const scenario *what = nullptr;
	const int steps = argc > 2 ? atoi(argv[2]) : 7;
	llm_graph_input_pos pos = {};
	step first;
	char line[16];

	for (const scenario &candidate : scenarios)
		if (argc > 1 && !strcmp(candidate.name, argv[1]))
			what = &candidate;
	if (!what) {
		fprintf(stderr, "usage: fake_llama SCENARIO [STEPS]; scenarios:\n");
		for (const scenario &candidate : scenarios)
			fprintf(stderr, "  %s\n", candidate.name);
		return 2;
	}
	fill(&first, 0, 0);
	pos.set_input(&first.ubatch);
	throwing = !strcmp(what->name, "throw");
	printf("ready %d\n", getpid());
	fflush(stdout);
	if (!fgets(line, sizeof(line), stdin))
		return 0;
	common_log_add(nullptr, GGML_LOG_LEVEL_INFO,
		       "slot %12.*s: id %2d | task %d | processing task, is_child = %d\n", 12,
		       "launch_slot_with_task", 0, 41, 0);
	for (int i = 0; i < steps; i++)
		run_step(what, i);
	if (!strcmp(what->name, "exec"))
		execlp("sleep", "sleep", "3", static_cast<char *>(nullptr));
	common_log_add(nullptr, GGML_LOG_LEVEL_INFO,
		       "slot %12.*s: id %2d | task %d | stop processing: n_tokens = %d, truncated = %d\n",
		       12, "release", 0, 41, steps * ROWS + 1, 0);
	printf("done %ld %ld\n", long(calls_mul), long(calls_inputs));
	fflush(stdout);
	return fgets(line, sizeof(line), stdin) ? 0 : 0;
}
