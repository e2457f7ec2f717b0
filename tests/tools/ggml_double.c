/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A process that plays a ggml server: functions of the same shapes as those that moeprobe
 * probes, called a known number of times with known contents. Commands come from standard
 * input, one a line; each is answered by one line, "ok" or "unknown".
 *
 *   route SEED K ROWS EXPERTS WEIGHT_STRIDE THREADS   one operator call on THREADS threads
 *   flood SEED CALLS K ROWS THREADS                   CALLS calls on each of THREADS threads
 *   bad NAME                                          one call with absurd values
 *   rows SEED ROWS FLAGS                              one batch
 *   step SEED ROWS K LAYERS                           one batch, then LAYERS operator calls
 *   badrows NAME                                      one batch with absurd values
 *   line SLOT TASK FIRST FORMAT                       one log call
 *   tasks SEED COUNT TOKENS                           one call that queues COUNT tasks
 *   badtasks NAME                                     one such call with absurd values
 *   empty CALLS                                       calls of a function that does nothing
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/tools/ggml_double.h"

#define PROBED __attribute__((noipa, used, visibility("default")))
/* First instruction of a probed function: a push, which the kernel emulates. */
#if defined(__x86_64__)
#define ENTRY() asm volatile("push %%rbp\n\tpop %%rbp" ::: "memory")
#else
#define ENTRY() asm volatile("nop" ::: "memory")
#endif
#define GARBAGE ((void *)0x123456789000ull) /* a user address where nothing is mapped */

void double_mul(struct double_params *params, struct double_tensor *dst);
void double_set_inputs(void *self, struct double_batch *batch);
void double_log(void *log, int level, const char *format, int width, const char *function, int slot,
		int task, ...);
void double_post(void *self, struct double_vector *tasks, bool front);
void double_nothing(void *self);

PROBED void double_mul(struct double_params *params, struct double_tensor *dst)
{
	ENTRY();
}

PROBED void double_set_inputs(void *self, struct double_batch *batch)
{
	ENTRY();
}

PROBED void double_log(void *log, int level, const char *format, int width, const char *function,
		       int slot, int task, ...)
{
	ENTRY();
}

PROBED void double_post(void *self, struct double_vector *tasks, bool front)
{
	ENTRY();
}

PROBED void double_nothing(void *self)
{
	ENTRY();
}

/* --- routes ----------------------------------------------------------------------------------- */

/* The three tensors and the operator's result, as a router's graph links them. */
struct graph {
	struct double_tensor dst, experts, ids, weights;
};

static void graph__init(struct graph *g, uint32_t seed, int64_t k, int64_t rows, uint64_t experts,
			uint64_t stride)
{
	memset(g, 0, sizeof(*g));
	g->dst.src[0] = &g->experts;
	g->dst.src[1] = &g->weights;
	g->experts.src[2] = &g->ids;
	g->ids = (struct double_tensor){
		.type = DOUBLE_TYPE_IDS,
		.ne = { k, rows, 1, 1 },
		.nb = { 4, 4 * experts, 4 * experts * rows, 4 * experts * rows },
	};
	snprintf(g->ids.name, sizeof(g->ids.name), "ffn_moe_topk-%u", seed);
	g->weights = (struct double_tensor){
		.type = DOUBLE_TYPE_WEIGHTS,
		.ne = { 1, k, rows, 1 },
		.nb = { 4, 4, 4 * stride, 4 * stride * rows },
	};
}

static void tensor__copy_fields(struct double_tensor *t)
{
	t->like_ggml.type = t->type;
	memcpy(t->like_ggml.ne, t->ne, sizeof(t->ne));
	memcpy(t->like_ggml.nb, t->nb, sizeof(t->nb));
	t->like_ggml.data = t->data;
	memcpy(t->like_ggml.name, t->name, sizeof(t->name));
}

static void graph__fill(struct graph *g, uint32_t seed, uint32_t k, uint32_t rows, uint32_t experts,
			uint32_t stride)
{
	uint32_t *ids = malloc((size_t)rows * experts * 4);
	uint32_t *weights = malloc((size_t)rows * stride * 4);

	if (!ids || !weights)
		abort();
	memset(ids, 0xee, (size_t)rows * experts * 4);
	memset(weights, 0xee, (size_t)rows * stride * 4);
	for (uint32_t row = 0; row < rows; row++) {
		for (uint32_t i = 0; i < k; i++) {
			ids[(size_t)row * experts + i] = double_value(seed, row, i);
			weights[(size_t)row * stride + i] = double_value(seed + 1, row, i);
		}
	}
	g->ids.data = ids;
	g->weights.data = weights;
	tensor__copy_fields(&g->ids);
	tensor__copy_fields(&g->weights);
}

