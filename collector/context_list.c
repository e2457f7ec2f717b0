/* SPDX-License-Identifier: BSD-2-Clause */
#include "collector/context_list.h"

#include <errno.h>
#include <stdlib.h>

#include "collector/model_record.h"
#include "probe/base/hash.h"
#include "probe/engine/sink.h"

struct known_context {
	uint32_t context;
	uint32_t process;
	uint32_t replica_of;
	uint64_t key; /* 0 while it is not known */
	uint64_t model_key;
	UT_hash_handle hh;
};

struct known_process {
	pid_t pid;
	uint32_t process;
	UT_hash_handle hh;
};

struct context_list {
	struct trace_writer *writer;
	struct known_context *contexts;
	struct known_process *processes;
	uint32_t first_process; /* 0: none was said */
};

struct context_list *context_list__new(struct trace_writer *w)
{
	struct context_list *l = calloc(1, sizeof(*l));

	if (l)
		l->writer = w;
	return l;
}

void context_list__free(struct context_list *l)
{
	struct known_context *context, *next_context;
	struct known_process *process, *next_process;

	if (!l)
		return;
	HASH_ITER(hh, l->processes, process, next_process)
	{
		HASH_DEL(l->processes, process);
		free(process);
	}
	HASH_ITER(hh, l->contexts, context, next_context)
	{
		HASH_DEL(l->contexts, context);
		free(context);
	}
	free(l);
}

int context_list__process(struct context_list *l, pid_t pid, uint32_t process)
{
	struct known_process *known;

	if (!l->first_process)
		l->first_process = process;
	HASH_FIND(hh, l->processes, &pid, sizeof(pid), known);
	if (known) {
		known->process = process;
		return 0;
	}
	known = calloc(1, sizeof(*known));
	if (!known)
		return -ENOMEM;
	known->pid = pid;
	known->process = process;
	HASH_ADD(hh, l->processes, pid, sizeof(known->pid), known);
	if (hash__has(known))
		return 0;
	free(known);
	return -ENOMEM;
}

static uint32_t process_of(const struct context_list *l, pid_t pid)
{
	struct known_process *known;

	HASH_FIND(hh, l->processes, &pid, sizeof(pid), known);
	return known ? known->process : l->first_process;
}

static struct known_context *find(const struct context_list *l, uint32_t context)
{
	struct known_context *known;

	HASH_FIND(hh, l->contexts, &context, sizeof(context), known);
	return known;
}

/* NULL: out of memory. */
static struct known_context *add(struct context_list *l, uint32_t context)
{
	struct known_context *known = calloc(1, sizeof(*known));

	if (!known)
		return NULL;
	known->context = context;
	known->process = l->first_process;
	HASH_ADD(hh, l->contexts, context, sizeof(known->context), known);
	if (hash__has(known))
		return known;
	free(known);
	return NULL;
}

static int say(const struct context_list *l, struct trace_record head,
	       const struct known_context *known)
{
	const struct engine_context c = {
		.context = known->context,
		.key = known->key,
		.model_key = known->model_key,
		.replica_of = known->replica_of,
	};

	return model_record__context(l->writer, head, known->process, &c);
}

int context_list__introduce(struct context_list *l, struct trace_record head, uint32_t context)
{
	struct known_context *known = find(l, context);

	if (known)
		return 0;
	known = add(l, context);
	return known ? say(l, head, known) : -ENOMEM;
}

int context_list__describe(struct context_list *l, struct trace_record head, uint32_t context,
			   const struct engine_context *c)
{
	struct known_context *known = find(l, context);
	uint64_t key = known && !c->key ? known->key : c->key;
	uint32_t process = process_of(l, c->pid);

	if (known && known->key == key && known->model_key == c->model_key &&
	    known->replica_of == c->replica_of && known->process == process)
		return 0;
	if (!known)
		known = add(l, context);
	if (!known)
		return -ENOMEM;
	known->process = process;
	known->key = key;
	known->model_key = c->model_key;
	known->replica_of = c->replica_of;
	return say(l, head, known);
}

bool context_list__is_replica(const struct context_list *l, uint32_t context)
{
	const struct known_context *known = find(l, context);

	return known && known->replica_of;
}
