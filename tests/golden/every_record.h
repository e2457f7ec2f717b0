/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A stream with every type of record, every field of which has a value of its own, and with every
 * flag, column and kind of "unknown". Small, and a possible story: two requests in one model, of
 * which one is bound and named late. Golden recordings are made of it: a change here is a change
 * of the test, not of the format.
 */
#ifndef MP_TESTS_EVERY_RECORD_H
#define MP_TESTS_EVERY_RECORD_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "collector/trace/writer.h"

struct every_record {
	struct trace_writer *writer;
	uint64_t now_ns;
	int error; /* the first one */
};

#define EVERY_EXPERTS 300u

static inline struct trace_record every__head(struct every_record *e, uint32_t flags)
{
	e->now_ns += 1000003;
	return (struct trace_record){ .time_ns = e->now_ns, .source = 17, .flags = flags };
}

static inline void every__add(struct every_record *e, enum trace_type type, void *record,
			      size_t size, const struct trace_column *column, size_t columns)
{
	int err = trace_writer__append(e->writer, type, record, size, column, columns);

	if (!e->error)
		e->error = err;
}

#define EVERY(e, type, record, ...) \
	do { \
		const struct trace_column every_columns[] = { __VA_ARGS__ }; \
\
		every__add(e, type, &(record), sizeof(record), every_columns, \
			   sizeof(every_columns) / sizeof(*every_columns)); \
	} while (0)
#define EVERY_PLAIN(e, type, record) every__add(e, type, &(record), sizeof(record), NULL, 0)
#define EVERY_TEXT(text) \
	{ \
		text, sizeof(text) - 1 \
	}

static inline void every__origin(struct every_record *e)
{
	struct trace_source source = { every__head(e, 0), 17, 8, 4 };
	struct trace_clock clock = { every__head(e, 0), 1001, 2002, 1700000000000000003 };
	struct trace_finding finding = { .head = every__head(e, 0),
					 .status = TRACE_STATUS_WARN,
					 .pid = 4242,
					 .area_length = 4,
					 .name_length = 5,
					 .value_length = 6,
					 .remedy_length = 7 };
	struct trace_process process = { .head = every__head(e, 0),
					 .process = 31,
					 .pid = 4242,
					 .parent = 4241,
					 .rank_tensor = 2,
					 .start_ticks = 987654321,
					 .pid_namespace_inode = 4026531836,
					 .build_id = { 0xab, 0xcd, [19] = 0xef },
					 .engine_length = 9,
					 .version_length = 3,
					 .command_length = 6,
					 .role_length = 6,
					 .rank_pipeline = 3,
					 .rank_data = TRACE_UNKNOWN,
					 .rank_expert = 5 };
	struct trace_context context = { .head = every__head(e, 0),
					 .context = 41,
					 .process = 31,
					 .key = 0x7f0011223344,
					 .model_key = 0x7f0055667788,
					 .replica_of = 40 };

	EVERY(e, TRACE_SOURCE, source, EVERY_TEXT("tool 1.2"), EVERY_TEXT("host"));
	EVERY_PLAIN(e, TRACE_CLOCK, clock);
	EVERY(e, TRACE_FINDING, finding, EVERY_TEXT("area"), EVERY_TEXT("fname"),
	      EVERY_TEXT("fvalue"), EVERY_TEXT("fremedy"));
	EVERY(e, TRACE_PROCESS, process, EVERY_TEXT("llama.cpp"), EVERY_TEXT("b99"),
	      EVERY_TEXT("server"), EVERY_TEXT("worker"));
	EVERY_PLAIN(e, TRACE_CONTEXT, context);
}

