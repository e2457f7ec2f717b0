/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The models that the processes of a libtorch service compute. A context is a process and what
 * tells its models apart (where the token embedding lies); with the model's folder its geometry is
 * known, else it is learnt from the results.
 */
#ifndef MP_ATEN_CONTEXT_H
#define MP_ATEN_CONTEXT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "probe/engine/aten/gate.h"
#include "probe/engine/aten/shown.h"
#include "probe/engine/sink.h"
#include "probe/target/model_folder.h"

#define ATEN_CONTEXTS_MAX 64
#define ATEN_LAYERS_MAX MODEL_LAYERS_MAX

/* One context; plain data, owned by the set. */
struct aten_context {
	uint32_t id; /* from 1; 0 until it is said */
	uint32_t tgid;
	uint64_t key;        /* address of the embedding's weights, or of what stands for it */
	uint32_t vocabulary; /* rows of the embedding; 0: not known */
	uint32_t experts, k;
	const struct model_folder *folder; /* NULL: not known */
	/* Where no folder is known: what two computations agreed on (of 0 experts: none did yet),
	 * and what the last one that did not agree has shown. */
	struct aten_shown router, candidate;
	struct aten_gate gate;
	bool by_scores;  /* its results are scores, of which the choice is made again */
	uint32_t layers; /* MoE layers; those of the folder, or as many as a step had */
	bool layers_known;
	uint16_t layer_id[ATEN_LAYERS_MAX];
	uint64_t steps; /* said */
	/* As in engine_context; 0. */
	uint64_t model_key;
	uint32_t replica_of;
	uint64_t used;
	bool changed; /* since it was last said */
};

/* What a computation shows of its model. */
struct aten_identity {
	uint32_t tgid;
	uint64_t key;
	uint32_t vocabulary; /* 0: not known */
	uint32_t experts, k; /* of its first result */
};

struct aten_contexts;

/* @folders is borrowed and must outlive the set. @gathers: results are read where scores are
 * gathered (gate.h), not at top-k; what the other kind of model then shows is raw. 0 or -ENOMEM. */
int aten_contexts__new(struct aten_contexts **out, const struct model_folders *folders,
		       bool gathers);
/* Accepts NULL. */
void aten_contexts__free(struct aten_contexts *s);

/* The context of @i, made if need be. NULL: a model folder is known and no model in it has such a
 * router. Stays valid as long as the set, but may come to mean another one after others were made.
 */
struct aten_context *aten_contexts__fit(struct aten_contexts *s, const struct aten_identity *i);
/* The context of process @tgid with @key if there is one already. */
struct aten_context *aten_contexts__find(struct aten_contexts *s, uint32_t tgid, uint64_t key);

/* True if no model folder is known: what a router is shows in the results. */
bool aten_contexts__learn_routers(const struct aten_contexts *s);
/* A computation of @i has shown @shown. Two in a row that agree, and not with what is known, are a
 * model that is new. */
void aten_contexts__learn(struct aten_contexts *s, const struct aten_identity *i,
			  const struct aten_shown *shown);

/* A computation of @c had @layers results: where no folder says how many there are, the most that a
 * complete one had. */
void aten_context__had_layers(struct aten_context *c, uint32_t layers);
/* Say @c to @sink if it is new or more is known. 0 or the sink's error. */
int aten_contexts__say(struct aten_contexts *s, struct aten_context *c,
		       const struct engine_sink *sink);
/* What the only model folder says, for process @tgid, before anything ran; NULL unless there is
 * exactly one. */
const struct engine_context *aten_contexts__preview(struct aten_contexts *s, pid_t pid);

/* Ranges of what @folders know, for the kernel's rules; those of any router if they know nothing.
 */
struct aten_range {
	uint32_t experts_min, experts_max, k_min, k_max, vocabulary_min, vocabulary_max;
};
struct aten_range aten_range__of(const struct model_folders *folders);

#endif
