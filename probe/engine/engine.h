/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An inference engine: does it run here, what does its model look like, where to probe, and
 * how its raw events become requests, steps and routes. All code here runs in the reader,
 * outside the target and without rights. docs/adding-an-engine.md walks through one.
 *
 * What is captured is a service: the process that the command line names, and its descendants.
 * There is one engine object a service, and a plan for each process that takes part in it, a
 * member. Events say by their tgid which member they are of.
 */
#ifndef MP_ENGINE_ENGINE_H
#define MP_ENGINE_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "probe/engine/plan.h"

struct buffer;
struct error;
struct mp_event;
struct engine_context;
struct engine_sink;
struct header_names;
struct target;

struct engine; /* per engine, per service: assembly state */

struct engine_ops {
	const char *name;       /* "llama.cpp" */
	const char *looked_for; /* what match() searches, for "no known engine" */

	/* 1 if this engine runs in @t, 0 if not, -errno with @e if that cannot be said. */
	int (*match)(struct target *t, struct error *e);

	/* True if a process with this command line (@size NUL-separated bytes, untrusted) is of a
	 * service of this engine, whatever match() says of it: it may compute nothing, or have
	 * loaded nothing yet. No other engine takes it then, nor what it started. May be NULL: none
	 * can be told so. */
	bool (*owns)(const char *cmdline, size_t size);

	/*
	 * May a capture begin at @t, the process that was named, with what it started? Asked where
	 * owns() says yes of it, of one above it or of one below it. @found: match() gave 1 for
	 * some of them. 0: yes. 1: yes, and @e says what will not be seen. -errno with @e: no, and
	 * what to name instead, or when. NULL only where owns() is.
	 */
	int (*entrance)(struct target *t, bool found, struct error *e);

	/*
	 * Find sites and layouts, verify them, read the model: once a service, for the first of its
	 * processes (the named one, then its descendants, parents and elders first) in which
	 * match() gave 1. The caller frees *@out by free(). A dense model, stripped symbols, an
	 * unsupported release or a failed layout check is an error by name (EXIT_UNSUPPORTED).
	 * @plan may have no sites: what is read may be in processes that join.
	 */
	int (*open)(struct engine **out, struct target *t, struct engine_plan *plan,
		    struct error *e);

	/* Which headers of requests are to become labels, after open() or replay(); copied. Their
	 * heads come as MP_EVENT_BYTES that were received, of members whose plan says serves_http.
	 * NULL: an engine that cannot say which request of its own a client's request became. */
	void (*headers)(struct engine *g, const struct header_names *names);

	/*
	 * Another process of the same service. 1: it takes part, @plan says with what; 0: there is
	 * nothing to read in it, now; -errno with @e: it should take part and cannot (the user is
	 * told, and the capture goes on). @t stays open until leave() if it gave 1; else it ends
	 * with the call. Called once for each other process at attach, parents first, and for
	 * descendants as they appear; after 0 or an error again when it has become another program
	 * or has mapped further files. After 1 its probes may still fail: leave() follows. NULL: an
	 * engine of one process.
	 */
	int (*join)(struct engine *g, struct target *t, struct engine_plan *plan, struct error *e);

	/*
	 * Member @pid (also that of open()) is no more, or became another program: close what was
	 * open in it with @ending. Its events were all given before; a new process may join with
	 * the same number. May be NULL: all ends with finish().
	 */
	int (*leave)(struct engine *g, pid_t pid, uint64_t now_ns, uint32_t ending,
		     const struct engine_sink *sink);

	/* The model as known now; borrowed. NULL if nothing is known before the first event. */
	const struct engine_context *(*model)(const struct engine *g);

	/* The live rows of member @pid, shared with the kernel: rows[i] is plan.site[i].row. An
	 * engine that learns a layout at run time writes it here; never after leave(), when others
	 * get the rows. mp_event.site and the rows of other members are numbered otherwise. Not
	 * called in a replay. May be NULL. */
	void (*table)(struct engine *g, pid_t pid, struct mp_site *rows);

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

	/* For raw logs: append to @out what replay() of the same build needs of what open() found.
	 * 0, -ENOMEM. Both are NULL where raw logs cannot be replayed. */
	int (*save)(const struct engine *g, struct buffer *out);
	/* An engine without a target, from @size bytes of save() (untrusted). The caller frees. */
	int (*replay)(struct engine **out, const void *saved, size_t size, struct error *e);
	/* The same of one member after join(), for load_member() in a replay. Both may be NULL:
	 * join() left nothing behind that events need. */
	int (*save_member)(const struct engine *g, pid_t pid, struct buffer *out);
	int (*load_member)(struct engine *g, pid_t pid, const void *saved, size_t size,
			   struct error *e);
};

/* All engines, in the order in which they are asked; NULL-terminated. engines.c. */
extern const struct engine_ops *const engines[];

/* The engine whose service @t is part of, by its own command line or by who started it; NULL. */
const struct engine_ops *engine__owner(struct target *t);
/* By its own command line only. */
const struct engine_ops *engine__owner_by_line(const struct target *t);
/* The engine that runs in @t: 1, 0 (none), -errno with @e (that cannot be said). */
int engine__match(const struct engine_ops **out, struct target *t, struct error *e);
/* Say that none runs in @t, nor in the others of @processes that were looked at: what was looked
 * for (EXIT_UNSUPPORTED). Returns -ENOTSUP. */
int engine__not_found(struct target *t, size_t processes, struct error *e);
/* Both. */
int engine__find(const struct engine_ops **out, struct target *t, struct error *e);
/* The engine called @name, whether it matches or not; NULL if there is none. */
const struct engine_ops *engine__by_name(const char *name);

#endif
