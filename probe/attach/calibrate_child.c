/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/attach/calibrate_child.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "probe/abi/event.h"
#include "probe/abi/site.h"
#include "probe/attach/arch.h"

#define PAIRS CALIBRATE_ROUND_PAIRS
#define PERIOD_NS 500000 /* from call to call: most of it is a pause */
/* Walked through from a call of a kind to the next of that kind, a half between any two: about a
 * core's second-level cache. What both kinds use of the kernel is then warmer than after a whole
 * walk, but for both; what a kind alone uses is as cold as it should be. */
#define WALK_BYTES (1u << 20)
/* What the caller works on, most of a first-level cache: a trap drives part of it out, and the
 * caller pays for that afterwards. */
#define NEAR_BYTES (24u << 10)
#define CACHE_LINE 64u

#define TYPE_WEIGHTS 0u
#define TYPE_IDS 26u
#define DTYPE_FLOAT 6 /* c10::ScalarType */

/* A tensor of ours as of ggml, with the fields next to each other as ggml has them: the program
 * then needs as few reads as with the real one. */
struct sample_tensor {
	uint32_t type, reserved[3];
	uint64_t ne[4], nb[4];
	const struct sample_tensor *src[3];
	const void *data;
	char name[MP_NAME_SIZE];
};

/* result = experts' outputs (its third source: the ids) x weights */
struct sample_graph {
	struct sample_tensor result, outputs, ids, weights;
};

/* One as of libtorch: a TensorImpl, with what we read where it is in PyTorch 1.13 to 2.12. */
struct sample_impl {
	uint64_t reserved[2];
	const struct sample_storage {
		uint64_t reserved[2];
		const void *data;
	} * storage;
	uint64_t reserved2[5];
	uint64_t dims;
	int64_t size[5], stride[5], offset, numel;
	uint16_t dtype;
	int8_t device, device_index;
	uint32_t reserved3;
};
_Static_assert(offsetof(struct sample_impl, dims) == 64, "behind what we do not read");

enum task {
	TASK_ROUND,
	TASK_LOOK, /* at the code of @thing: is it another one? */
};

/* What the child is told to do; it answers with a double. */
struct order {
	enum task task;
	enum mp_program router;
	enum calibrate_call thing, base;
	uint32_t threads;
};

struct call {
	void (*function)(const void *, const void *, uint64_t);
	uint32_t thread; /* first argument: this; 0: the guard lets it pass */
	const void *second;
	uint64_t third;
	const void *fresh; /* what the caller made just before, @fresh_bytes; NULL: nothing */
	size_t fresh_bytes;
};

struct worker {
	struct call thing, base;
	double difference_ns;
	pthread_barrier_t *together;
};

/* Filled before the fork, so that they are at the same addresses in parent and child. */
static uint8_t code_before[CALIBRATE_CALL_COUNT][CALIBRATE_CODE_BYTES];
static uint8_t *walked; /* [WALK_BYTES] */
static uint8_t near[NEAR_BYTES];
static uint32_t ids[CALIBRATE_ROWS][CALIBRATE_EXPERTS];
static float weights[CALIBRATE_ROWS][CALIBRATE_EXPERTS];
static struct sample_graph graphs[2]; /* of one row, of all */
static struct sample_scores {
	const struct sample_impl *reference; /* as in a Tensor */
	struct sample_impl impl;
	struct sample_storage storage;
	float row[CALIBRATE_ROWS][CALIBRATE_EXPERTS];
} scores[2];

static void graph__fill(struct sample_graph *g, uint64_t rows)
{
	*g = (struct sample_graph){
		.result = { .src = { &g->outputs, &g->weights } },
		.outputs = { .src = { NULL, NULL, &g->ids } },
		.ids = { .type = TYPE_IDS,
			 .ne = { CALIBRATE_K, rows, 1, 1 },
			 .nb = { 4, sizeof(ids[0]), sizeof(ids), sizeof(ids) },
			 .data = ids,
			 .name = "sample" },
		.weights = { .type = TYPE_WEIGHTS,
			     .ne = { 1, CALIBRATE_K, rows, 1 },
			     .nb = { 4, 4, sizeof(weights[0]), sizeof(weights) },
			     .data = weights },
	};
}

