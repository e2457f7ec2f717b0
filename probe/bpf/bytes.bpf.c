/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Programs for plain bytes: log lines, queued server tasks, and nothing at all. */
#include "probe/bpf/emit.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* --- mp_empty: a hit and no more, for calibration ------------------------------------------- */

SEC("uprobe")
int mp_empty(struct pt_regs *ctx)
{
	struct hit h;

	hit__begin(&h, ctx);
	return 0;
}

/* --- mp_line: one formatted-log call -------------------------------------------------------- */

/* f(_, level, format, width, function, slot, task, ...): see struct mp_event_line. */
static __always_inline long line__read(struct mp_event_line *e, struct pt_regs *ctx)
{
	__builtin_memset(e->format, 0, sizeof(e->format));
	__builtin_memset(e->function, 0, sizeof(e->function));
	e->slot = argument(ctx, 5);
	return bpf_probe_read_user_str(e->format, sizeof(e->format),
				       (const void *)argument(ctx, 2)) < 0 ||
	       bpf_probe_read_user_str(e->function, sizeof(e->function),
				       (const void *)argument(ctx, 4)) < 0 ||
	       read_user(&e->task, sizeof(e->task), stack_argument_address(ctx, 0)) ||
	       read_user(e->args, sizeof(e->args), stack_argument_address(ctx, 1));
}

SEC("uprobe")
int mp_line(struct pt_regs *ctx)
{
	struct chunk c = { MP_EVENT_TEXT_LINE, 0, 1, sizeof(struct mp_event_line), 1, 0, 1 };
	char begin[MP_PREFIX_SIZE + 8] __attribute__((aligned(8))) = {};
	struct mp_event_line *e;
	struct hit h;

	if (hit__begin(&h, ctx))
		return 0;
	if (bpf_probe_read_user_str(begin, MP_PREFIX_SIZE + 1, (const void *)argument(ctx, 2)) <
	    0) {
		COUNT(&h, fault, 1);
		return 0;
	}
	if (!text__begins(begin, h.site->line.prefix))
		return 0;
	hit__match(&h, ctx);
	e = bpf_ringbuf_reserve(&ring, RECORD_SMALL, 0);
	if (!e) {
		hit__drop(&h, 0);
		return 0;
	}
	event__fill(&e->event, &h, &c);
	if (line__read(e, ctx))
		event__fault(e, &h);
	else
		event__submit(e, &h, sizeof(*e));
	return 0;
}

/* --- mp_tasks: the tasks that one call queues ----------------------------------------------- */

#define TASKS_MAX 16u        /* tasks read of one call */
#define SCAN_BYTES 8192u     /* of an element, while its layout is not known */
#define CANDIDATES_MAX 8u    /* token vectors reported of one element */
#define PLAUSIBLE_TOKENS 16u /* tokens looked at before a vector is believed */
#define TOKENS_SMALL 48u     /* tokens in a record of each class */
#define TOKENS_MEDIUM 496u
#define TOKENS_LARGE 4080u
#define USER_POINTER(v) ((v) >= 4096 && (v) < 1ull << 47)

struct tasks {
	struct hit hit;
	__u64 begin;  /* address of the first element */
	__u64 text;   /* address of the client's id, 0 */
	__u64 tokens; /* address of the tokens being delivered */
	__u32 span;   /* bytes of all elements */
	__u32 tasks;  /* elements; 0: element size not known */
	__u32 index;  /* of the element at hand */
	__s32 task;
	__u32 text_offset, texts;
	__u32 tokens_offset;
	__u32 total; /* tokens to deliver */
	__u32 element_size, tokens_max, vocabulary;
	__u32 candidates;
	__u32 scanned;                   /* bytes of the element that are part of a candidate */
	__u16 candidate[CANDIDATES_MAX]; /* offsets of token vectors */
};

static __always_inline long tasks__emit_tokens(struct tasks *t, __u32 index, __u32 first,
					       __u32 count, const __u32 class, const __u32 most)
{
	__u64 bytes = count * 4;
	struct chunk c = { MP_EVENT_TASK_TOKENS,
			   index,
			   (t->total + TOKENS_LARGE - 1) / TOKENS_LARGE,
			   sizeof(struct mp_event_tokens) + bytes,
			   t->total,
			   first,
			   count };
	struct mp_event_tokens *e = bpf_ringbuf_reserve(&ring, class, 0);

	if (!e) {
		hit__drop(&t->hit, t->total);
		return 1;
	}
	event__fill(&e->event, &t->hit, &c);
	e->index = t->index;
	e->task = t->task;
	e->offset = t->tokens_offset;
	e->reserved = 0;
	CLAMP(bytes, most * 4);
	if (bpf_probe_read_user(e + 1, bytes, (const void *)(t->tokens + 4ull * first))) {
		event__fault(e, &t->hit);
		return 1;
	}
	event__submit(e, &t->hit, c.size);
	return 0;
}

