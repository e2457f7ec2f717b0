/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The stream, version 1: what a collector says to whoever listens, the same on a pipe, a
 * socket and in a file. This header is the layout; docs/trace-format.md is the contract.
 *
 *   stream = file header, block*                  block = block header, record*
 *
 * Little-endian. Every record begins with struct trace_record, is a multiple of 8 bytes and
 * says its size; readers skip types they do not know and fixed parts that are longer than
 * they know (fields are only ever appended; `fixed` says where the columns begin). Columns
 * follow the fixed part in the order named here, each padded to 8 bytes. Strings are columns
 * of bytes without a NUL, their lengths in the fixed part (*_length).
 */
#ifndef MP_TRACE_RECORDS_H
#define MP_TRACE_RECORDS_H

#include <stdint.h>

#define TRACE_MAGIC "moeprobe"
#define TRACE_VERSION 1
#define TRACE_ENDIAN 0x01020304u
#define TRACE_BLOCK_MAGIC 0x4b4c424du /* "MBLK" */
#define TRACE_HEADER_MAX 4096u        /* bytes of a file or block header, at most */
#define TRACE_BLOCK_MAX (16u << 20)   /* bytes of a block, stored or decoded, at most */
#define TRACE_COLUMNS_MAX 8           /* columns of a record, at most */
#define TRACE_UNKNOWN UINT32_MAX      /* "not known" in 32-bit columns; unsigned 64: UINT64_MAX */

struct trace_file_header {
	char magic[8];
	uint16_t version;
	uint16_t size;     /* of this header: where the first block begins */
	uint32_t endian;   /* TRACE_ENDIAN */
	uint64_t features; /* none yet; unknown bits are ignored */
	uint32_t crc;      /* CRC-32 (zlib) of this header with crc = 0 */
	uint32_t reserved;
};
_Static_assert(sizeof(struct trace_file_header) == 32, "file format");

enum trace_codec { TRACE_CODEC_NONE = 0, TRACE_CODEC_ZSTD = 1 };

struct trace_block_header {
	uint32_t magic;
	uint16_t size;          /* of this header */
	uint16_t codec;         /* enum trace_codec */
	uint32_t stored_bytes;  /* following this header */
	uint32_t decoded_bytes; /* after decoding */
	uint32_t crc;      /* CRC-32 (zlib) of this header with crc = 0, then the stored bytes */
	uint32_t records;  /* at least 1 */
	uint64_t first_ns; /* smallest and largest time_ns of its records */
	uint64_t last_ns;
};
_Static_assert(sizeof(struct trace_block_header) == 40, "file format");

/* X(id, NAME, struct suffix). Ids are never reused. */
#define TRACE_RECORDS(X) \
	X(1, SOURCE, source) \
	X(2, PROCESS, process) \
	X(3, CONTEXT, context) \
	X(4, MODEL, model) \
	X(5, SEQUENCE, sequence) \
	X(6, BIND, bind) \
	X(7, REQUEST_BEGIN, request_begin) \
	X(8, REQUEST_END, request_end) \
	X(9, STEP, step) \
	X(10, ROUTE, route) \
	X(12, CLOCK, clock) \
	X(13, LOSS, loss) \
	X(14, INVALID, invalid) \
	X(15, COST, cost) \
	X(16, COVERAGE, coverage) \
	X(17, END, end) \
	X(18, COUNTS, counts) \
	X(19, FINDING, finding) \
	X(20, REQUEST_INFO, request_info) \
	X(21, WINDOW, window)
/* 11 is kept for LAUNCH. */

enum trace_type {
#define X(id, name, suffix) TRACE_##name = (id),
	TRACE_RECORDS(X)
#undef X
};

struct trace_record {
	uint16_t type;
	uint16_t fixed;   /* bytes of the fixed part, this head included */
	uint32_t size;    /* bytes of the whole record */
	uint64_t time_ns; /* CLOCK_MONOTONIC of the collector's host */
	uint32_t source;  /* id given by SOURCE */
	uint32_t flags;   /* by type */
};
_Static_assert(sizeof(struct trace_record) == 24, "file format");

/* One writer of records. Columns: tool[tool_length], host[host_length]. */
struct trace_source {
	struct trace_record head;
	uint32_t id;
	uint16_t tool_length, host_length;
};

/* A process that we read; of a service of many, each has one. Columns: engine, version, command
 * (name, not its arguments), role ("worker"). */