static void scores__fill(struct sample_scores *s, uint64_t rows)
{
	memset(s, 0, sizeof(*s));
	s->reference = &s->impl;
	s->storage.data = s->row;
	s->impl = (struct sample_impl){
		.storage = &s->storage,
		.dims = 2,
		.size = { (int64_t)rows, CALIBRATE_EXPERTS },
		.stride = { CALIBRATE_EXPERTS, 1 },
		.numel = (int64_t)(rows * CALIBRATE_EXPERTS),
		.dtype = DTYPE_FLOAT,
	};
}

static void describe_route(struct mp_route_site *out)
{
	const uint16_t src = offsetof(struct sample_tensor, src);

	out->guard = (struct mp_path){ .base = 0 };
	out->ids = (struct mp_path){ .base = 1, .steps = 2, .offset = { src, src + 2 * 8 } };
	out->weights = (struct mp_path){ .base = 1, .steps = 1, .offset = { src + 8 } };
	memcpy(out->prefix, "sample", 6);
	out->tensor = (struct mp_tensor_layout){
		.type = offsetof(struct sample_tensor, type),
		.ne = offsetof(struct sample_tensor, ne),
		.nb = offsetof(struct sample_tensor, nb),
		.src = src,
		.data = offsetof(struct sample_tensor, data),
		.name = offsetof(struct sample_tensor, name),
		.type_ids = TYPE_IDS,
		.type_weights = TYPE_WEIGHTS,
	};
}

/* As the top-k of libtorch: (object, scores, k, ...). */
static void describe_tensors(struct mp_tensors_site *out)
{
	*out = (struct mp_tensors_site){
		.storage = offsetof(struct sample_impl, storage),
		.head = offsetof(struct sample_impl, dims),
		.data = offsetof(struct sample_storage, data),
		.moment = MP_MOMENT_ROUTE,
		.rules = 1,
		.scalar = { 2, MP_NO_ARGUMENT },
		.scalar_min = CALIBRATE_K,
		.scalar_max = CALIBRATE_K,
		.rule = { { .argument = 1,
			    .role = MP_ROLE_SCORES,
			    .copy = MP_COPY_ROWS,
			    .dims_min = 2,
			    .dims_max = 2,
			    .dtypes = 1u << DTYPE_FLOAT,
			    .first_max = UINT32_MAX,
			    .last_min = CALIBRATE_EXPERTS,
			    .last_max = CALIBRATE_EXPERTS } },
	};
}

void calibrate_child__describe(struct mp_site *out, enum mp_program router)
{
	memset(out, 0, sizeof(*out));
	out->program = router;
	if (router == MP_PROGRAM_TENSORS)
		describe_tensors(&out->tensors);
	else
		describe_route(&out->route);
}

unsigned calibrate_child__row_bytes(enum mp_program router)
{
	return router == MP_PROGRAM_TENSORS
		       ? CALIBRATE_EXPERTS * sizeof(weights[0][0])
		       : CALIBRATE_K * (sizeof(ids[0][0]) + sizeof(weights[0][0]));
}

void (*calibrate_child__function(enum calibrate_call call))(void)
{
	const struct arch_ops *arch = arch__own();

	if (!arch)
		return NULL;
	switch (call) {
	case CALIBRATE_EMULATED:
		return arch->sample_emulated;
	case CALIBRATE_STEPPED:
		return arch->sample_stepped;
	case CALIBRATE_EMULATED_TWIN:
		return arch->sample_emulated_twin;
	case CALIBRATE_STEPPED_TWIN:
		return arch->sample_stepped_twin;
	default:
		return arch->sample_router;
	}
}

/* --- in the child --------------------------------------------------------------------------- */