static long tasks__token_chunk(__u32 index, struct tasks *t)
{
	__u32 first = index * TOKENS_LARGE;
	__u32 count = t->total - first;

	if (count <= TOKENS_SMALL)
		return tasks__emit_tokens(t, index, first, count, RECORD_SMALL, TOKENS_SMALL);
	if (count <= TOKENS_MEDIUM)
		return tasks__emit_tokens(t, index, first, count, RECORD_MEDIUM, TOKENS_MEDIUM);
	if (count > TOKENS_LARGE)
		count = TOKENS_LARGE;
	return tasks__emit_tokens(t, index, first, count, RECORD_LARGE, TOKENS_LARGE);
}

/* Deliver the vector {begin, end} at @offset of the element at @element, cut at tokens_max. */
static __always_inline void tasks__deliver_tokens(struct tasks *t, __u64 element, __u32 offset)
{
	__u64 vector[2], bytes;

	if (read_user(vector, sizeof(vector), element + offset)) {
		COUNT(&t->hit, fault, 1);
		return;
	}
	bytes = vector[1] - vector[0];
	if (vector[1] < vector[0] || bytes % 4 || bytes > 1ull << 31) {
		COUNT(&t->hit, shape, 1);
		return;
	}
	t->total = bytes / 4;
	if (t->total > t->tokens_max)
		t->total = t->tokens_max;
	t->tokens = vector[0];
	t->tokens_offset = offset;
	bpf_loop((t->total + TOKENS_LARGE - 1) / TOKENS_LARGE, tasks__token_chunk, t, 0);
}

static __always_inline void tasks__emit_task(struct tasks *t)
{
	struct chunk c = { MP_EVENT_TASK, 0, 1, sizeof(struct mp_event_task), 1, 0, 1 };
	struct mp_event_task *e = bpf_ringbuf_reserve(&ring, RECORD_SMALL, 0);

	if (!e) {
		hit__drop(&t->hit, 0);
		return;
	}
	event__fill(&e->event, &t->hit, &c);
	e->index = t->index;
	e->tasks = t->tasks;
	e->span = t->span;
	e->task = t->task;
	e->text_offset = t->text_offset;
	e->texts = t->texts;
	__builtin_memset(e->client_id, 0, sizeof(e->client_id));
	if (t->text && bpf_probe_read_user_str(e->client_id, sizeof(e->client_id),
					       (const void *)t->text) < 0) {
		event__fault(e, &t->hit);
		return;
	}
	event__submit(e, &t->hit, sizeof(*e));
}

/* The text that @at points to begins like a client's id. */
static __always_inline int tasks__is_client_id(const struct tasks *t, __u64 at)
{
	char begin[MP_PREFIX_SIZE + 8] __attribute__((aligned(8))) = {};

	return USER_POINTER(at) &&
	       bpf_probe_read_user_str(begin, MP_PREFIX_SIZE + 1, (const void *)at) > 0 &&
	       text__begins(begin, t->hit.site->tasks.prefix);
}

/* {begin, end, capacity} of 1 .. tokens_max tokens, the first of which are in the vocabulary.
 * Allocators align to 16, which keeps most {end, capacity, next begin} out. */
static __always_inline int tasks__is_tokens(const struct tasks *t, const __u64 *vector)
{
	__s32 token[PLAUSIBLE_TOKENS] = {};
	__u64 bytes = vector[1] - vector[0];
	__u32 last = (t->vocabulary ? t->vocabulary : 1u << 31) - 1, bad = 0;

	if (!USER_POINTER(vector[0]) || vector[1] <= vector[0] || vector[2] < vector[1] ||
	    !USER_POINTER(vector[2]) || vector[0] % 16 || bytes % 4 || bytes / 4 > t->tokens_max)
		return 0;
	CLAMP(bytes, PLAUSIBLE_TOKENS * 4);
	if (bpf_probe_read_user(token, bytes, (const void *)vector[0]))
		return 0;
		/* Without branches, as above: negative, or behind the last of the vocabulary. */
#pragma unroll
	for (int i = 0; i < PLAUSIBLE_TOKENS; i++) {
		bad |= (__u32)token[i] | (last - (__u32)token[i]);
		barrier_var(bad);
	}
	return !(bad >> 31);
}