struct trace_process {
	struct trace_record head;
	uint32_t process; /* id in this stream */
	uint32_t pid;
	uint32_t parent;      /* pid, TRACE_UNKNOWN */
	uint32_t rank_tensor; /* in each kind of parallelism, TRACE_UNKNOWN where it has none */
	uint64_t start_ticks; /* field 22 of /proc/PID/stat */
	uint64_t pid_namespace_inode;
	uint8_t build_id[20]; /* of the library that holds the router; zero: none */
	uint16_t engine_length, version_length, command_length, role_length;
	uint32_t rank_pipeline, rank_data, rank_expert;
};

/* One loaded model, or a part or copy of one, in one process. `key` is the engine's own (an
 * address: identity only). */
struct trace_context {
	struct trace_record head;
	uint32_t context;
	uint32_t process;
	uint64_t key;
	uint64_t model_key;  /* the same in all contexts of one loaded model; 0: it is all of it */
	uint32_t replica_of; /* context whose routing this one repeats: it has no steps. 0: none */
	uint32_t reserved;
};

/* X(id, NAME, text): how a router makes weights of its scores. */
#define TRACE_GATES(X) \
	X(0, UNKNOWN, "unknown") \
	X(1, SOFTMAX, "softmax over all experts, then the choice") \
	X(2, SIGMOID, "sigmoid of each score") \
	X(3, SOFTMAX_CHOSEN, "the choice, then softmax over the chosen") \
	X(4, SQRT_SOFTPLUS, "square root of the softplus of each score")

enum trace_gate {
#define X(id, name, text) TRACE_GATE_##name = (id),
	TRACE_GATES(X)
#undef X
};

/* What the model looks like. Columns: layer_ids u16[layers] (the model's own, or ordinals),
 * architecture, name, path, quantisation, kv_type. TRACE_UNKNOWN where unknown. */
#define TRACE_MODEL_FROM_FILE 1u /* else: seen only in the captured tensors so far */
#define TRACE_MODEL_ORDINALS 2u  /* layer numbers count MoE layers as they were computed */
struct trace_model {
	struct trace_record head;
	uint32_t context;
	uint32_t layers; /* MoE layers */
	uint32_t experts, k, shared_experts;
	uint32_t vocabulary;
	uint32_t blocks;     /* all transformer layers, dense ones included */
	uint32_t normalised; /* 1: weights of a token sum to 1; 0: not; TRACE_UNKNOWN */
	uint16_t architecture_length, name_length, path_length, quantisation_length;
	uint32_t gate;                /* enum trace_gate */
	uint32_t groups, groups_used; /* of experts: in all, chosen a token; 1, 1: not grouped */
	float scale;                  /* that weights are multiplied with at last; NaN: unknown */
	uint8_t model_digest[32];     /* SHA-256; zero: unknown */
	uint8_t tokenizer_digest[32];
	uint16_t kv_type_length;
	uint16_t reserved[3];
};

/* A row's owner in the engine's own terms. */
struct trace_sequence {
	struct trace_record head;
	uint32_t sequence; /* id in this stream */
	uint32_t context;
	uint32_t slot;  /* the engine's key, TRACE_UNKNOWN */
	uint32_t epoch; /* counts re-uses of the slot, from 0, TRACE_UNKNOWN */
};

enum trace_certainty { TRACE_EXACT = 0, TRACE_INFERRED = 1 };

/* X(id, NAME, text): where an identity was seen. */
#define TRACE_ORIGINS(X) \
	X(0, UNKNOWN, "unknown") \
	X(1, LOG_LINE, "a line of the server's log") \
	X(2, QUEUED_TASK, "the server's queue of tasks") \
	X(3, HTTP_RESPONSE, "an HTTP response of the server") \
	X(4, HTTP_REQUEST, "an HTTP request to the server") \
	X(5, MESSAGE, "a message between the server's processes") \
	X(6, TOKENS, "equal tokens") \
	X(7, ORDER, "the order of events") \
	X(8, COMMAND, "a command of the operator")

enum trace_origin {
#define X(id, name, text) TRACE_ORIGIN_##name = (id),
	TRACE_ORIGINS(X)
#undef X
};

/* From `position` on, the rows of `sequence` belong to `request`; TRACE_UNKNOWN: to none. */
struct trace_bind {
	struct trace_record head;
	uint32_t sequence;
	uint32_t request;
	uint32_t position;
	uint32_t certainty; /* enum trace_certainty */
	uint32_t origin;    /* enum trace_origin */
	uint32_t reserved;
};

/* A request, said when its first row (so its cached prefix) is known. Columns: client_id,
 * tokens i32[prompt_known] (only with detail tokens). */