static double ns_since(const struct timespec *a)
{
	struct timespec b;

	clock_gettime(CLOCK_MONOTONIC, &b);
	return (double)(b.tv_sec - a->tv_sec) * 1e9 + (double)(b.tv_nsec - a->tv_nsec);
}

static int by_value(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void read_all(const uint8_t *memory, size_t bytes)
{
	for (size_t at = 0; at < bytes; at += CACHE_LINE)
		(void)*(const volatile uint8_t *)&memory[at];
}

/* Until call @i: pauses leave the processor to the target, and all threads call together. A
 * low priority would not do: who has it may be stopped where the kernel holds what others wait for.
 */
static void wait_for(const struct timespec *begin, unsigned i)
{
	struct timespec at = *begin;

	at.tv_nsec += (long)i * PERIOD_NS;
	at.tv_sec += at.tv_nsec / 1000000000;
	at.tv_nsec %= 1000000000;
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR)
		;
}

/* Of call @i. */
static double time_of(const struct call *c, unsigned i)
{
	struct timespec a;

	read_all(&walked[i % 2 * (WALK_BYTES / 2)], WALK_BYTES / 2);
	read_all(near, sizeof(near));
	read_all(c->fresh, c->fresh_bytes);
	clock_gettime(CLOCK_MONOTONIC, &a);
	c->function(&c->thread, c->second, c->third);
	read_all(near, sizeof(near));
	return ns_since(&a);
}

/* What a call takes that little disturbs, though not the one lucky call: the lower quartile. A
 * disturbance only ever adds, and with load the upper half is the scheduler's. */
static double typical(double *ns)
{
	qsort(ns, PAIRS, sizeof(ns[0]), by_value);
	return ns[PAIRS / 4];
}

/* By turns, so that a change of the machine meets both alike. */
static void *work(void *arg)
{
	double thing[PAIRS], base[PAIRS];
	struct worker *w = arg;
	struct timespec begin;

	pthread_barrier_wait(w->together);
	clock_gettime(CLOCK_MONOTONIC, &begin);
	for (unsigned i = 0; i < PAIRS; i++) {
		wait_for(&begin, 2 * i);
		base[i] = time_of(&w->base, 2 * i);
		wait_for(&begin, 2 * i + 1);
		thing[i] = time_of(&w->thing, 2 * i + 1);
	}
	w->difference_ns = typical(thing) - typical(base);
	return NULL;
}

/* What thread @number calls as @call. */
static struct call call_of(const struct order *o, enum calibrate_call call, uint32_t number)
{
	const bool all = call == CALIBRATE_ROUTER_ROWS, away = call == CALIBRATE_ROUTER_AWAY;
	struct call c = {
		.function = (void (*)(const void *, const void *, uint64_t))(
			void *)calibrate_child__function(call),
		.thread = away ? number + 1 : number,
	};

	if (o->router == MP_PROGRAM_TENSORS) {
		/* A temporary: computed, and its sizes looked at, a moment before. ggml's results
		 * were computed by all threads, an operator or more ago. */
		c.second = &scores[all].reference;
		c.third = away ? 0 : CALIBRATE_K;
		c.fresh = &scores[all];
		c.fresh_bytes = offsetof(struct sample_scores, row) +
				(all ? sizeof(scores[all].row) : sizeof(scores[all].row[0]));
	} else {
		c.second = &graphs[all].result;
	}
	return c;
}

/* -errno if the threads cannot be made. */
static int run_round(const struct order *o, double *ns)
{
	struct worker worker[CALIBRATE_THREADS_MAX];
	pthread_t id[CALIBRATE_THREADS_MAX];
	pthread_barrier_t together;
	double sum = 0;
	uint32_t i;
	int err;

	pthread_barrier_init(&together, NULL, o->threads);
	for (i = 0; i < o->threads; i++) {
		worker[i] = (struct worker){
			.thing = call_of(o, o->thing, i),
			.base = call_of(o, o->base, i),
			.together = &together,
		};
		/* Those that now wait in vain end with the process. */
		err = pthread_create(&id[i], NULL, work, &worker[i]);
		if (err)
			return -err;
	}
	for (i = 0; i < o->threads; i++) {
		pthread_join(id[i], NULL);
		sum += worker[i].difference_ns;
	}
	pthread_barrier_destroy(&together);
	if (o->thing == CALIBRATE_ROUTER || o->thing == CALIBRATE_ROUTER_ROWS)
		*ns = worker[0].difference_ns;
	else
		*ns = sum / o->threads;
	return 0;
}