static void graph__free(struct graph *g)
{
	free(g->ids.data);
	free(g->weights.data);
}

/* One thread of one operator call, or of a flood of calls. */
struct worker {
	pthread_t thread;
	int ith;
	struct graph *graph; /* of one call; NULL: flood */
	uint32_t seed, calls, k, rows;
};

static void call_mul(struct graph *g, int ith)
{
	struct double_params p = { .ith = ith, .nth = 1 };

	p.ith_at = &p.ith;
	double_mul(&p, &g->dst);
}

static void *work(void *arg)
{
	struct worker *w = arg;
	struct graph g;

	if (w->graph) {
		call_mul(w->graph, w->ith);
		return NULL;
	}
	for (uint32_t i = 0; i < w->calls; i++) {
		graph__init(&g, w->seed + i, w->k, w->rows, w->k + 3, w->k);
		graph__fill(&g, w->seed + i, w->k, w->rows, w->k + 3, w->k);
		call_mul(&g, 0);
		graph__free(&g);
	}
	return NULL;
}

#define WORKERS_MAX 16
static void run_workers(struct worker *workers, int count)
{
	for (int i = 0; i < count; i++)
		if (pthread_create(&workers[i].thread, NULL, work, &workers[i]))
			abort();
	for (int i = 0; i < count; i++)
		pthread_join(workers[i].thread, NULL);
}

static void do_route(const char *arguments)
{
	struct worker workers[WORKERS_MAX] = {};
	unsigned seed, k, rows, experts, stride;
	int threads;
	struct graph g;

	if (sscanf(arguments, "%u %u %u %u %u %d", &seed, &k, &rows, &experts, &stride, &threads) !=
		    6 ||
	    threads > WORKERS_MAX)
		return;
	graph__init(&g, seed, k, rows, experts, stride);
	graph__fill(&g, seed, k, rows, experts, stride);
	for (int i = 0; i < threads; i++)
		workers[i] = (struct worker){ .ith = i, .graph = &g };
	run_workers(workers, threads);
	graph__free(&g);
}

static void do_flood(const char *arguments)
{
	struct worker workers[WORKERS_MAX] = {};
	unsigned seed, calls, k, rows;
	int threads;

	if (sscanf(arguments, "%u %u %u %u %d", &seed, &calls, &k, &rows, &threads) != 5 ||
	    threads > WORKERS_MAX)
		return;
	for (int i = 0; i < threads; i++)
		workers[i] = (struct worker){
			.seed = seed + i * 1000000u, .calls = calls, .k = k, .rows = rows
		};
	run_workers(workers, threads);
}

/* The last page of the answer is not mapped; the @bytes before it are. */
static void *before_a_hole(size_t bytes)
{
	size_t page = sysconf(_SC_PAGESIZE), size = (bytes + page - 1) / page * page;
	char *at =
		mmap(NULL, size + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED || munmap(at + size, page))
		abort();
	memset(at, 0, size);
	return at + size - bytes;
}