static inline void every__model(struct every_record *e)
{
	static const uint16_t layer_ids[] = { 1, 300 }, ordinal[] = { 0 };
	struct trace_model model = {
		.head = every__head(e, TRACE_MODEL_FROM_FILE),
		.context = 41,
		.layers = 2,
		.experts = EVERY_EXPERTS,
		.k = 2,
		.shared_experts = 3,
		.vocabulary = 50304,
		.blocks = 302,
		.normalised = 1,
		.architecture_length = 5,
		.name_length = 5,
		.path_length = 11,
		.quantisation_length = 4,
		.gate = TRACE_GATE_SIGMOID,
		.groups = 8,
		.groups_used = 4,
		.scale = 2.5f,
		.model_digest = { 0x11, [31] = 0x12 },
		.tokenizer_digest = { 0x21, [31] = 0x22 },
		.kv_type_length = 8,
	};
	struct trace_context other = {
		.head = every__head(e, 0), .context = 42, .process = 31, .key = 0x7f0011223345
	};
	struct trace_model counted = {
		.head = every__head(e, TRACE_MODEL_ORDINALS),
		.context = 42,
		.layers = 1,
		.experts = 8,
		.k = 2,
		.shared_experts = TRACE_UNKNOWN,
		.vocabulary = TRACE_UNKNOWN,
		.blocks = TRACE_UNKNOWN,
		.normalised = TRACE_UNKNOWN,
		.groups = TRACE_UNKNOWN,
		.groups_used = TRACE_UNKNOWN,
		.scale = NAN,
	};
	struct trace_sequence sequence = { every__head(e, 0), 51, 41, 6, 7 };
	struct trace_sequence unknown = { every__head(e, 0), 52, 41, TRACE_UNKNOWN, TRACE_UNKNOWN };

	EVERY(e, TRACE_MODEL, model, { layer_ids, sizeof(layer_ids) }, EVERY_TEXT("olmoe"),
	      EVERY_TEXT("mname"), EVERY_TEXT("/m/one.gguf"), EVERY_TEXT("Q4_K"),
	      EVERY_TEXT("q8_0/f16"));
	EVERY_PLAIN(e, TRACE_CONTEXT, other);
	EVERY(e, TRACE_MODEL, counted, { ordinal, sizeof(ordinal) }, { NULL, 0 }, { NULL, 0 },
	      { NULL, 0 }, { NULL, 0 }, { NULL, 0 });
	EVERY_PLAIN(e, TRACE_SEQUENCE, sequence);
	EVERY_PLAIN(e, TRACE_SEQUENCE, unknown);
}

static inline void every__begin(struct every_record *e)
{
	static const int32_t prompt[] = { 11, 12, 13 };
	struct trace_request_begin begin = {
		.head = every__head(e, 0),
		.request = 61,
		.context = 41,
		.sequence = 51,
		.slot = 6,
		.task = 71,
		.cached = 1,
		.prompt = 3,
		.prompt_known = 3,
		.begin_ns = 123456,
		.client_id_length = 7,
		.temperature = 0.7f,
		.top_p = 0.95f,
		.top_k = 40,
		.max_tokens = 128,
	};
	struct trace_request_begin before = {
		.head = every__head(e, TRACE_REQUEST_BEFORE_ATTACH),
		.request = 62,
		.context = 41,
		.sequence = TRACE_UNKNOWN,
		.slot = TRACE_UNKNOWN,
		.task = TRACE_UNKNOWN,
		.cached = TRACE_UNKNOWN,
		.prompt = TRACE_UNKNOWN,
		.begin_ns = UINT64_MAX,
		.temperature = NAN,
		.top_p = NAN,
		.top_k = TRACE_UNKNOWN,
		.max_tokens = TRACE_UNKNOWN,
	};
	struct trace_bind bind = { every__head(e, 0),     51, 61, 1, TRACE_EXACT,
				   TRACE_ORIGIN_LOG_LINE, 0 };

	EVERY(e, TRACE_REQUEST_BEGIN, begin, EVERY_TEXT("chat-61"), { prompt, sizeof(prompt) });
	EVERY(e, TRACE_REQUEST_BEGIN, before, { NULL, 0 }, { NULL, 0 });
	EVERY_PLAIN(e, TRACE_BIND, bind);
}

/* Of the first step: prompt, output, a padding row, one computed on; of the second a row whose
 * request is not known yet. */
