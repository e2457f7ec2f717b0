/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An inference engine: does it run here, what does its model look like, where to probe, and
 * how its raw events become requests, steps and routes. All code here runs in the reader,
 * outside the target and without rights. docs/adding-an-engine.md walks through one.
 */
#ifndef MP_ENGINE_ENGINE_H
#define MP_ENGINE_ENGINE_H

#include <stddef.h>
#include <stdint.h>

#include "probe/abi/site.h"
#include "probe/attach/site.h"

struct buffer;
struct error;
struct mapping;
struct mp_event;
struct engine_context;
struct engine_sink;
struct target;

/* One probed place: the kernel's row, and where it is. */
struct engine_site {
	const char *purpose;           /* "router", "rows", "requests": for doctor */
	const struct mapping *library; /* borrowed from the target */
	struct site place;
	struct mp_site row;
	unsigned required; /* 0: attach goes on without it, @without says what is lost */
	const char *without;
};

#define ENGINE_SITES_MAX 16

/* What an engine found in a target. Plain data; pointers borrowed from engine and target. */
struct engine_plan {
	size_t sites;
	struct engine_site site[ENGINE_SITES_MAX];
	char version[64];     /* of the engine, "" if unknown */
	uint8_t build_id[20]; /* of the library with the router */
	uint32_t threads;     /* that run the router operator, ENGINE_UNKNOWN */
	/* Predicted hits of one step: by each of those threads, and by all; < 0: unknown. */
	double hits_per_step_thread, hits_per_step;
};

struct engine; /* per engine, per target: assembly state */

struct engine_ops {
	const char *name;       /* "llama.cpp" */
	const char *looked_for; /* what match() searches, for "no known engine" */

	/* 1 if this engine runs in @t, 0 if not, -errno with @e if that cannot be said. */
	int (*match)(struct target *t, struct error *e);

	/*
	 * Find sites and layouts, verify them, read the model. Called after match() gave 1. The
	 * caller frees *@out by free(). A dense model, stripped symbols, an unsupported release
	 * or a failed layout check is an error by name (EXIT_UNSUPPORTED).
	 */
	int (*open)(struct engine **out, struct target *t, struct engine_plan *plan,
		    struct error *e);

	/* The model as known now; borrowed. NULL if nothing is known before the first event. */
	const struct engine_context *(*model)(const struct engine *g);

	/* The live site table (@MP_SITES rows, shared with the kernel): an engine that learns a
	 * layout at run time writes it here. NULL in a replay. May be NULL. */
	void (*table)(struct engine *g, struct mp_site *table);

	/*
	 * One raw event of @size bytes (untrusted), in ring order. Says what follows from it.
	 * -EPROTO: the target is not what the engine took it for (a layout that no record fits);
	 * failure() says so by name and capture must end. Other -errno: from the sink, -ENOMEM.
	 */
	int (*event)(struct engine *g, const struct mp_event *ev, size_t size,
		     const struct engine_sink *sink);
	/* Why event() gave -EPROTO (EXIT_UNSUPPORTED); borrowed. */
	const struct error *(*failure)(const struct engine *g);

	/* Called about every 50 ms with CLOCK_MONOTONIC: flush what has waited. May be NULL. */
	int (*tick)(struct engine *g, uint64_t now_ns, const struct engine_sink *sink);

	/* No more events: close open steps and requests with @ending. */
	int (*finish)(struct engine *g, uint64_t now_ns, uint32_t ending,
		      const struct engine_sink *sink);

	/* Accepts NULL. */
	void (*free)(struct engine *g);

	/* For raw logs: append to @out what replay() of the same build needs to know of what open()
	 * found. 0, -ENOMEM. Both are NULL where raw logs cannot be replayed. */
	int (*save)(const struct engine *g, struct buffer *out);
	/* An engine without a target, from @size bytes of save() (untrusted: a file). The caller
	 * frees *@out by free(). */
	int (*replay)(struct engine **out, const void *saved, size_t size, struct error *e);
};

/* All engines, in the order in which they are asked; NULL-terminated. engines.c. */
extern const struct engine_ops *const engines[];

/* The engine that runs in @t. None: EXIT_UNSUPPORTED, saying what was looked for. */
int engine__find(const struct engine_ops **out, struct target *t, struct error *e);
/* The engine called @name, whether it matches or not; NULL if there is none. */
const struct engine_ops *engine__by_name(const char *name);

#endif
