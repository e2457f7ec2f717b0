/* SPDX-License-Identifier: BSD-2-Clause */
#include "collector/stream.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "collector/trace/writer.h"
#include "probe/base/error.h"
#include "probe/engine/engine.h"
#include "probe/target/target.h"

#define DRAIN_MS 2000
#define TEXT_MAX 1024

struct stream {
	struct trace_writer *writer;
};

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t stream__now_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

static struct trace_record head_now(void)
{
	return (struct trace_record){ .time_ns = stream__now_ns(), .source = STREAM_SOURCE };
}

static int write_source(struct stream *s)
{
	struct trace_source r = { .head = head_now(), .id = STREAM_SOURCE };
	char host[256];
	struct trace_column column[2];

	if (gethostname(host, sizeof(host)))
		host[0] = '\0';
	host[sizeof(host) - 1] = '\0';
	column[0] = trace_column__text("moeprobe-collector " MOEPROBE_VERSION, &r.tool_length);
	column[1] = trace_column__text(host, &r.host_length);
	return trace_writer__append(s->writer, TRACE_SOURCE, &r, sizeof(r), column, 2);
}

int stream__clock(struct stream *s)
{
	struct trace_clock r = { .head = head_now() };

	r.monotonic_ns = r.head.time_ns;
	r.boot_ns = clock_ns(CLOCK_BOOTTIME);
	r.real_ns = clock_ns(CLOCK_REALTIME);
	return trace_writer__append(s->writer, TRACE_CLOCK, &r, sizeof(r), NULL, 0);
}

struct stream_process stream_process__of(uint32_t process, const char *engine,
					 const struct target_info *info,
					 const struct engine_plan *plan)
{
	struct stream_process p = {
		.process = process,
		.pid = (uint32_t)info->pid,
		.parent = info->parent > 0 ? (uint32_t)info->parent : 0,
		.rank_tensor = plan->rank_tensor,
		.rank_pipeline = plan->rank_pipeline,
		.rank_data = plan->rank_data,
		.rank_expert = plan->rank_expert,
		.start_ticks = info->start_ticks,
		.pid_namespace_inode = info->pid_namespace_inode,
	};

	snprintf(p.engine, sizeof(p.engine), "%s", engine);
	snprintf(p.version, sizeof(p.version), "%s", plan->version);
	snprintf(p.command, sizeof(p.command), "%s", info->command);
	snprintf(p.role, sizeof(p.role), "%s", plan->role);
	memcpy(p.build_id, plan->build_id, sizeof(p.build_id));
	return p;
}

int stream__process(struct stream *s, const struct stream_process *p)
{
	struct trace_process r = {
		.head = head_now(),
		.process = p->process,
		.pid = p->pid,
		.parent = p->parent ? p->parent : TRACE_UNKNOWN,
		.rank_tensor = p->rank_tensor,
		.rank_pipeline = p->rank_pipeline,
		.rank_data = p->rank_data,
		.rank_expert = p->rank_expert,
		.start_ticks = p->start_ticks,
		.pid_namespace_inode = p->pid_namespace_inode,
	};
	struct trace_column column[] = {
		trace_column__text(p->engine, &r.engine_length),
		trace_column__text(p->version, &r.version_length),
		trace_column__text(p->command, &r.command_length),
		trace_column__text(p->role, &r.role_length),
	};

	memcpy(r.build_id, p->build_id, sizeof(r.build_id));
	return trace_writer__append(s->writer, TRACE_PROCESS, &r, sizeof(r), column, 4);
}

int stream__finding(struct stream *s, enum trace_status status, uint32_t pid, const char *area,
		    const char *name, const char *remedy, const char *value, ...)
{
	struct trace_finding r = { .head = head_now(), .status = status, .pid = pid };
	struct trace_column column[4];
	char text[TEXT_MAX];
	va_list args;

	va_start(args, value);
	vsnprintf(text, sizeof(text), value, args);
	va_end(args);
	column[0] = trace_column__text(area, &r.area_length);
	column[1] = trace_column__text(name, &r.name_length);
	column[2] = trace_column__text(text, &r.value_length);
	column[3] = trace_column__text(remedy, &r.remedy_length);
	return trace_writer__append(s->writer, TRACE_FINDING, &r, sizeof(r), column, 4);
}

int stream__open(struct stream **out, int fd, uint32_t queue_bytes, struct error *e)
{
	struct trace_writer_options options = { .codec = TRACE_CODEC_ZSTD };
	struct stream *s;
	struct stat st;
	int err;

	*out = NULL;
	s = calloc(1, sizeof(*s));
	if (!s)
		return error__set(e, EXIT_FAILED, ENOMEM, NULL, "collector: out of memory");
	if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
		options.codec = TRACE_CODEC_NONE; /* whoever reads a pipe decodes it at once */
		options.queue_bytes = queue_bytes;
	}
	err = trace_writer__open(&s->writer, fd, "standard output", &options, e);
	if (!err)
		err = write_source(s);
	if (!err)
		err = stream__clock(s);
	if (err) {
		stream__free(s);
		return error__set(e, EXIT_FAILED, -err, NULL,
				  "collector: failed to begin the stream: %s", strerror(-err));
	}
	*out = s;
	return 0;
}

void stream__free(struct stream *s)
{
	if (!s)
		return;
	trace_writer__free(s->writer);
	free(s);
}

struct trace_writer *stream__writer(struct stream *s)
{
	return s->writer;
}

int stream__close(struct stream *s, enum trace_stop stop, struct error *e)
{
	struct trace_end r = { .head = head_now(), .stop = stop };
	int err;

	r.records = trace_writer__records(s->writer);
	err = trace_writer__append(s->writer, TRACE_END, &r, sizeof(r), NULL, 0);
	return err ? trace_writer__flush(s->writer, e)
		   : trace_writer__drain(s->writer, DRAIN_MS, e);
}