#define TRACE_REQUEST_BEFORE_ATTACH 1u /* began before us: task, client, prompt unknown */
struct trace_request_begin {
	struct trace_record head;
	uint32_t request; /* id in this stream, from 1 */
	uint32_t context;
	uint32_t sequence;
	uint32_t slot;
	uint32_t task;         /* the server's number, TRACE_UNKNOWN */
	uint32_t cached;       /* tokens of the prompt taken from the cache, TRACE_UNKNOWN */
	uint32_t prompt;       /* tokens of the prompt, cached included, TRACE_UNKNOWN */
	uint32_t prompt_known; /* entries of the tokens column */
	uint64_t begin_ns;     /* when the server took it up; UINT64_MAX: before us */
	uint16_t client_id_length;
	uint16_t reserved[3];
	float temperature, top_p; /* as asked for; NaN: unknown */
	uint32_t top_k;           /* likewise; 0: not limited; TRACE_UNKNOWN */
	uint32_t max_tokens;      /* to be generated at most, TRACE_UNKNOWN */
};

/* X(id, NAME, text) */
#define TRACE_ENDINGS(X) \
	X(0, UNKNOWN, "unknown") \
	X(1, RELEASED, "released by the server") \
	X(2, REPLACED, "slot taken over without a release seen") \
	X(3, TARGET_GONE, "target ended") \
	X(4, CAPTURE_END, "capture ended")

enum trace_ending {
#define X(id, name, text) TRACE_ENDING_##name = (id),
	TRACE_ENDINGS(X)
#undef X
};

/* X(id, NAME, text): why the server stopped generating. */
#define TRACE_FINISHES(X) \
	X(0, UNKNOWN, "unknown") \
	X(1, STOP, "end of text or a stop word") \
	X(2, LENGTH, "the limit of tokens") \
	X(3, CANCELLED, "cancelled by the client") \
	X(4, ERROR, "an error of the server") \
	X(5, TOOL, "a call of a tool")

enum trace_finish {
#define X(id, name, text) TRACE_FINISH_##name = (id),
	TRACE_FINISHES(X)
#undef X
};

struct trace_request_end {
	struct trace_record head;
	uint32_t request;
	uint32_t ending;            /* enum trace_ending */
	uint32_t rows;              /* rows seen of it */
	uint32_t tokens;            /* tokens of its sequence by the server's word, TRACE_UNKNOWN */
	uint32_t finish;            /* enum trace_finish */
	uint32_t certainty;         /* enum trace_certainty: of what the server said */
	uint32_t prompt, generated; /* tokens by the server's word, TRACE_UNKNOWN */
};

/* What became known of a request after its beginning. Columns: client_id, request_id, trace_id,
 * adapter, labels. An empty one says nothing. */
struct trace_request_info {
	struct trace_record head;
	uint32_t request;
	uint32_t certainty; /* enum trace_certainty */
	uint32_t origin;    /* enum trace_origin */
	uint16_t client_id_length, request_id_length, trace_id_length;
	uint16_t adapter_length, labels_length;
	uint16_t reserved;
};

enum trace_phase { TRACE_PREFILL = 0, TRACE_DECODE = 1, TRACE_PHASE_UNKNOWN = 255 };
/* Row flags. PADDING and FINISHED rows belong to no request, and their phase is unknown. */
#define TRACE_ROW_OUTPUT 1u    /* logits asked for: computed in the last layer too */
#define TRACE_ROW_PADDING 2u   /* computed for no token of any request */
#define TRACE_ROW_DRAFT 4u     /* a token that a draft proposed (speculative decoding) */
#define TRACE_ROW_REJECTED 8u  /* and that was not accepted */
#define TRACE_ROW_FINISHED 16u /* computed on although its sequence had ended (a whole batch) */

/* One forward computation (a ubatch). Columns of `rows` entries: sequence u32, request u32
 * (TRACE_UNKNOWN), position u32, phase u8, row flags u8; token i32 if TRACE_STEP_TOKENS. */
#define TRACE_STEP_TOKENS 1u
struct trace_step {
	struct trace_record head;
	uint64_t step; /* from 1, per context */
	uint64_t begin_ns;
	uint64_t end_ns; /* of its last captured layer */
	uint32_t context;
	uint32_t rows;
	uint32_t ubatch;   /* which part of the server's batch this is, from 0, TRACE_UNKNOWN */
	uint32_t ubatches; /* parts of that batch, TRACE_UNKNOWN */
	uint64_t batch;    /* the server's own, the same in all pipeline stages; UINT64_MAX */
};

/* The choice of one layer in one step. Columns: row u32[rows] (index in the step; absent with
 * TRACE_ROUTE_ALL_ROWS), expert ids u8 or u16 [rows][k] in gate order (descending final
 * weight, ties by id), weights f32[rows][k] if TRACE_ROUTE_WEIGHTS, row flags u8[rows] if
 * TRACE_ROUTE_ROW_FLAGS. */