static bool looks_as_before(enum calibrate_call call)
{
	const volatile uint8_t *now = (void *)calibrate_child__function(call);

	for (size_t i = 0; i < CALIBRATE_CODE_BYTES; i++)
		if (now[i] != code_before[call][i])
			return false;
	return true;
}

static void child_main(int fd)
{
	struct order o;
	double answer;

	/* Should the parent be killed, the socket closes or this signal comes. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (recv(fd, &o, sizeof(o), MSG_WAITALL) == (ssize_t)sizeof(o)) {
		if (o.task == TASK_LOOK)
			answer = !looks_as_before(o.thing);
		else if (run_round(&o, &answer))
			break;
		if (send(fd, &answer, sizeof(answer), MSG_NOSIGNAL) != (ssize_t)sizeof(answer))
			break;
	}
	_exit(0);
}

/* --- in the parent -------------------------------------------------------------------------- */

int calibrate_child__start(struct calibrate_child *c, enum mp_program router)
{
	int pair[2], err = 0;

	*c = (struct calibrate_child){ .pid = -1, .fd = -1, .router = router };
	walked = malloc(WALK_BYTES);
	if (!walked)
		return -ENOMEM;
	/* Touched, or it is not there when a program reads it. */
	memset(walked, 1, WALK_BYTES);
	memset(near, 1, sizeof(near));
	memset(ids, 1, sizeof(ids));
	memset(weights, 1, sizeof(weights));
	graph__fill(&graphs[0], 1);
	graph__fill(&graphs[1], CALIBRATE_ROWS);
	scores__fill(&scores[0], 1);
	scores__fill(&scores[1], CALIBRATE_ROWS);
	for (int i = 0; i < CALIBRATE_CALL_COUNT; i++) {
		void (*function)(void) = calibrate_child__function((enum calibrate_call)i);

		if (function)
			memcpy(code_before[i], (const void *)function, CALIBRATE_CODE_BYTES);
	}
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return -errno;
	c->pid = fork();
	if (!c->pid) {
		close(pair[0]);
		child_main(pair[1]);
	}
	if (c->pid < 0)
		err = -errno;
	close(pair[1]);
	c->fd = pair[0];
	return err;
}

void calibrate_child__end(struct calibrate_child *c)
{
	if (c->fd >= 0)
		close(c->fd);
	if (c->pid > 0) {
		kill(c->pid, SIGKILL);
		while (waitpid(c->pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	free(walked);
	walked = NULL;
}

static int ask(const struct calibrate_child *c, const struct order *o, double *answer)
{
	ssize_t n;

	do
		n = send(c->fd, o, sizeof(*o), MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n != (ssize_t)sizeof(*o))
		return -EIO;
	do
		n = recv(c->fd, answer, sizeof(*answer), MSG_WAITALL);
	while (n < 0 && errno == EINTR);
	return n == (ssize_t)sizeof(*answer) ? 0 : -EIO;
}

int calibrate_child__changed(const struct calibrate_child *c, enum calibrate_call call)
{
	const struct order o = { .task = TASK_LOOK, .thing = call };
	double changed = 0;
	int err = ask(c, &o, &changed);

	return err ? err : changed != 0;
}

int calibrate_child__round(const struct calibrate_child *c, enum calibrate_call thing,
			   enum calibrate_call base, unsigned threads, double *ns)
{
	const struct order o = {
		.task = TASK_ROUND,
		.router = c->router,
		.thing = thing,
		.base = base,
		.threads = threads,
	};

	*ns = 0;
	return ask(c, &o, ns);
}