/* Look at 8-byte slot @slot of the element. */
static long tasks__scan_slot(__u32 slot, struct tasks *t)
{
	__u64 offset = slot * 8;
	__u64 value[3] = {};

	if (offset + sizeof(value) <= t->element_size) {
		if (read_user(value, sizeof(value), t->begin + offset))
			return 0;
	} else if (read_user(value, 8, t->begin + offset)) {
		return 0;
	}
	if (offset && tasks__is_client_id(t, value[0])) {
		if (!t->texts++) {
			t->text = value[0];
			t->text_offset = offset;
		}
	}
	if (offset && offset >= t->scanned && t->candidates < CANDIDATES_MAX &&
	    tasks__is_tokens(t, value)) {
		t->candidate[t->candidates & (CANDIDATES_MAX - 1)] = offset;
		t->candidates++;
		t->scanned = offset + sizeof(value);
	}
	return 0;
}

static long tasks__candidate(__u32 i, struct tasks *t)
{
	tasks__deliver_tokens(t, t->begin, t->candidate[i & (CANDIDATES_MAX - 1)]);
	return 0;
}

/* Layout not known: report what the first element looks like. */
static __always_inline void tasks__learn(struct tasks *t)
{
	__u32 bytes = t->element_size ? t->element_size : t->span;

	if (bytes > SCAN_BYTES)
		bytes = SCAN_BYTES;
	t->tasks = t->element_size ? t->span / t->element_size : 0;
	t->element_size = bytes;
	if (read_user(&t->task, sizeof(t->task), t->begin)) {
		COUNT(&t->hit, fault, 1);
		return;
	}
	bpf_loop(bytes / 8, tasks__scan_slot, t, 0);
	tasks__emit_task(t);
	bpf_loop(t->candidates, tasks__candidate, t, 0);
}

/* Layout known: one element. */
static long tasks__element(__u32 i, struct tasks *t)
{
	const struct mp_tasks_site *site = &t->hit.site->tasks;
	__u64 element = t->begin + (__u64)i * t->element_size;

	t->index = i;
	t->text_offset = 0;
	t->texts = 0;
	if (read_user(&t->task, sizeof(t->task), element) ||
	    read_user(&t->text, sizeof(t->text), element + site->text_offset)) {
		COUNT(&t->hit, fault, 1);
		return 0;
	}
	if (tasks__is_client_id(t, t->text)) {
		t->text_offset = site->text_offset;
		t->texts = 1;
	} else {
		t->text = 0;
	}
	tasks__emit_task(t);
	tasks__deliver_tokens(t, element, site->tokens_offset);
	return 0;
}

static __always_inline void tasks__read(struct tasks *t)
{
	t->tasks = t->span / t->element_size;
	if (t->tasks > TASKS_MAX)
		COUNT(&t->hit, shape, t->tasks - TASKS_MAX);
	bpf_loop(t->tasks > TASKS_MAX ? TASKS_MAX : t->tasks, tasks__element, t, 0);
}

/* 0; 1: limits do not hold; -1: fault; 2: an empty vector. */
static __always_inline int tasks__begin(struct tasks *t, const struct mp_tasks_site *site,
					__u64 argument)
{
	__u64 vector[2], span;

	t->element_size = site->element_size;
	t->tokens_max = site->tokens_max;
	t->vocabulary = site->vocabulary;
	if (read_user(vector, sizeof(vector), argument))
		return -1;
	if (vector[0] == vector[1])
		return 2;
	span = vector[1] - vector[0];
	if (vector[1] < vector[0] || span > 1u << 30)
		return 1;
	t->begin = vector[0];
	t->span = span;
	if (t->element_size)
		return t->span % t->element_size != 0;
	return site->text_offset && site->tokens_offset;
}

SEC("uprobe")
int mp_tasks(struct pt_regs *ctx)
{
	const struct mp_tasks_site *site;
	struct tasks t = {};
	int bad;

	if (hit__begin(&t.hit, ctx))
		return 0;
	site = &t.hit.site->tasks;
	bad = tasks__begin(&t, site, argument(ctx, site->argument));
	if (bad == 2)
		return 0;
	hit__match(&t.hit, ctx);
	if (bad < 0)
		COUNT(&t.hit, fault, 1);
	else if (bad)
		COUNT(&t.hit, shape, 1);
	else if (site->element_size && site->text_offset && site->tokens_offset)
		tasks__read(&t);
	else
		tasks__learn(&t);
	return 0;
}
