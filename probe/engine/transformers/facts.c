/* SPDX-License-Identifier: BSD-2-Clause */
/* What names.c asks of sequences. */
#include "probe/engine/transformers/sequences.h"

#include <stddef.h>

#include "probe/engine/transformers/sequences_internal.h"

bool transformers_sequences__at(const struct transformers_sequences *q, uint32_t i,
				struct sequence_facts *out)
{
	const struct sequence *s;

	if (i >= q->count)
		return false;
	s = &q->item[(q->first + i) % SEQUENCES_MAX];
	*out = (struct sequence_facts){
		.request = s->number,
		.tgid = s->tgid,
		.prompt = s->unseen ? ENGINE_UNKNOWN : s->prompt,
		.generated = s->generated,
		.begin_ns = s->begin_ns,
		.last_ns = s->last_ns,
		.ended = s->ended,
		.named = s->named,
		.before_attach = s->unseen,
		.inferred = s->inferred,
	};
	return true;
}

uint64_t transformers_sequences__steps(const struct transformers_sequences *q)
{
	return q->steps;
}