static void do_bad(const char *name)
{
	struct double_params p = { .ith = 0, .nth = 1 };
	struct graph g, held;

	graph__init(&g, 1, 8, 4, 16, 8);
	graph__fill(&g, 1, 8, 4, 16, 8);
	held = g;
/* Change something if the command names this case. */
#define BAD(text, change) \
	do { \
		if (!strcmp(name, text)) { \
			change; \
		} \
	} while (0)
	BAD("k-zero", g.ids.ne[0] = g.weights.ne[1] = 0);
	BAD("k-huge", g.ids.ne[0] = g.weights.ne[1] = 1000000000);
	BAD("k-negative", g.ids.ne[0] = g.weights.ne[1] = -1);
	BAD("rows-zero", g.ids.ne[1] = g.weights.ne[2] = 0);
	BAD("rows-negative", g.ids.ne[1] = g.weights.ne[2] = -4);
	BAD("rows-huge", g.ids.ne[1] = g.weights.ne[2] = INT64_MAX);
	BAD("rows-differ", g.weights.ne[2] = 3);
	BAD("third-dimension", g.ids.ne[2] = 2);
	BAD("type", g.ids.type = DOUBLE_TYPE_WEIGHTS);
	BAD("weights-type", g.weights.type = DOUBLE_TYPE_IDS);
	BAD("stride-small", g.ids.nb[1] = 28);
	BAD("stride-huge", g.ids.nb[1] = 1ull << 60);
	BAD("stride-odd", g.weights.nb[2] = 33);
	BAD("no-source", g.dst.src[0] = NULL);
	BAD("no-ids", g.experts.src[2] = NULL);
	BAD("other-name", strcpy(g.ids.name, "ffn_moe_top"));
	BAD("no-weights", g.dst.src[1] = NULL);
	BAD("garbage-source", g.dst.src[0] = GARBAGE);
	BAD("garbage-ids", g.experts.src[2] = GARBAGE);
	BAD("garbage-weights", g.dst.src[1] = GARBAGE);
	BAD("kernel-ids", g.experts.src[2] = (void *)0xffffffff81000000ull);
	BAD("data-null", g.ids.data = NULL);
	BAD("data-hole", g.ids.data = before_a_hole(3 * 64 + 16));
	BAD("weights-hole", g.weights.data = before_a_hole(4 * 32 - 4));
	BAD("name-unterminated", memset(g.ids.name + 13, 'x', sizeof(g.ids.name) - 13));
	BAD("name-hole", g.experts.src[2] = before_a_hole(40));
	if (!strcmp(name, "second-chunk-hole")) {
		graph__init(&g, 1, 8, 2048, 8, 8);
		g.ids.data = before_a_hole(300 * 32);
		g.weights.data = before_a_hole(2048 * 32);
	}
	tensor__copy_fields(&g.ids);
	tensor__copy_fields(&g.weights);
	double_mul(strcmp(name, "params-null") ? &p : NULL, &g.dst);
	graph__free(&held);
}

/* --- rows ------------------------------------------------------------------------------------- */

static void fill_batch(struct double_batch *b, uint32_t seed, uint32_t rows, unsigned flags)
{
	/* Every second int, unless together: neighbours then never look like one array. */
	int32_t *lists = calloc(2 * rows + 1, 4);

	*b = (struct double_batch){ .count = rows };
	b->token = calloc(rows, 4);
	b->position = calloc(rows, 4);
	b->sequences = calloc(rows, 4);
	b->sequence = calloc(rows, sizeof(*b->sequence));
	b->output = calloc(rows, 1);
	if (!lists || !b->token || !b->position || !b->sequences || !b->sequence || !b->output)
		abort();
	for (uint32_t i = 0; i < rows; i++) {
		bool ends = i == 0 || i == rows - 1;
		bool together = flags & DOUBLE_ROWS_TOGETHER || (flags & DOUBLE_ROWS_LIAR && ends);

		b->token[i] = double_value(seed, i, 0);
		b->position[i] = double_value(seed, i, 1);
		b->sequences[i] = double_sequences(i, flags);
		b->output[i] = double_value(seed, i, 3) & 1;
		b->sequence[i] = together ? &lists[i] : &lists[rows + i];
		if (b->sequences[i] < 1)
			b->sequence[i] = NULL;
		else
			*b->sequence[i] = double_value(seed, i, 2);
	}
	if (flags & DOUBLE_ROWS_UNMAPPED)
		b->sequence[rows - 1] = GARBAGE;
	if (flags & DOUBLE_ROWS_NO_TOKENS)
		b->token = NULL;
}

static void do_rows(const char *arguments)
{
	unsigned seed, rows, flags;
	struct double_batch b;

	if (sscanf(arguments, "%u %u %u", &seed, &rows, &flags) != 3)
		return;
	fill_batch(&b, seed, rows, flags);
	double_set_inputs(&b.before, &b); /* what it holds is leaked: the process is short */
}

static void do_step(const char *arguments)
{
	unsigned seed, rows, k, layers;
	struct double_batch b;
	struct graph g;

	if (sscanf(arguments, "%u %u %u %u", &seed, &rows, &k, &layers) != 4)
		return;
	fill_batch(&b, seed, rows, 0);
	double_set_inputs(&b, &b);
	for (unsigned layer = 0; layer < layers; layer++) {
		graph__init(&g, layer, k, rows, k, k);
		graph__fill(&g, layer, k, rows, k, k);
		call_mul(&g, 0);
		graph__free(&g);
	}
}

static void do_badrows(const char *name)
{
	struct double_batch b;

	fill_batch(&b, 1, 20, 0);
	BAD("none", b.count = 0);
	BAD("huge", b.count = 16385);
	BAD("negative", b.count = -1);
	BAD("token-garbage", b.token = GARBAGE);
	BAD("position-null", b.position = NULL);
	BAD("counts-null", b.sequences = NULL);
	BAD("lists-hole", b.sequence = before_a_hole(10 * 8));
	BAD("list-null", b.sequence[11] = NULL);
	BAD("output-hole", b.output = before_a_hole(19));
	double_set_inputs(&b, strcmp(name, "batch-null") ? &b : NULL);
}

