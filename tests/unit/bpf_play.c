/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "tests/unit/bpf_play.h"
#include "probe/bpf/probe.skel.h"

struct play play;
struct mp_site *table;

static char double_path[512];
static struct probe *probe;
static struct bpf_link *links[STAGE_PLACES_MAX];
static struct mp_counters before[STAGE_PLACES_MAX];
static const char *skip_reason;

/* --- the double ------------------------------------------------------------------------------- */

void play__start(struct play *p)
{
	int in[2], out[2];

	assert_int_equal(pipe(in), 0);
	assert_int_equal(pipe(out), 0);
	p->pid = fork();
	assert_true(p->pid >= 0);
	if (!p->pid) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		close(in[1]);
		close(out[0]);
		execl(double_path, double_path, NULL);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	p->to = fdopen(in[1], "w");
	p->from = fdopen(out[0], "r");
}

void play__stop(struct play *p)
{
	fclose(p->to);
	fclose(p->from);
	waitpid(p->pid, NULL, 0);
}

static void play__tell(struct play *p, const char *format, va_list ap)
{
	vfprintf(p->to, format, ap);
	fputc('\n', p->to);
	fflush(p->to);
}

void play__begin(struct play *p, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	play__tell(p, format, ap);
	va_end(ap);
}

bool play__done(struct play *p, int ms)
{
	struct pollfd ready = { .fd = fileno(p->from), .events = POLLIN };
	char answer[16] = "";

	if (!poll(&ready, 1, ms))
		return false;
	assert_non_null(fgets(answer, sizeof(answer), p->from));
	assert_string_equal(answer, "ok\n");
	return true;
}

void play__do(struct play *p, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	play__tell(p, format, ap);
	va_end(ap);
	assert_true(play__done(p, 60000));
}

/* --- the ring --------------------------------------------------------------------------------- */

static int heard__add(void *ctx, void *data, size_t size)
{
	struct heard *h = ctx;
	const struct mp_event *e = data;

	assert_true(size >= sizeof(*e));
	assert_true(e->size >= sizeof(*e) && e->size <= size);
	h->event = realloc(h->event, (h->count + 1) * sizeof(*h->event));
	h->event[h->count] = malloc(e->size);
	memcpy(h->event[h->count++], e, e->size);
	return 0;
}

void heard__free(struct heard *h)
{
	for (size_t i = 0; i < h->count; i++)
		free(h->event[i]);
	free(h->event);
	*h = (struct heard){};
}

void play__listen_more(struct heard *h)
{
	struct ring_buffer *r =
		ring_buffer__new(bpf_map__fd(probe->maps.ring), heard__add, h, NULL);

	assert_non_null(r);
	assert_true(ring_buffer__consume(r) >= 0);
	ring_buffer__free(r);
}

struct heard play__listen(void)
{
	struct heard h = {};

	play__listen_more(&h);
	return h;
}

uint64_t bytes_heard(const struct heard *h)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < h->count; i++)
		bytes += h->event[i]->size;
	return bytes;
}

static struct mp_counters counters_of(uint32_t row)
{
	int cpus = libbpf_num_possible_cpus();
	struct mp_counters *all = calloc(cpus, sizeof(*all)), sum = {};

	assert_int_equal(bpf_map_lookup_elem(bpf_map__fd(probe->maps.counters), &row, all), 0);
	for (int i = 0; i < cpus; i++) {
#define X(id, name, text) sum.name += all[i].name;
		MP_COUNTERS(X)
#undef X
	}
	free(all);
	return sum;
}

struct mp_counters counted(uint32_t row)
{
	struct mp_counters now = counters_of(row), difference;

#define X(id, name, text) difference.name = now.name - before[row].name;
	MP_COUNTERS(X)
#undef X
	memset(difference.reserved, 0, sizeof(difference.reserved));
	before[row] = now;
	return difference;
}