#define TRACE_ROUTE_ALL_ROWS 1u
#define TRACE_ROUTE_WEIGHTS 2u
#define TRACE_ROUTE_IDS_16 4u   /* ids are 16 bits wide, else 8 */
#define TRACE_ROUTE_INFERRED 8u /* else exact */
#define TRACE_ROUTE_RAW 16u     /* weights are scores as selected; final ones are unknown */
/* What the ids count, if not the model's own (logical) experts. */
#define TRACE_ROUTE_PHYSICAL 32u /* copies of experts as they were placed */
#define TRACE_ROUTE_LOCAL 64u    /* experts of one rank */
#define TRACE_ROUTE_ROW_FLAGS 128u
#define TRACE_ROUTE_NO_CHOICE \
	256u /* the largest id of the width is no expert: a place left free \
	      */
#define TRACE_NO_EXPERT_8 UINT8_MAX
#define TRACE_NO_EXPERT_16 UINT16_MAX
#define TRACE_ROUTE_ROW_TIE 1u /* row flag: the choice between equal scores was inferred */
struct trace_route {
	struct trace_record head;
	uint64_t step;
	uint32_t context;
	uint32_t layer; /* one of the model's layer_ids */
	uint32_t rows;
	uint32_t k;
};

struct trace_clock {
	struct trace_record head;
	uint64_t monotonic_ns, boot_ns, real_ns;
};

/* X(id, NAME, text): where something that existed did not arrive. */
#define TRACE_LOSSES(X) \
	X(1, RING_ROUTES, "router results lost: ring full") \
	X(2, RING_ROWS, "step descriptions lost: ring full") \
	X(3, RING_IDENTITY, "request descriptions lost: ring full") \
	X(4, CHUNKS, "captures dropped while their chunks were put together") \
	X(5, QUEUE, "steps dropped: the reader of the stream was too slow") \
	X(6, NO_STEP, "router results whose step description was lost") \
	X(7, REQUESTS, "requests dropped whole: the reader of the stream was too slow") \
	X(8, INFO, "names of requests dropped: the reader of the stream was too slow") \
	X(9, LAYOUT, "router results not read: the layout of tensors was still being found out")

enum trace_loss_cause {
#define X(id, name, text) TRACE_LOSS_##name = (id),
	TRACE_LOSSES(X)
#undef X
};

/* `count` things since the last record of this cause, with so many rows, and decisions (rows x
 * layers); of each UINT64_MAX if not known. */
struct trace_loss {
	struct trace_record head;
	uint32_t cause;   /* enum trace_loss_cause */
	uint32_t context; /* that it was lost of, TRACE_UNKNOWN */
	uint64_t count;
	uint64_t rows;
	uint64_t decisions;
	uint64_t since_ns;
};

/* X(id, NAME, text): what was read but failed its check. Neither loss nor data. */
#define TRACE_INVALIDS(X) \
	X(1, FAULT, "target memory not readable") \
	X(2, SHAPE, "tensor of another shape, type or size") \
	X(3, EXPERT_RANGE, "expert id out of range") \
	X(4, EXPERT_REPEATED, "expert chosen twice for a token") \
	X(5, WEIGHT, "weight not a finite number") \
	X(6, ROW, "row with an impossible position, sequence or flag") \
	X(7, ROW_COUNT, "layer with another number of rows than its step") \
	X(8, IDENTITY, "request description failed its check") \
	X(9, WARM_UP, "rows of a warm-up or of no request, dropped") \
	X(10, UNREADABLE, "what may have been a router's result could not be read")

enum trace_invalid_cause {
#define X(id, name, text) TRACE_INVALID_##name = (id),
	TRACE_INVALIDS(X)
#undef X
};

struct trace_invalid {
	struct trace_record head;
	uint32_t cause; /* enum trace_invalid_cause */
	uint32_t reserved;
	uint64_t count;
};

/* What we cost since the previous record. Columns: none. */
struct trace_cost {
	struct trace_record head;
	uint64_t interval_ns;
	uint64_t hits;             /* of all sites, other threads of the operator included */
	uint64_t hit_ns;           /* hits x calibrated time a hit: thread time in the target */
	uint64_t collector_cpu_ns; /* broker and reader */
	uint64_t resident_bytes;   /* reader */
	uint32_t threads;          /* threads that run the probed operator, TRACE_UNKNOWN */
	uint32_t slowdown_ppm;     /* estimate: hit_ns / (interval x threads); TRACE_UNKNOWN */
};