static inline void every__steps(struct every_record *e)
{
	static const uint32_t sequence[] = { 51, 51, 51, 51, 52 };
	static const uint32_t request[] = { 61, 61, TRACE_UNKNOWN, TRACE_UNKNOWN, TRACE_UNKNOWN };
	static const uint32_t position[] = { 1, 2, 3, 4, 9 };
	static const uint8_t phase[] = { TRACE_PREFILL, TRACE_PREFILL, TRACE_PHASE_UNKNOWN,
					 TRACE_PHASE_UNKNOWN, TRACE_DECODE };
	static const uint8_t flags[] = { TRACE_ROW_DRAFT | TRACE_ROW_REJECTED, TRACE_ROW_OUTPUT,
					 TRACE_ROW_PADDING, TRACE_ROW_FINISHED, TRACE_ROW_OUTPUT };
	static const int32_t token[] = { 12, 13, -1, 0, 50303 };
	static const uint8_t narrow[] = { 3, 1, 254, 0, 2, 4, 9, TRACE_NO_EXPERT_8 };
	static const uint8_t largest[] = { 255, 1 };
	static const uint16_t wide[] = { 299, TRACE_NO_EXPERT_16 };
	static const float weight[] = { 0.75f, 0.25f, 0.5f, 0.5f, 1.0f, 0.125f, 3.0f, 0 };
	static const float score[] = { -2.5f, 0 };
	static const uint8_t ties[] = { 0, TRACE_ROUTE_ROW_TIE, 0, 0 };
	static const uint32_t row[] = { 1 };
	struct trace_step step = {
		every__head(e, TRACE_STEP_TOKENS), 1, 5001, 5002, 41, 4, 0, 2, 1ull << 40
	};
	struct trace_step last = { every__head(e, TRACE_STEP_TOKENS),
				   2,
				   6001,
				   6002,
				   41,
				   1,
				   TRACE_UNKNOWN,
				   TRACE_UNKNOWN,
				   UINT64_MAX };
	struct trace_route all = { every__head(e, TRACE_ROUTE_ALL_ROWS | TRACE_ROUTE_WEIGHTS |
							  TRACE_ROUTE_ROW_FLAGS |
							  TRACE_ROUTE_NO_CHOICE),
				   1,
				   41,
				   1,
				   4,
				   2 };
	struct trace_route raw = { every__head(e, TRACE_ROUTE_WEIGHTS | TRACE_ROUTE_IDS_16 |
							  TRACE_ROUTE_RAW | TRACE_ROUTE_INFERRED |
							  TRACE_ROUTE_NO_CHOICE),
				   1,
				   41,
				   300,
				   1,
				   2 };
	struct trace_route local = {
		every__head(e, TRACE_ROUTE_ALL_ROWS | TRACE_ROUTE_LOCAL), 2, 41, 1, 1, 2
	};
	struct trace_route physical = { every__head(e, TRACE_ROUTE_PHYSICAL), 2, 41, 300, 0, 2 };

	EVERY(e, TRACE_STEP, step, { sequence, 16 }, { request, 16 }, { position, 16 },
	      { phase, 4 }, { flags, 4 }, { token, 16 });
	EVERY(e, TRACE_ROUTE, all, { NULL, 0 }, { narrow, 8 }, { weight, 32 }, { ties, 4 });
	EVERY(e, TRACE_ROUTE, raw, { row, 4 }, { wide, 4 }, { score, 8 }, { NULL, 0 });
	EVERY(e, TRACE_STEP, last, { sequence + 4, 4 }, { request + 4, 4 }, { position + 4, 4 },
	      { phase + 4, 1 }, { flags + 4, 1 }, { token + 4, 4 });
	EVERY(e, TRACE_ROUTE, local, { NULL, 0 }, { largest, 2 }, { NULL, 0 }, { NULL, 0 });
	EVERY(e, TRACE_ROUTE, physical, { NULL, 0 }, { NULL, 0 }, { NULL, 0 }, { NULL, 0 });
}

static inline void every__names(struct every_record *e)
{
	struct trace_bind late = { every__head(e, 0),   52, 62, 0, TRACE_INFERRED,
				   TRACE_ORIGIN_TOKENS, 0 };
	struct trace_bind none = { every__head(e, 0),  52, TRACE_UNKNOWN, 12, TRACE_EXACT,
				   TRACE_ORIGIN_ORDER, 0 };
	struct trace_request_info names = {
		.head = every__head(e, 0),
		.request = 61,
		.certainty = TRACE_INFERRED,
		.origin = TRACE_ORIGIN_HTTP_RESPONSE,
		.client_id_length = 8,
		.request_id_length = 4,
		.trace_id_length = 32,
		.adapter_length = 5,
		.labels_length = 21,
	};
	struct trace_request_info later = {
		.head = every__head(e, 0), .request = 61, .origin = 99, .labels_length = 7
	};

	EVERY_PLAIN(e, TRACE_BIND, late);
	EVERY_PLAIN(e, TRACE_BIND, none);
	EVERY(e, TRACE_REQUEST_INFO, names, EVERY_TEXT("chat-61b"), EVERY_TEXT("x-42"),
	      EVERY_TEXT("4bf92f3577b34da6a3ce929d0e0e4736"), EVERY_TEXT("lora1"),
	      EVERY_TEXT("task=code\nuser=ann\xff\x1b\n"));
	EVERY(e, TRACE_REQUEST_INFO, later, { NULL, 0 }, { NULL, 0 }, { NULL, 0 }, { NULL, 0 },
	      EVERY_TEXT("task=b\n"));
}

