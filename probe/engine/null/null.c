/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The engine that does nothing: every callback there is, with the least that is right. Copy this
 * file to begin a new engine; docs/adding-an-engine.md walks through it.
 *
 * It never matches by itself; it runs only where it is asked for by name (engine__by_name). Then
 * it probes nothing, and whatever events come, it counts and drops them.
 */
#include "probe/engine/null/null.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "probe/abi/event.h"
#include "probe/base/error.h"
#include "probe/engine/sink.h"
#include "probe/target/target.h"

/* One for each service: what this engine has learned and what it is in the middle of. */
struct engine {
	uint64_t events;
	struct error failed;
};

/* Look at mapped files and their symbols, never at the process's name. */
static int null_match(struct target *t, struct error *e)
{
	return 0;
}

/* Clear the results first, so that a failure leaves nothing half done. An engine that reads
 * something adds its sites to @plan here, each verified, and reads the model. */
static int null_open(struct engine **out, struct target *t, struct engine_plan *plan,
		     struct error *e)
{
	struct engine *g;

	*out = NULL;
	engine_plan__clear(plan);
	plan->hits_per_step = plan->hits_per_step_thread = 0; /* no sites, no hits */
	g = calloc(1, sizeof(*g));
	if (!g)
		return error__set(e, EXIT_FAILED, ENOMEM, NULL,
				  "null: failed to open process %d: out of memory",
				  (int)target__info(t)->pid);
	*out = g;
	return 0;
}

/* Another process of the service: look at it as open() does, or say that nothing is to be read
 * there. An engine of one process leaves this callback and the next NULL. */
static int null_join(struct engine *g, struct target *t, struct engine_plan *plan, struct error *e)
{
	engine_plan__clear(plan);
	return 0;
}

/* Close what is open in that process, as finish() does for all. */
static int null_leave(struct engine *g, pid_t pid, uint64_t now_ns, uint32_t ending,
		      const struct engine_sink *sink)
{
	return 0;
}

/* Nothing is known about a model. */
static const struct engine_context *null_model(const struct engine *g)
{
	return NULL;
}

/* Events are input from outside: check @size before anything else is read. What fails a check
 * is said to the sink (invalid, lost), never dropped in silence; here no event is expected. */
static int null_event(struct engine *g, const struct mp_event *ev, size_t size,
		      const struct engine_sink *sink)
{
	if (size < sizeof(*ev) || ev->size > size)
		return 0;
	g->events++;
	return 0;
}

/* Never set: null_event does not give -EPROTO. */
static const struct error *null_failure(const struct engine *g)
{
	return &g->failed;
}

/* Close what is open: every request that was begun ends here. */
static int null_finish(struct engine *g, uint64_t now_ns, uint32_t ending,
		       const struct engine_sink *sink)
{
	return 0;
}

/* Nothing was found, so nothing needs to be saved. */
static int null_save(const struct engine *g, struct buffer *out)
{
	return 0;
}

static int null_replay(struct engine **out, const void *saved, size_t size, struct error *e)
{
	*out = calloc(1, sizeof(**out));
	return *out ? 0
		    : error__set(e, EXIT_FAILED, ENOMEM, NULL,
				 "null: failed to replay: out of memory");
}

static void null_free(struct engine *g)
{
	free(g);
}

const struct engine_ops engine_null = {
	.name = "null",
	.looked_for = "", /* nothing: it matches no process */
	.match = null_match,
	.open = null_open,
	.join = null_join,
	.leave = null_leave,
	.model = null_model,
	.table = NULL, /* learns nothing at run time */
	.event = null_event,
	.failure = null_failure,
	.tick = NULL, /* nothing waits */
	.finish = null_finish,
	.save = null_save,
	.replay = null_replay,
	.save_member = NULL, /* join() finds nothing */
	.load_member = NULL,
	.free = null_free,
};