/* X(id, NAME, text): why positions of a request have no routing in a layer. */
#define TRACE_MISSING(X) \
	X(1, CACHED, "cached prefix: computed for an earlier request") \
	X(2, NOT_COMPUTED, "last layer: never computed for rows without output") \
	X(3, LOST, "lost on the way") \
	X(4, INVALID, "failed its check") \
	X(5, BEFORE_ATTACH, "computed before we attached") \
	X(6, NOT_ROUTED, "no router result arrived") \
	X(7, AFTER_DETACH, "still being computed when the capture ended") \
	X(8, GOVERNOR, "probes were taken away to save time")

enum trace_missing {
#define X(id, name, text) TRACE_MISSING_##name = (id),
	TRACE_MISSING(X)
#undef X
		TRACE_MISSING_COUNT = 8
};

/* expected = seen + sum of missing[], exactly, for one request and layer; said at the request's
 * end. Columns: missing u64[causes], of which entry i belongs to cause id i + 1. request 0: rows of
 * no known request, and of requests that were dropped whole. */
struct trace_coverage {
	struct trace_record head;
	uint32_t request;
	uint32_t layer;
	uint64_t expected;
	uint64_t seen;
	uint32_t causes;
	uint32_t context;
};

/* X(id, NAME, text): why the capture ended. */
#define TRACE_STOPS(X) \
	X(0, UNKNOWN, "unknown") \
	X(1, ASKED, "stopped by the user") \
	X(2, DURATION, "duration over") \
	X(3, TARGET_EXIT, "target exited") \
	X(4, TARGET_EXEC, "target became another program") \
	X(5, FAILED, "collector failed") \
	X(6, OUTPUT, "output could not be written")

enum trace_stop {
#define X(id, name, text) TRACE_STOP_##name = (id),
	TRACE_STOPS(X)
#undef X
};

/* Last record of a complete stream: totals of the source. */
struct trace_end {
	struct trace_record head;
	uint32_t stop; /* enum trace_stop */
	uint32_t reserved;
	uint64_t records; /* before this one */
	uint64_t steps, rows, routes;
	uint64_t decisions; /* rows x layers */
	uint64_t lost, invalid;
};

/* Detail `requests`: how often each expert was chosen for a block of rows of one sequence, layer
 * and phase. Columns: count u32[experts] (their sum: rows x k, less what chose none), gate
 * f32[experts] (sums of final weights) if TRACE_COUNTS_GATE. PHYSICAL and LOCAL as in ROUTE. */
#define TRACE_COUNTS_GATE 1u
#define TRACE_COUNTS_PHYSICAL 32u
#define TRACE_COUNTS_LOCAL 64u
struct trace_counts {
	struct trace_record head;
	uint32_t request;
	uint32_t context;
	uint32_t layer;
	uint32_t phase; /* enum trace_phase */
	uint32_t rows;
	uint32_t experts;
	uint32_t first_position;
	uint32_t k;
	uint32_t sequence;      /* TRACE_UNKNOWN */
	uint32_t last_position; /* likewise */
};

/* X(id, NAME): how a finding is meant. */
enum trace_status {
	TRACE_STATUS_OK = 0,
	TRACE_STATUS_WARN = 1,
	TRACE_STATUS_MISSING = 2,
	TRACE_STATUS_UNKNOWN = 3,
};

/* A fact about rights, kernel, target or a site, for `doctor` and the list of candidates.
 * Columns: area, name, value, remedy. */
struct trace_finding {
	struct trace_record head;
	uint32_t status; /* enum trace_status */
	uint32_t pid;    /* 0: about the machine */
	uint16_t area_length, name_length, value_length, remedy_length;
};

/* X(id, NAME, text): why probes were in place, or not, as they were. */
#define TRACE_REASONS(X) \
	X(0, UNKNOWN, "unknown") \
	X(1, CAPTURE, "the whole capture") \
	X(2, GOVERNOR, "time was to be saved") \
	X(3, SCHEDULE, "as the operator asked")

enum trace_reason {
#define X(id, name, text) TRACE_REASON_##name = (id),
	TRACE_REASONS(X)
#undef X
};

/* Probes were in place from begin_ns on and before end_ns. Positions that were computed at other
 * times are missing by cause GOVERNOR. */
struct trace_window {
	struct trace_record head;
	uint64_t begin_ns;
	uint64_t end_ns;
	double inclusion; /* probability with which the window was chosen; 1: always */
	uint32_t reason;  /* enum trace_reason */
	uint32_t context; /* TRACE_UNKNOWN: all */
};

#endif
