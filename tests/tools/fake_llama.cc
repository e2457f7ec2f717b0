/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A process that looks like a llama.cpp server from outside, for what no real server does on
 * demand: impossible values in its memory, exceptions through probed frames, an unknown
 * layout, becoming another program. Never used to show exactness; real servers do that.
 *
 *   fake_llama SCENARIO STEPS [PAUSE_US]
 *   fake_llama each [SCENARIO]
 *
 * prints "ready PID", waits for a line, runs, prints "done MUL SET_INPUTS", waits for a line,
 * exits 0. Every step is a request of its own: queued, launched in slot 0, ROWS rows behind the
 * prefix that the slot has cached, LAYERS layers, released. SCENARIO spoils every step; "each"
 * spoils one step with every scenario (or with that one), a good step before and after it.
 * Without arguments it lists the scenarios, in the order of "each".
 */
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <unistd.h>
#include <vector>

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
#ifdef MOVED /* a field that no release has: what lies behind it is not where it is looked for */
	int32_t *moved;
#endif
	int32_t *n_seq_id;
	int32_t **seq_id;
	void *seq_id_unq, *seq_idx;
	int8_t *output;
};
static_assert(offsetof(llama_ubatch, pos) == POS_OFFSET, "layout");

/* What is queued. Only its first field has a place that is known; the others are found. */
struct server_task {
	int32_t id;
	char pad0[36];
	const char *client_id;
	char pad1[16];
	const int32_t *prompt_begin, *prompt_end, *prompt_capacity;
	char rest[168];
};
static_assert(sizeof(server_task) == 256, "layout");

/* std::vector's own layout, open for what it would not do. */
struct task_vector {
	server_task *begin, *end, *capacity;
};
static_assert(sizeof(task_vector) == sizeof(std::vector<server_task>), "std::vector");

/* --- the functions that are probed ------------------------------------------------------------ */

#define EXPORTED __attribute__((visibility("default"), noinline, used))

static volatile long calls_mul, calls_inputs, calls_other;
static bool throwing;

extern "C" EXPORTED void ggml_compute_forward_mul(const ggml_compute_params *params,
						  ggml_tensor *dst)
{
	calls_mul = calls_mul + 1;
	if (throwing)
		throw std::runtime_error(params->ith ? "a helper" : dst->name);
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

/* Never probed: its code says where the positions are. */
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
	if (throwing)
		throw std::runtime_error("log");
}

struct server_queue {
	EXPORTED void post(std::vector<server_task> &&tasks, bool front);
};
void server_queue::post(std::vector<server_task> &&tasks, bool front)
{
	calls_other = calls_other + (front || tasks.begin() != tasks.end());
	if (throwing)
		throw std::runtime_error("queue");
}

/* --- one step --------------------------------------------------------------------------------- */

static const int K = 4, EXPERTS = 16, LAYERS = 3, ROWS = 5, SLOT = 0, FIRST_TASK = 41;
static const int PROMPT_MAX = 32768, TASKS_MANY = 20;

/* Everything that a step shows, rebuilt for each layer so that a scenario can spoil any field. */
struct step {
	int32_t ids[ROWS][EXPERTS];
	float weights[ROWS][K];
	int32_t token[ROWS], pos[ROWS], n_seq_id[ROWS], seq[ROWS];
	int32_t *seq_id[ROWS];
	int8_t output[ROWS];
	ggml_tensor ids_tensor, weights_tensor, experts_tensor, dst;
	llama_ubatch ubatch;
	server_task tasks[TASKS_MANY];
	task_vector queued;
	char client_id[32];
	const char *launch_format, *launch_function;
	int launch_slot, task;
	bool logs;
};

/* Token of each position: the prompt of every request, as far as it goes. */
alignas(16) static int32_t prompt[PROMPT_MAX], wrong_prompt[PROMPT_MAX];

