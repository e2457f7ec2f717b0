/* SPDX-License-Identifier: BSD-2-Clause */
/* A small stream of known content, written by the real writer and read by the real reader. */
#ifndef MP_TESTS_SYNTHETIC_H
#define MP_TESTS_SYNTHETIC_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "collector/trace/layout.h"
#include "collector/trace/reader.h"
#include "collector/trace/writer.h"

#define SECOND 1000000000ull

struct synthetic {
	int fd;
	struct trace_writer *writer;
	uint64_t now_ns;
	uint64_t steps;
	uint32_t context;   /* of steps and routes; 0: 1 */
	uint64_t model_key; /* of the next models */
	int error;          /* the first one */
};

static inline uint32_t synthetic__context(const struct synthetic *s)
{
	return s->context ? s->context : 1;
}

static inline struct trace_record synthetic__head(const struct synthetic *s, uint32_t flags)
{
	return (struct trace_record){ .time_ns = s->now_ns, .source = 1, .flags = flags };
}

static inline void synthetic__add(struct synthetic *s, enum trace_type type, void *record,
				  size_t size, const struct trace_column *column, size_t columns)
{
	int err = trace_writer__append(s->writer, type, record, size, column, columns);

	if (!s->error)
		s->error = err;
}

static inline void synthetic__model(struct synthetic *s, uint32_t context, uint32_t layers,
				    const uint16_t *ids, uint32_t experts, uint32_t k)
{
	static const char name[] = "tiny\033[31m";
	struct trace_context c = { .head = synthetic__head(s, 0),
				   .context = context,
				   .process = 7,
				   .model_key = s->model_key };
	struct trace_model m = {
		.head = synthetic__head(s, TRACE_MODEL_FROM_FILE),
		.context = context,
		.layers = layers,
		.experts = experts,
		.k = k,
		.shared_experts = TRACE_UNKNOWN,
		.vocabulary = 100,
		.blocks = layers + 1,
		.normalised = 1,
		.architecture_length = 5,
		.name_length = sizeof(name) - 1,
		.path_length = 0,
		.quantisation_length = 3,
	};
	struct trace_column column[] = { { ids, layers * sizeof(*ids) },
					 { "olmoe", 5 },
					 { name, sizeof(name) - 1 },
					 { "", 0 },
					 { "F32", 3 },
					 { "", 0 } };

	synthetic__add(s, TRACE_CONTEXT, &c, sizeof(c), NULL, 0);
	synthetic__add(s, TRACE_MODEL, &m, sizeof(m), column, 6);
}

/* A source, a process 7 with pid 1234 of "llama.cpp" "b1", and a model in context 1 with MoE layers
 * 1 and 2. Stream time is 100 s. */
static inline void synthetic__begin(struct synthetic *s, uint32_t experts, uint32_t k)
{
	static const uint16_t ids[] = { 1, 2 };
	struct trace_writer_options options = { .codec = TRACE_CODEC_ZSTD };
	struct trace_source source = { .id = 1, .tool_length = 4, .host_length = 4 };
	struct trace_process process = {
		.process = 7,
		.pid = 1234,
		.parent = TRACE_UNKNOWN,
		.engine_length = 9,
		.version_length = 2,
		.command_length = 6,
	};

	memset(s, 0, sizeof(*s));
	s->now_ns = 100 * SECOND;
	s->fd = memfd_create("synthetic", 0);
	s->error = trace_writer__open(&s->writer, s->fd, "synthetic", &options, NULL);
	source.head = synthetic__head(s, 0);
	process.head = synthetic__head(s, 0);
	synthetic__add(s, TRACE_SOURCE, &source, sizeof(source),
		       (struct trace_column[]){ { "test", 4 }, { "host", 4 } }, 2);
	synthetic__add(s, TRACE_PROCESS, &process, sizeof(process),
		       (struct trace_column[]){ { "llama.cpp", 9 }, { "b1", 2 }, { "server", 6 } },
		       3);
	synthetic__model(s, 1, 2, ids, experts, k);
}

static inline void synthetic__request(struct synthetic *s, uint32_t request, uint32_t slot)
{
	static const int32_t tokens[] = { 5, 6, 7 };
	struct trace_request_begin b = {
		.head = synthetic__head(s, 0),
		.request = request,
		.context = 1,
		.sequence = slot,
		.slot = slot,
		.task = 40 + request,
		.cached = 2,
		.prompt = 3,
		.prompt_known = 3,
		.begin_ns = s->now_ns,
		.client_id_length = 10,
	};

	synthetic__add(s, TRACE_REQUEST_BEGIN, &b, sizeof(b),
		       (struct trace_column[]){ { "chatcmpl-x", 10 }, { tokens, sizeof(tokens) } },
		       2);
}

/* One step of @rows rows of @request; returns its number. */
static inline uint64_t synthetic__step(struct synthetic *s, uint32_t request, uint32_t rows,
				       uint32_t position, uint8_t phase)
{
	uint32_t sequences[4096], requests[4096], positions[4096];
	int32_t tokens[4096];
	uint8_t phases[4096], flags[4096];
	struct trace_step step = {
		.head = synthetic__head(s, TRACE_STEP_TOKENS),
		.step = ++s->steps,
		.begin_ns = s->now_ns,
		.end_ns = s->now_ns,
		.context = synthetic__context(s),
		.rows = rows,
	};

	for (uint32_t i = 0; i < rows; i++) {
		sequences[i] = 3;
		requests[i] = request;
		positions[i] = position + i;
		tokens[i] = 9;
		phases[i] = phase;
		flags[i] = TRACE_ROW_OUTPUT;
	}
	synthetic__add(s, TRACE_STEP, &step, sizeof(step),
		       (struct trace_column[]){ { sequences, rows * 4 },
						{ requests, rows * 4 },
						{ positions, rows * 4 },
						{ phases, rows },
						{ flags, rows },
						{ tokens, rows * 4 } },
		       6);
	return step.step;
}