void assert_counters_equal(const struct mp_counters *is, const struct mp_counters *wanted)
{
	bool same = true;

#define X(id, name, text) \
	if (is->name != wanted->name) { \
		print_error("%s is %llu, not %llu\n", #name, is->name, wanted->name); \
		same = false; \
	}
	MP_COUNTERS(X)
#undef X
	assert_true(same);
}

/* --- rows of the table ------------------------------------------------------------------------ */

#define DST(field) offsetof(struct double_tensor, field)

struct mp_tensor_layout play__layout(bool like_ggml)
{
#define LAYOUT(in) \
	(struct mp_tensor_layout) \
	{ \
		.type = DST(in type), .ne = DST(in ne), .nb = DST(in nb), .src = DST(src), \
		.data = DST(in data), .name = DST(in name), .type_ids = DOUBLE_TYPE_IDS, \
		.type_weights = DOUBLE_TYPE_WEIGHTS, \
	}
	return like_ggml ? LAYOUT(like_ggml.) : LAYOUT();
}

static struct mp_site route_row(bool guard_behind)
{
	struct mp_site s = { .program = MP_PROGRAM_ROUTE, .tgid = play.pid, .enabled = 1 };

	s.route.guard = (struct mp_path){ .base = 0, .steps = guard_behind };
	s.route.guard.offset[0] = offsetof(struct double_params, ith_at);
	s.route.ids = (struct mp_path){ 1, 2, { DST(src[0]), DST(src[2]) }, {} };
	s.route.weights = (struct mp_path){ 1, 1, { DST(src[1]) }, {} };
	strcpy(s.route.prefix, "ffn_moe_topk-");
	s.route.tensor = play__layout(false);
	return s;
}

static struct mp_site rows_row(void)
{
	struct mp_site s = { .program = MP_PROGRAM_ROWS, .tgid = play.pid, .enabled = 1 };

	s.rows.batch.base = 1;
	s.rows.count = offsetof(struct double_batch, count);
	s.rows.token = offsetof(struct double_batch, token);
	s.rows.position = offsetof(struct double_batch, position);
	s.rows.sequences = offsetof(struct double_batch, sequences);
	s.rows.sequence = offsetof(struct double_batch, sequence);
	s.rows.output = offsetof(struct double_batch, output);
	return s;
}

static struct mp_site tasks_row(bool learned)
{
	struct mp_site s = { .program = MP_PROGRAM_TASKS, .tgid = play.pid, .enabled = 1 };

	s.tasks.argument = 1;
	s.tasks.vocabulary = DOUBLE_VOCABULARY;
	s.tasks.tokens_max = 100000;
	strcpy(s.tasks.prefix, DOUBLE_PREFIX);
	if (learned) {
		s.tasks.element_size = sizeof(struct double_task);
		s.tasks.text_offset = offsetof(struct double_task, client_id);
		s.tasks.tokens_offset = offsetof(struct double_task, tokens);
	}
	return s;
}

static void table__fill(struct mp_site *t)
{
	t[MUL] = route_row(false);
	t[MUL_BEHIND] = route_row(true);
	t[MUL_BEHIND].enabled = 0;
	t[SET_INPUTS] = rows_row();
	t[LOG] = (struct mp_site){ .program = MP_PROGRAM_LINE, .tgid = play.pid, .enabled = 1 };
	strcpy(t[LOG].line.prefix, "slot ");
	t[POST] = tasks_row(true);
	t[NOTHING] =
		(struct mp_site){ .program = MP_PROGRAM_EMPTY, .tgid = play.pid, .enabled = 1 };
}

/* The double was built beside the tests: <build>/tests/{unit/test_x,tools/x_double}. */
static void find_double(const char *name)
{
	char self[400] = "";

	assert_true(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
	*strrchr(self, '/') = '\0';
	snprintf(double_path, sizeof(double_path), "%s/../tools/%s", self, name);
}

#define INITIAL_PID_NAMESPACE 0xeffffffc /* its inode, fixed by the kernel */

/* Load with a ring of @bytes; @by_namespace: ask for process ids by namespace also where the
 * initial one does not need it. 0 or -errno. */
static int load(uint32_t bytes, bool by_namespace)
{
	struct stat own;
	int err;

	probe = probe__open();
	if (!probe)
		return -errno;
	probe->rodata->config.ring_bytes = bytes;
	assert_int_equal(stat("/proc/self/ns/pid", &own), 0);
	if (by_namespace || own.st_ino != INITIAL_PID_NAMESPACE) {
		probe->rodata->config.pid_namespace_dev = own.st_dev;
		probe->rodata->config.pid_namespace_inode = own.st_ino;
	}
	bpf_map__set_max_entries(probe->maps.ring, bytes);
	err = probe__load(probe);
	if (err)
		return err;
	table = mmap(NULL, MP_SITES * sizeof(*table), PROT_READ | PROT_WRITE, MAP_SHARED,
		     bpf_map__fd(probe->maps.sites), 0);
	if (table != MAP_FAILED)
		return 0;
	table = NULL;
	return -errno;
}

static int link_place(const struct stage *stage, size_t row)
{
	LIBBPF_OPTS(bpf_uprobe_opts, options, .func_name = stage->place[row].function,
		    .bpf_cookie = row);
	struct bpf_program *program =
		bpf_object__find_program_by_name(probe->obj, stage->place[row].program);

	assert_non_null(program);
	/* Every process: that others are turned away is for the programs to prove. */
	links[row] = bpf_program__attach_uprobe_opts(program, -1, double_path, 0, &options);
	return links[row] ? 0 : -errno;
}

int play__raise(const struct stage *stage)
{
	int err;

	find_double(stage->name);
	err = load(stage->ring_bytes, stage->by_namespace);
	if (!err) {
		play__start(&play);
		stage->fill(table);
		memset(before, 0, sizeof(before));
		for (size_t row = 0; row < stage->places && !err; row++)
			err = link_place(stage, row);
	}
	/* Not EACCES: so says the verifier, and that is a failure. */
	if (err == -EPERM)
		skip_reason = "no right to load kernel programs or to place uprobes";
	else if (err)
		print_error("start: %s\n", strerror(-err));
	return skip_reason ? 0 : err;
}

static const struct stage ggml = {
	.name = "ggml_double",
	.fill = table__fill,
	.places = PLACES,
	.place = {
		[MUL] = { "mp_route", "double_mul" },
		[MUL_BEHIND] = { "mp_route", "double_mul" },
		[SET_INPUTS] = { "mp_rows", "double_set_inputs" },
		[LOG] = { "mp_line", "double_log" },
		[POST] = { "mp_tasks", "double_post" },
		[NOTHING] = { "mp_empty", "double_nothing" },
	},
};

const char *play__skip_reason(void)
{
	return skip_reason;
}

int play__start_large(void **state)
{
	struct stage stage = ggml;

	stage.ring_bytes = 16 << 20;
	return play__raise(&stage);
}

int play__start_tiny(void **state)
{
	struct stage stage = ggml;

	stage.ring_bytes = 64 << 10;
	stage.by_namespace = true;
	return play__raise(&stage);
}

int play__stop_all(void **state)
{
	for (int i = 0; i < STAGE_PLACES_MAX; i++) {
		bpf_link__destroy(links[i]);
		links[i] = NULL;
	}
	if (play.pid)
		play__stop(&play);
	if (table)
		munmap(table, MP_SITES * sizeof(*table));
	probe__destroy(probe);
	return 0;
}

/* --- contents --------------------------------------------------------------------------------- */

void assert_chunk(const struct mp_event *e, const struct mp_event *first, uint16_t i)
{
	assert_int_equal(e->kind, first->kind);
	assert_int_equal(e->site, first->site);
	assert_int_equal(e->tgid, play.pid);
	assert_int_equal(e->tid, first->tid);
	assert_true(e->time_ns == first->time_ns);
	assert_true(e->object == first->object && e->object != 0);
	assert_int_equal(e->chunk, i);
	assert_int_equal(e->chunks, first->chunks);
	assert_int_equal(e->total, first->total);
}

void assert_route_contents(const struct mp_event *e, uint32_t seed, uint32_t k, uint32_t experts)
{
	const struct mp_event_route *r = (const void *)e;
	const uint32_t *ids = (const void *)(r + 1), *weights = ids + (size_t)e->count * k;
	char name[MP_NAME_SIZE];

	snprintf(name, sizeof(name), "ffn_moe_topk-%u", seed);
	assert_string_equal(r->name, name);
	assert_int_equal(r->k, k);
	assert_int_equal(r->experts, experts);
	assert_int_equal(e->size, sizeof(*r) + 8 * (size_t)e->count * k);
	for (uint32_t row = 0; row < e->count; row++) {
		for (uint32_t i = 0; i < k; i++) {
			uint32_t at = row * k + i;

			if (ids[at] != double_value(seed, e->first + row, i))
				fail_msg("id of row %u, rank %u", e->first + row, i);
			if (weights[at] != double_value(seed + 1, e->first + row, i))
				fail_msg("weight of row %u, rank %u", e->first + row, i);
		}
	}
}

void assert_route(const struct heard *h, size_t at, uint32_t seed, uint32_t k, uint32_t rows,
		  uint32_t experts)
{
	const struct mp_event *first = h->event[at];
	uint32_t next = 0;

	assert_int_equal(first->kind, MP_EVENT_ROUTE);
	assert_int_equal(first->total, rows);
	assert_true(at + first->chunks <= h->count);
	for (uint16_t i = 0; i < first->chunks; i++) {
		const struct mp_event *e = h->event[at + i];

		assert_chunk(e, first, i);
		assert_int_equal(e->first, next);
		assert_route_contents(e, seed, k, experts);
		next += e->count;
	}
	assert_int_equal(next, rows);
}
