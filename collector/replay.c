/* SPDX-License-Identifier: BSD-2-Clause */
#include "collector/replay.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "collector/assembly.h"
#include "collector/raw_log.h"
#include "collector/stream.h"
#include "collector/trace/writer.h"
#include "probe/base/error.h"
#include "probe/engine/engine.h"

struct replay {
	struct raw_log_reader *log;
	const struct engine_ops *ops;
	struct engine *engine;
	struct stream *stream;
	struct assembly *assembly;
	enum trace_stop stop;
	bool stopped;
	uint64_t now_ns;
	int err; /* of what was read in the middle of an entry */
};

static int open_engine(struct replay *r, struct error *e)
{
	const struct raw_log_header *h = raw_log__header(r->log);

	r->ops = engine__by_name(h->engine);
	if (!r->ops || !r->ops->replay)
		return error__set(
			e, EXIT_UNSUPPORTED, ENOTSUP, NULL,
			"collector: failed to replay: no engine '%s' that can be replayed",
			h->engine);
	return r->ops->replay(&r->engine, raw_log__saved(r->log), h->saved_bytes, e);
}

static int take_counters(struct replay *r, const void *bytes, size_t size)
{
	if (size % sizeof(struct mp_counters) || size > MP_SITES * sizeof(struct mp_counters))
		return -EBADMSG;
	assembly__counters(r->assembly, bytes, size / sizeof(struct mp_counters));
	return 0;
}

/* Before a request's coverage is said the counters are read: what was read then is in the log
 * behind the entry that ended the request. */
static void refresh(void *ctx)
{
	struct replay *r = ctx;
	const void *bytes;
	size_t size;
	int got = raw_log__next_if(r->log, RAW_LOG_COUNTERS, &bytes, &size);

	if (got == 1)
		got = take_counters(r, bytes, size);
	if (got < 0)
		r->err = got;
}

static int begin(struct replay *r, int out, struct error *e)
{
	const struct raw_log_header *h = raw_log__header(r->log);
	struct assembly_options o = {
		.source = STREAM_SOURCE,
		.attached_ns = h->attached_ns,
		.begin_ns = h->begin_ns,
		.refresh = refresh,
		.ctx = r,
	};
	int err;

	err = open_engine(r, e);
	if (!err)
		err = stream__open(&r->stream, out, 0, e);
	if (err)
		return err;
	o.writer = stream__writer(r->stream);
	o.ops = r->ops;
	o.engine = r->engine;
	r->now_ns = h->attached_ns;
	return assembly__open(&r->assembly, &o, e);
}

static int take_join(struct replay *r, const void *bytes, size_t size, struct error *e)
{
	const struct raw_log_member *m;
	const struct mp_site *rows;
	const void *saved;
	int err = raw_log__parse_join(bytes, size, &m, &rows, &saved);

	if (err)
		return error__set(e, EXIT_FAILED, EBADMSG, NULL,
				  "collector: failed to replay: what the log says of a process is "
				  "damaged");
	if (!m->opened && r->ops->load_member)
		err = r->ops->load_member(r->engine, (pid_t)m->process.pid, saved, m->saved_bytes,
					  e);
	if (!err)
		err = stream__process(r->stream, &m->process);
	return err ? err
		   : assembly__join(r->assembly, (pid_t)m->process.pid, m->process.process, rows,
				    m->first, m->sites, e);
}

static int take(struct replay *r, uint32_t kind, const void *bytes, size_t size, struct error *e)
{
	uint64_t number[2] = { 0 };

	switch (kind) {
	case RAW_LOG_EVENT:
		return assembly__event(r->assembly, bytes, size, e);
	case RAW_LOG_COUNTERS:
		if (take_counters(r, bytes, size))
			break;
		return 0;
	case RAW_LOG_TICK:
		if (size != sizeof(number[0]))
			break;
		memcpy(&r->now_ns, bytes, sizeof(r->now_ns));
		return assembly__tick(r->assembly, r->now_ns, e);
	case RAW_LOG_STOP:
		if (size != sizeof(number))
			break;
		memcpy(number, bytes, sizeof(number));
		r->now_ns = number[0];
		r->stop = (enum trace_stop)(uint32_t)number[1];
		r->stopped = true;
		return 0;
	case RAW_LOG_JOIN:
		return take_join(r, bytes, size, e);
	case RAW_LOG_LEAVE:
		if (size != sizeof(number))
			break;
		memcpy(number, bytes, sizeof(number));
		r->now_ns = number[0];
		return assembly__leave(r->assembly, (pid_t)number[1], r->now_ns, e);
	case RAW_LOG_REPORT:
		if (size != sizeof(number[0]))
			break;
		memcpy(&r->now_ns, bytes, sizeof(r->now_ns));
		return assembly__report(r->assembly, r->now_ns, e);
	case RAW_LOG_MISSED:
		if (size != sizeof(number[0]))
			break;
		memcpy(number, bytes, sizeof(number[0]));
		assembly__missed(r->assembly, number[0]);
		return 0;
	default:
		break;
	}
	return error__set(e, EXIT_FAILED, EBADMSG, NULL,
			  "collector: failed to replay: an entry of kind %u has %zu bytes", kind,
			  size);
}

/* The events as far as they go; then END in every case. */
static int run(struct replay *r, struct error *e)
{
	const void *bytes;
	uint32_t kind;
	size_t size;
	int got = 0, err = 0, last;

	while (!err && !r->stopped && (got = raw_log__next(r->log, &kind, &bytes, &size)) == 1) {
		err = take(r, kind, bytes, size, e);
		err = err ? err : r->err;
	}
	if (!err && got < 0)
		err = got;
	if (err == -EBADMSG)
		error__set(e, EXIT_FAILED, EBADMSG, NULL,
			   "collector: failed to replay: the log is cut off or damaged");
	if (err)
		r->stop = TRACE_STOP_FAILED;
	last = assembly__finish(r->assembly, r->stop, r->now_ns, e);
	if (!last)
		last = trace_writer__flush(stream__writer(r->stream), e);
	return err ? err : last ? last : r->err;
}

int replay__run(const void *bytes, size_t size, int out, struct error *e)
{
	struct replay r = { .stop = TRACE_STOP_UNKNOWN };
	int err;

	err = raw_log__open(&r.log, bytes, size, e);
	if (!err)
		err = begin(&r, out, e);
	if (!err)
		err = run(&r, e);
	assembly__free(r.assembly);
	if (r.ops && r.engine)
		r.ops->free(r.engine);
	stream__free(r.stream);
	raw_log__free(r.log);
	return err ? error__set(e, EXIT_FAILED, -err, NULL, "collector: failed to replay: %s",
				strerror(-err))
		   : 0;
}

int replay__run_file(int in, int out, struct error *e)
{
	struct stat st;
	void *bytes;
	int err;

	if (fstat(in, &st) || !S_ISREG(st.st_mode) || st.st_size <= 0)
		return error__set(e, EXIT_FAILED, EINVAL, NULL,
				  "collector: failed to replay: not a file, or an empty one");
	bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, in, 0);
	if (bytes == MAP_FAILED)
		return error__set(e, EXIT_FAILED, errno, NULL, "collector: failed to replay: %s",
				  strerror(errno));
	err = replay__run(bytes, (size_t)st.st_size, out, e);
	munmap(bytes, (size_t)st.st_size);
	return err;
}