static void fill_router(step *s, int number, int layer)
{
	int rows = layer == LAYERS - 1 ? 1 : ROWS;

	for (int r = 0; r < ROWS; r++) {
		for (int e = 0; e < EXPERTS; e++)
			s->ids[r][e] = (e * 5 + r + layer + number) % EXPERTS;
		for (int j = 0; j < K; j++)
			s->weights[r][j] = 0.4f - 0.1f * j;
	}
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
}

static void fill_rows(step *s, int number)
{
	for (int r = 0; r < ROWS; r++) {
		s->pos[r] = number * ROWS + r;
		s->token[r] = 97 + r;
		s->n_seq_id[r] = 1;
		s->seq[r] = SLOT;
		s->seq_id[r] = &s->seq[r];
		s->output[r] = r == ROWS - 1;
	}
	s->ubatch.n_tokens = ROWS;
	s->ubatch.n_pos = 1;
	s->ubatch.token = s->token;
	s->ubatch.pos = s->pos;
#ifdef MOVED
	s->ubatch.moved = s->n_seq_id;
#endif
	s->ubatch.n_seq_id = s->n_seq_id;
	s->ubatch.seq_id = s->seq_id;
	s->ubatch.output = s->output;
}

static void fill_request(step *s, int number)
{
	int tokens = (number + 1) * ROWS < PROMPT_MAX ? (number + 1) * ROWS : PROMPT_MAX;

	s->task = FIRST_TASK + number;
	snprintf(s->client_id, sizeof(s->client_id), "chatcmpl-%d", s->task);
	s->tasks[0].id = s->task;
	s->tasks[0].client_id = s->client_id;
	s->tasks[0].prompt_begin = prompt;
	s->tasks[0].prompt_end = s->tasks[0].prompt_capacity = prompt + tokens;
	s->queued = { s->tasks, s->tasks + 1, s->tasks + 1 };
	s->launch_format = "slot %12.*s: id %2d | task %d | processing task, is_child = %d\n";
	s->launch_function = "launch_slot_with_task";
	s->launch_slot = SLOT;
	s->logs = true;
}

static void fill(step *s, int number, int layer)
{
	memset(s, 0, sizeof(*s));
	fill_router(s, number, layer);
	fill_rows(s, number);
	fill_request(s, number);
}

/* --- scenarios -------------------------------------------------------------------------------- */

template <typename T> static T *nowhere()
{
	return reinterpret_cast<T *>(0x123456789000);
}

