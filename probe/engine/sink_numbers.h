/* SPDX-License-Identifier: BSD-2-Clause */
/* Numbers that engines use to say what they say (probe/engine/sink.h). */
#ifndef MP_ENGINE_SINK_NUMBERS_H
#define MP_ENGINE_SINK_NUMBERS_H

#include <stdint.h>

#define ENGINE_UNKNOWN UINT32_MAX
#define ENGINE_NO_EXPERT UINT16_MAX
#define ENGINE_DIGEST_BYTES 32 /* SHA-256 */

enum engine_phase { ENGINE_PREFILL = 0, ENGINE_DECODE = 1, ENGINE_PHASE_UNKNOWN = 255 };

/* collector/sink_numbers.c holds them equal to those of collector/trace/records.h. */
enum {
	ENGINE_ENDING_UNKNOWN = 0,
	ENGINE_ENDING_RELEASED = 1,
	ENGINE_ENDING_REPLACED = 2,
	ENGINE_ENDING_TARGET_GONE = 3,
	ENGINE_ENDING_CAPTURE_END = 4,
	ENGINE_LOSS_CHUNKS = 4,
	ENGINE_LOSS_NO_STEP = 6,
	ENGINE_LOSS_LAYOUT = 9,
	ENGINE_INVALID_SHAPE = 2,
	ENGINE_INVALID_EXPERT_RANGE = 3,
	ENGINE_INVALID_EXPERT_REPEATED = 4,
	ENGINE_INVALID_WEIGHT = 5,
	ENGINE_INVALID_ROW = 6,
	ENGINE_INVALID_ROW_COUNT = 7,
	ENGINE_INVALID_IDENTITY = 8,
	ENGINE_INVALID_WARM_UP = 9,
	ENGINE_GATE_SOFTMAX = 1,
	ENGINE_GATE_SIGMOID = 2,
	ENGINE_GATE_SOFTMAX_CHOSEN = 3, /* of the chosen scores only */
	ENGINE_GATE_SQRT_SOFTPLUS = 4,
	ENGINE_FINISH_STOP = 1,
	ENGINE_FINISH_LENGTH = 2,
	ENGINE_FINISH_CANCELLED = 3,
	ENGINE_FINISH_ERROR = 4,
	ENGINE_FINISH_TOOL = 5,
	ENGINE_ORIGIN_LOG_LINE = 1,
	ENGINE_ORIGIN_QUEUED_TASK = 2,
	ENGINE_ORIGIN_HTTP_RESPONSE = 3,
	ENGINE_ORIGIN_HTTP_REQUEST = 4,
	ENGINE_ORIGIN_MESSAGE = 5, /* between the server's processes */
	ENGINE_ORIGIN_TOKENS = 6,
	ENGINE_ORIGIN_ORDER = 7,
	ENGINE_ORIGIN_COMMAND = 8,
	/* Flags. */
	ENGINE_ROW_PADDING = 2,   /* computed for no token of any request */
	ENGINE_ROW_DRAFT = 4,     /* a token that a draft proposed */
	ENGINE_ROW_REJECTED = 8,  /* and that was not accepted */
	ENGINE_ROW_FINISHED = 16, /* computed on although its sequence had ended */
	ENGINE_ROUTE_INFERRED = 8,
	ENGINE_ROUTE_RAW = 16,        /* weights are scores as selected; final ones are unknown */
	ENGINE_ROUTE_PHYSICAL = 32,   /* ids count copies of experts as placed */
	ENGINE_ROUTE_LOCAL = 64,      /* ids count experts of one rank */
	ENGINE_ROUTE_NO_CHOICE = 256, /* ids may be ENGINE_NO_EXPERT: fewer than k were chosen */
	ENGINE_ROUTE_ROW_TIE = 1,     /* the choice between equal scores was inferred */
};

#endif