static inline void every__ends(struct every_record *e)
{
	static const uint64_t missing[] = { 1, 2, 3, 4, 5, 6, 7, 8, 9 };
	struct trace_request_end end = { every__head(e, 0),
					 61,
					 TRACE_ENDING_RELEASED,
					 2,
					 5,
					 TRACE_FINISH_LENGTH,
					 TRACE_INFERRED,
					 3,
					 2 };
	struct trace_request_end cut = { every__head(e, 0),
					 62,
					 TRACE_ENDING_CAPTURE_END,
					 1,
					 TRACE_UNKNOWN,
					 TRACE_FINISH_UNKNOWN,
					 TRACE_EXACT,
					 TRACE_UNKNOWN,
					 TRACE_UNKNOWN };
	struct trace_coverage coverage = { every__head(e, 0), 61, 1, 47, 2, 9, 41 };
	struct trace_coverage nobody = { every__head(e, 0), 0, 300, 11, 1, 4, 41 };

	EVERY_PLAIN(e, TRACE_REQUEST_END, end);
	EVERY(e, TRACE_COVERAGE, coverage, { missing, sizeof(missing) });
	EVERY_PLAIN(e, TRACE_REQUEST_END, cut);
	EVERY(e, TRACE_COVERAGE, nobody, { missing, 32 });
}

static inline void every__quality(struct every_record *e)
{
	struct trace_loss loss = { every__head(e, 0), TRACE_LOSS_QUEUE, 41, 2, 23, 45, 7001 };
	struct trace_loss kernel = {
		every__head(e, 0), TRACE_LOSS_RING_ROUTES, TRACE_UNKNOWN, 3, UINT64_MAX, 31, 7002
	};
	struct trace_loss later = { every__head(e, 0), 99, 41, 1, 0, UINT64_MAX, 7003 };
	struct trace_invalid invalid = { every__head(e, 0), TRACE_INVALID_WEIGHT, 0, 29 };
	struct trace_cost cost = { every__head(e, 0), 1000000007, 101, 303, 404, 505, 8, 606 };
	struct trace_cost unknown = { every__head(e, 0), 1000000009,   102, UINT64_MAX, 407, 506,
				      TRACE_UNKNOWN,     TRACE_UNKNOWN };
	struct trace_window window = { every__head(e, 0),     4001, 9001, 0.25,
				       TRACE_REASON_GOVERNOR, 41 };
	struct trace_window all = { every__head(e, 0),    4000,         9002, 1,
				    TRACE_REASON_CAPTURE, TRACE_UNKNOWN };
	struct trace_end end = {
		every__head(e, 0), TRACE_STOP_TARGET_EXIT, 0, 33, 2, 5, 4, 6, 6, 29
	};

	EVERY_PLAIN(e, TRACE_LOSS, loss);
	EVERY_PLAIN(e, TRACE_LOSS, kernel);
	EVERY_PLAIN(e, TRACE_LOSS, later);
	EVERY_PLAIN(e, TRACE_INVALID, invalid);
	EVERY_PLAIN(e, TRACE_COST, cost);
	EVERY_PLAIN(e, TRACE_COST, unknown);
	EVERY_PLAIN(e, TRACE_WINDOW, window);
	EVERY_PLAIN(e, TRACE_WINDOW, all);
	EVERY_PLAIN(e, TRACE_END, end);
}

/* All of it. 0, or the writer's first error. COUNTS are made of it by the reducer. */
static inline int every__write(struct trace_writer *w)
{
	struct every_record e = { .writer = w, .now_ns = 1000000000 };

	every__origin(&e);
	every__model(&e);
	every__begin(&e);
	every__steps(&e);
	every__names(&e);
	every__ends(&e);
	every__quality(&e);
	return e.error;
}

#endif