/* --- lines and tasks -------------------------------------------------------------------------- */

static void do_line(const char *arguments)
{
	int slot, task, at;
	long first;

	if (sscanf(arguments, "%d %d %ld %n", &slot, &task, &first, &at) != 3)
		return;
	double_log(NULL, 2, arguments + at, 12, "launch_slot_with_task_and_more_than_32", slot,
		   task, first, first + 1, first + 2, first + 3);
}

static struct double_vector tokens__new(uint32_t seed, uint32_t count, uint32_t vocabulary)
{
	int32_t *at = calloc(count + 4, 4);

	if (!at)
		abort();
	for (uint32_t i = 0; i < count; i++)
		at[i] = double_value(seed, i, 9) % vocabulary;
	return (struct double_vector){ at, at + count, at + count + 4 };
}

static void task__fill(struct double_task *t, uint32_t seed, uint32_t tokens)
{
	memset(t, 0, sizeof(*t));
	t->id = double_value(seed, 0, 7);
	t->kind = 3;
	t->decoy_text = strdup("chatless-1");
	if (asprintf(&t->client_id, DOUBLE_PREFIX "%u", seed) < 0)
		abort();
	t->length = strlen(t->client_id);
	t->decoy = tokens__new(seed + 2, 30, 1 << 30);
	((int32_t *)t->decoy.begin)[13] = DOUBLE_VOCABULARY;
	t->tokens = tokens__new(seed, tokens, DOUBLE_VOCABULARY);
	t->other = tokens__new(seed + 1, DOUBLE_OTHER_TOKENS, DOUBLE_VOCABULARY);
}

static void do_tasks(const char *arguments)
{
	unsigned seed, count, tokens;
	struct double_task *tasks;

	if (sscanf(arguments, "%u %u %u", &seed, &count, &tokens) != 3)
		return;
	tasks = calloc(count + 1, sizeof(*tasks));
	for (unsigned i = 0; i < count; i++)
		task__fill(&tasks[i], seed + 10 * i, tokens + i);
	double_post(tasks, &(struct double_vector){ tasks, tasks + count, tasks + count }, false);
}

static void do_badtasks(const char *name)
{
	struct double_task *t = malloc(sizeof(*t));
	struct double_vector v = { t, t + 1, t + 1 };

	task__fill(t, 1, 5);
	BAD("backwards", v.end = (void *)((uintptr_t)t - 1));
	BAD("huge", v.end = (void *)((uintptr_t)t + (1ull << 40)));
	BAD("part", v.end = (char *)v.end - 8);
	BAD("garbage", v = ((struct double_vector){ GARBAGE, (char *)GARBAGE + sizeof(*t), NULL }));
	BAD("tokens-backwards", t->tokens.end = (char *)t->tokens.begin - 4);
	BAD("tokens-odd", t->tokens.end = (char *)t->tokens.end - 1);
	BAD("tokens-garbage",
	    t->tokens = ((struct double_vector){ GARBAGE, (char *)GARBAGE + 8, NULL }));
	BAD("id-garbage", t->client_id = GARBAGE);
	BAD("id-other", t->client_id = t->decoy_text);
	double_post(NULL, strcmp(name, "null") ? &v : NULL, false);
	free(t);
}

static void do_empty(const char *arguments)
{
	for (int i = atoi(arguments); i > 0; i--)
		double_nothing(NULL);
}

static const struct {
	const char *name;
	void (*run)(const char *arguments);
} commands[] = {
	{ "route ", do_route }, { "flood ", do_flood }, { "bad ", do_bad },
	{ "rows ", do_rows },   { "step ", do_step },   { "badrows ", do_badrows },
	{ "line ", do_line },   { "tasks ", do_tasks }, { "badtasks ", do_badtasks },
	{ "empty ", do_empty },
};

static bool run(const char *line)
{
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		size_t length = strlen(commands[i].name);

		if (!strncmp(line, commands[i].name, length)) {
			commands[i].run(line + length);
			return true;
		}
	}
	return false;
}

int main(void)
{
	char line[512];

	while (fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\n")] = '\0';
		puts(run(line) ? "ok" : "unknown");
		fflush(stdout);
	}
	return 0;
}