/* All rows of the step choose the same @k experts with the same @weights (NULL: not known). */
static inline void synthetic__route(struct synthetic *s, uint64_t step, uint32_t layer,
				    uint32_t rows, uint32_t k, const uint8_t *experts,
				    const float *weights)
{
	uint8_t ids[8192];
	float gate[8192];
	struct trace_route r = {
		.head = synthetic__head(s,
					TRACE_ROUTE_ALL_ROWS | (weights ? TRACE_ROUTE_WEIGHTS : 0)),
		.step = step,
		.context = synthetic__context(s),
		.layer = layer,
		.rows = rows,
		.k = k,
	};

	for (uint32_t i = 0; i < rows * k; i++) {
		ids[i] = experts[i % k];
		gate[i] = weights ? weights[i % k] : 0;
	}
	synthetic__add(s, TRACE_ROUTE, &r, sizeof(r),
		       (struct trace_column[]){ { NULL, 0 },
						{ ids, rows * k },
						{ gate, weights ? rows * k * 4 : 0 },
						{ NULL, 0 } },
		       4);
}

static inline void synthetic__finish_request(struct synthetic *s, uint32_t request, uint32_t rows)
{
	struct trace_request_end n = {
		.head = synthetic__head(s, 0),
		.request = request,
		.ending = TRACE_ENDING_RELEASED,
		.rows = rows,
		.tokens = rows + 1,
	};

	synthetic__add(s, TRACE_REQUEST_END, &n, sizeof(n), NULL, 0);
}

static inline void synthetic__end(struct synthetic *s)
{
	struct trace_end n = { .head = synthetic__head(s, 0),
			       .stop = TRACE_STOP_ASKED,
			       .records = 99,
			       .steps = s->steps };

	synthetic__add(s, TRACE_END, &n, sizeof(n), NULL, 0);
}

/* Numbers that break things more often than others do. */
static inline uint32_t synthetic__odd(void)
{
	static const uint32_t odd[] = { 0,   1,     2,        3,         7,         8,
					255, 65535, 1u << 20, INT32_MAX, UINT32_MAX };

	return rand() % 4 ? odd[(size_t)rand() % (sizeof(odd) / sizeof(*odd))] : (uint32_t)rand();
}

/*
 * @records records of a right layout whose fixed parts and columns are random (from a fixed seed).
 * What the writer refuses (a length that its columns do not have) is left out.
 */
static inline void synthetic__noise(struct synthetic *s, unsigned records)
{
	static uint8_t bytes[65536];
	uint32_t record[64];

	srand(7);
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(rand() % 3 ? rand() % 10 : rand());
	for (unsigned i = 0; i < records; i++) {
		enum trace_type type = (enum trace_type)(1 + rand() % 21);
		const struct trace_layout *l = trace_layout__find(type);
		uint64_t size[TRACE_COLUMNS_MAX];
		struct trace_column column[TRACE_COLUMNS_MAX];
		struct trace_record *head = (struct trace_record *)record;
		bool fits = l && type != TRACE_END;
		size_t columns;

		for (size_t j = 0; j < 64; j++)
			record[j] = synthetic__odd();
		/* Mostly what a stream of this model could have, so that more than lookups fail. */
		head->time_ns =
			rand() % 50 ? s->now_ns + (uint64_t)(rand() % 1000000) : head->time_ns;
		head->flags = (uint32_t)rand() % 256;
		for (size_t j = 6; j < 32 && rand() % 3; j++)
			record[j] = (uint32_t)rand() % 9;
		if (!fits || trace_layout__measure(l, record, size, &columns) > sizeof(bytes))
			continue;
		for (size_t j = 0; j < columns; j++)
			column[j] = (struct trace_column){ bytes + rand() % 8 * 64, size[j] };
		for (size_t j = 0; j < columns; j++)
			fits &= size[j] + 512 < sizeof(bytes);
		if (fits &&
		    !trace_writer__append(s->writer, type, record, l->size, column, columns))
			s->now_ns += 1000;
	}
}

/* Flush, rewind, free the writer: the stream can be read from fd. */
static inline int synthetic__done(struct synthetic *s)
{
	int err = trace_writer__flush(s->writer, NULL);

	trace_writer__free(s->writer);
	s->writer = NULL;
	lseek(s->fd, 0, SEEK_SET);
	return s->error ? s->error : err;
}

/* Hand every record to @take; the number of records, or its first error. */
static inline int synthetic__read(int fd, int (*take)(void *ctx, const struct trace_item *item),
				  void *ctx)
{
	struct trace_reader *r;
	struct trace_item item;
	int got, records = 0, err;

	if (trace_reader__open(&r, fd, "synthetic", NULL))
		return -1;
	while ((got = trace_reader__next(r, &item, NULL)) > 0) {
		records++;
		err = take(ctx, &item);
		if (err) {
			got = err;
			break;
		}
	}
	trace_reader__free(r);
	return got < 0 ? got : records;
}

#endif