/* What each scenario does to an otherwise good step. */
static const struct scenario {
	const char *name;
	void (*spoil)(step *s);
} scenarios[] = {
	{ "good", [](step *) {} },
	{ "throw", [](step *) {} },
	{ "exec", [](step *) {} },
	{ "silent", [](step *s) { s->logs = false; } },
	/* The router's tensors. */
	{ "k-zero", [](step *s) { s->ids_tensor.ne[0] = 0; } },
	{ "k-huge", [](step *s) { s->ids_tensor.ne[0] = 1000000000; } },
	{ "k-other", [](step *s) { s->ids_tensor.ne[0] = s->weights_tensor.ne[1] = K - 1; } },
	{ "rows-huge", [](step *s) { s->ids_tensor.ne[1] = int64_t(1) << 40; } },
	{ "rows-negative", [](step *s) { s->ids_tensor.ne[1] = -1; } },
	{ "rows-other", [](step *s) { s->ids_tensor.ne[1] = s->weights_tensor.ne[2] = 3; } },
	{ "experts-other", [](step *s) { s->ids_tensor.nb[1] = 8 * EXPERTS; } },
	{ "stride-huge", [](step *s) { s->ids_tensor.nb[1] = SIZE_MAX; } },
	{ "data-unmapped", [](step *s) { s->ids_tensor.data = nowhere<void>(); } },
	{ "weights-unmapped", [](step *s) { s->weights_tensor.data = nullptr; } },
	{ "tensor-unmapped",
	  [](step *s) { s->experts_tensor.src[2] = nowhere<ggml_tensor>(); } },
	{ "tensor-kernel",
	  [](step *s) { s->dst.src[1] = reinterpret_cast<ggml_tensor *>(0xffff888000000000); } },
	{ "name-unterminated",
	  [](step *s) { memset(s->ids_tensor.name + 13, '9', sizeof(s->ids_tensor.name) - 13); } },
	{ "layer-huge", [](step *s) { strcpy(s->ids_tensor.name, "ffn_moe_topk-4294967297"); } },
	{ "layer-negative", [](step *s) { strcpy(s->ids_tensor.name, "ffn_moe_topk--1"); } },
	{ "expert-out-of-range", [](step *s) { s->ids[0][0] = EXPERTS; } },
	{ "expert-negative", [](step *s) { s->ids[0][1] = -1; } },
	{ "expert-repeated", [](step *s) { s->ids[0][1] = s->ids[0][0]; } },
	{ "weight-nan", [](step *s) { s->weights[0][0] = __builtin_nanf(""); } },
	{ "weight-infinite", [](step *s) { s->weights[0][0] = __builtin_inff(); } },
	{ "type-wrong", [](step *s) { s->ids_tensor.type = 0; } },
	/* The rows. */
	{ "position-negative", [](step *s) { s->pos[0] = -7; } },
	{ "position-huge", [](step *s) { s->pos[ROWS - 1] = INT32_MAX; } },
	{ "sequence-huge", [](step *s) { s->seq[0] = 1 << 30; } },
	{ "sequence-negative", [](step *s) { s->seq[1] = -1; } },
	{ "sequence-none", [](step *s) { s->n_seq_id[2] = 0; } },
	{ "sequence-unmapped", [](step *s) { s->seq_id[2] = nowhere<int32_t>(); } },
	{ "token-negative", [](step *s) { s->token[0] = INT32_MIN; } },
	{ "token-unmapped", [](step *s) { s->ubatch.token = nowhere<int32_t>(); } },
	{ "output-absurd", [](step *s) { memset(s->output, -1, sizeof(s->output)); } },
	{ "tokens-zero", [](step *s) { s->ubatch.n_tokens = 0; } },
	{ "tokens-huge", [](step *s) { s->ubatch.n_tokens = UINT32_MAX; } },
	{ "ubatch-unmapped", [](step *s) { s->ubatch.pos = nowhere<int32_t>(); } },
	/* The log lines. */
	{ "slot-negative", [](step *s) { s->launch_slot = -5; } },
	{ "slot-huge", [](step *s) { s->launch_slot = INT32_MAX; } },
	{ "line-unmapped", [](step *s) { s->launch_format = nowhere<char>(); } },
	{ "function-unmapped", [](step *s) { s->launch_function = nowhere<char>(); } },
	/* The queue. */
	{ "tasks-unmapped",
	  [](step *s) { s->queued.begin = nowhere<server_task>(); s->queued.end = s->queued.begin + 1; } },
	{ "tasks-reversed", [](step *s) { s->queued.end = s->queued.begin - 1; } },
	{ "tasks-huge", [](step *s) { s->queued.end = s->queued.begin + (int64_t(1) << 40); } },
	{ "tasks-many", [](step *s) { s->queued.end = s->queued.begin + TASKS_MANY; } },
	{ "task-negative", [](step *s) { s->tasks[0].id = -3; } },
	{ "prompt-unmapped",
	  [](step *s) { s->tasks[0].prompt_begin = nowhere<int32_t>();
			s->tasks[0].prompt_end = s->tasks[0].prompt_begin + 5; } },
	{ "prompt-reversed",
	  [](step *s) { s->tasks[0].prompt_end = s->tasks[0].prompt_begin - 5; } },
	{ "prompt-wrong",
	  [](step *s) { s->tasks[0].prompt_end += wrong_prompt - s->tasks[0].prompt_begin;
			s->tasks[0].prompt_begin = wrong_prompt; } },
	{ "client-unmapped", [](step *s) { s->tasks[0].client_id = nowhere<char>(); } },
};
static const int SCENARIOS = sizeof(scenarios) / sizeof(*scenarios), HARMLESS = 4;

