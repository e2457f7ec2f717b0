/* SPDX-License-Identifier: BSD-2-Clause */
#include "collector/assembly.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "collector/coverage.h"
#include "collector/loss.h"
#include "collector/stream_sink.h"
#include "collector/trace/writer.h"
#include "probe/abi/event.h"
#include "probe/base/error.h"
#include "probe/engine/engine.h"
#include "probe/engine/sink.h"

struct assembly {
	struct assembly_options o;
	struct mp_site rows[MP_SITES];
	bool previewed; /* the model was said, if it was known */
	struct coverage *coverage;
	struct loss loss;
	struct stream_sink *sink;
	struct engine_sink callbacks;
};

/* Name what went wrong: the engine's word, the writer's, or the number. */
static int failed(struct assembly *a, int err, struct error *e)
{
	if (!err)
		return 0;
	if (err == -EPROTO && a->o.ops->failure) {
		const struct error *why = a->o.ops->failure(a->o.engine);

		if (error__is_set(why) && e && !error__is_set(e))
			*e = *why;
	}
	/* A failed write is remembered by the writer, which alone can name it. */
	if (!error__is_set(e))
		trace_writer__flush(a->o.writer, e);
	return error__set(e, EXIT_FAILED, -err, NULL, "collector: failed to go on: %s",
			  strerror(-err));
}

int assembly__open(struct assembly **out, const struct assembly_options *o, struct error *e)
{
	struct assembly *a = calloc(1, sizeof(*a));
	struct stream_sink_options sink;
	int err = -ENOMEM;

	*out = NULL;
	if (!a)
		return error__set(e, EXIT_FAILED, ENOMEM, NULL, "collector: out of memory");
	a->o = *o;
	a->coverage = coverage__new();
	sink = (struct stream_sink_options){
		.writer = o->writer,
		.coverage = a->coverage,
		.loss = &a->loss,
		.source = o->source,
		.begin_ns = o->attached_ns,
		.refresh = o->refresh,
		.ctx = o->ctx,
	};
	a->sink = stream_sink__new(&sink);
	if (a->coverage && a->sink) {
		a->loss.since_ns = o->attached_ns;
		coverage__attached(a->coverage, o->attached_ns);
		stream_sink__set_time(a->sink, o->begin_ns);
		a->callbacks = stream_sink__callbacks(a->sink);
		err = 0;
	}
	if (err) {
		failed(a, err, e);
		assembly__free(a);
		return err;
	}
	*out = a;
	return 0;
}

void assembly__free(struct assembly *a)
{
	if (!a)
		return;
	stream_sink__free(a->sink);
	coverage__free(a->coverage);
	free(a);
}

static int preview(struct assembly *a)
{
	const struct engine_context *model =
		a->o.ops->model && !a->previewed ? a->o.ops->model(a->o.engine) : NULL;

	a->previewed = true;
	return model ? stream_sink__preview(a->sink, model) : 0;
}

int assembly__join(struct assembly *a, pid_t pid, uint32_t process, const struct mp_site *rows,
		   size_t first, size_t count, struct error *e)
{
	int err;

	if (first > MP_SITES || count > MP_SITES - first)
		return error__set(e, EXIT_FAILED, EINVAL, NULL,
				  "collector: failed to take process %d in: no such rows",
				  (int)pid);
	memcpy(a->rows + first, rows, count * sizeof(*rows));
	err = stream_sink__process(a->sink, pid, process);
	return failed(a, err ? err : preview(a), e);
}

int assembly__leave(struct assembly *a, pid_t pid, uint64_t now_ns, struct error *e)
{
	if (!a->o.ops->leave)
		return 0;
	stream_sink__set_time(a->sink, now_ns);
	return failed(
		a,
		a->o.ops->leave(a->o.engine, pid, now_ns, ENGINE_ENDING_TARGET_GONE, &a->callbacks),
		e);
}

int assembly__event(struct assembly *a, const void *event, size_t size, struct error *e)
{
	const struct mp_event *ev = event;

	if (size < sizeof(*ev) || ev->size < sizeof(*ev) || ev->size > size)
		return error__set(e, EXIT_FAILED, EPROTO, NULL,
				  "collector: failed to take an event: %zu bytes announce %u", size,
				  size < sizeof(*ev) ? 0 : ev->size);
	return failed(a, a->o.ops->event(a->o.engine, ev, ev->size, &a->callbacks), e);
}

void assembly__counters(struct assembly *a, const struct mp_counters *now, size_t rows)
{
	struct loss_news news = loss__take(&a->loss, now, a->rows, rows);

	coverage__lost_routes(a->coverage, news.route_rows);
	coverage__lost_steps(a->coverage, news.steps);
	coverage__invalid_steps(a->coverage, news.invalid_steps);
	coverage__invalid_routes(a->coverage, news.invalid_captures);
}

void assembly__missed(struct assembly *a, uint64_t events)
{
	loss__add(&a->loss, TRACE_UNKNOWN, TRACE_LOSS_CHUNKS,
		  (struct loss_of){ events, LOSS_UNKNOWN, LOSS_UNKNOWN });
}

int assembly__tick(struct assembly *a, uint64_t now_ns, struct error *e)
{
	stream_sink__set_time(a->sink, now_ns);
	if (!a->o.ops->tick)
		return 0;
	return failed(a, a->o.ops->tick(a->o.engine, now_ns, &a->callbacks), e);
}

int assembly__report(struct assembly *a, uint64_t now_ns, struct error *e)
{
	return failed(a, loss__write(&a->loss, a->o.writer, a->o.source, now_ns), e);
}

int assembly__finish(struct assembly *a, enum trace_stop stop, uint64_t now_ns, struct error *e)
{
	uint32_t ending = stop == TRACE_STOP_TARGET_EXIT || stop == TRACE_STOP_TARGET_EXEC
				  ? ENGINE_ENDING_TARGET_GONE
				  : ENGINE_ENDING_CAPTURE_END;
	int err;

	stream_sink__set_time(a->sink, now_ns);
	coverage__detached(a->coverage);
	err = a->o.ops->finish(a->o.engine, now_ns, ending, &a->callbacks);
	/* END even so: whoever reads shall know that this is all. */
	if (!stream_sink__end(a->sink, stop, now_ns) && !err)
		return 0;
	return failed(a, err ? err : -EIO, e);
}

uint64_t assembly__routes(const struct assembly *a)
{
	return stream_sink__routes(a->sink);
}