/* --- running ---------------------------------------------------------------------------------- */

/* Call @f, whatever it throws. */
template <typename F> static void call(F f)
{
	try {
		f();
	} catch (const std::exception &) {
	}
}

static void run_layers(step *s, const scenario *what, int number)
{
	static const int threads = 2;

	for (int layer = 0; layer < LAYERS; layer++) {
		fill(s, number, layer);
		what->spoil(s);
		for (int ith = threads - 1; ith >= 0; ith--) {
			ggml_compute_params params = { ith, threads };

			call([&] { ggml_compute_forward_mul(&params, &s->dst); });
		}
	}
}

static void run_step(const scenario *what, int number)
{
	static llm_graph_result graph;
	static server_queue queue;
	static step s;

	fill(&s, number, 0);
	what->spoil(&s);
	void *queued = &s.queued;
	call([&] { queue.post(std::move(*static_cast<std::vector<server_task> *>(queued)), false); });
	if (s.logs)
		call([&] { common_log_add(nullptr, GGML_LOG_LEVEL_INFO, s.launch_format, 12,
					  s.launch_function, s.launch_slot, s.task, 0); });
	call([&] { graph.set_inputs(&s.ubatch); });
	run_layers(&s, what, number);
	if (s.logs)
		call([&] { common_log_add(nullptr, GGML_LOG_LEVEL_INFO,
					  "slot %12.*s: id %2d | task %d | stop processing: "
					  "n_tokens = %d, truncated = %d\n",
					  12, "release", SLOT, s.task, (number + 1) * ROWS, 0); });
}

static void run_each(const scenario *only)
{
	int number = 0;

	for (int i = HARMLESS; i < SCENARIOS; i++) {
		if (only && only != &scenarios[i])
			continue;
		run_step(&scenarios[0], number++);
		if (number == 1)
			usleep(300000); /* by then the queue's layout has been learnt */
		run_step(&scenarios[i], number++);
	}
	run_step(&scenarios[0], number);
}

static const scenario *find(const char *name)
{
	for (const scenario &candidate : scenarios)
		if (name && !strcmp(candidate.name, name))
			return &candidate;
	return nullptr;
}

static void run(const char *name, const scenario *what, int steps, int pause_us)
{
	throwing = !strcmp(name, "throw");
	for (int i = 0; i < steps; i++) {
		run_step(what, i);
		if (pause_us)
			usleep(pause_us);
	}
	throwing = false;
	if (!strcmp(name, "exec"))
		execlp("sleep", "sleep", "3", static_cast<char *>(nullptr));
}

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : nullptr;
	const scenario *what = find(name);
	llm_graph_input_pos pos = {};
	static step first;
	char line[16];

	if (!what && (!name || strcmp(name, "each"))) {
		fprintf(stderr, "usage: fake_llama SCENARIO STEPS [PAUSE_US]; scenarios:\n");
		for (const scenario &candidate : scenarios)
			fprintf(stderr, "  %s\n", candidate.name);
		return 2;
	}
	for (int i = 0; i < PROMPT_MAX; i++) {
		prompt[i] = 97 + i % ROWS;
		wrong_prompt[i] = 7;
	}
	fill(&first, 0, 0);
	pos.set_input(&first.ubatch);
	printf("ready %d\n", getpid());
	fflush(stdout);
	if (!fgets(line, sizeof(line), stdin))
		return 0;
	if (what)
		run(name, what, argc > 2 ? atoi(argv[2]) : 7, argc > 3 ? atoi(argv[3]) : 0);
	else
		run_each(find(argc > 2 ? argv[2] : nullptr));
	printf("done %ld %ld\n", long(calls_mul), long(calls_inputs));
	fflush(stdout);
	return fgets(line, sizeof(line), stdin) ? 0 : 0;
}
