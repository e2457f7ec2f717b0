/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A library that only looks like PyTorch's: three of its functions, which do nothing, and one that
 * calls them with tensors as a forward computation does. Built as libtorch_cpu.so by
 * tests/lib/fake_torch.py, with what is to be wrong as macros:
 *
 *   HEAD        offset of the sizes in a TensorImpl
 *   DEVICE      0 a processor, 1 a GPU
 *   VOCABULARY  rows of the embedding
 *   RANK        dimensions of the scores
 *   HIDDEN      exports none of the names
 *   RENAMED     has none of the names
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifndef HEAD
#define HEAD 56
#endif
#ifndef DEVICE
#define DEVICE 0
#endif
#ifndef VOCABULARY
#define VOCABULARY 320
#endif
#ifndef RANK
#define RANK 2
#endif
#ifdef HIDDEN
#define EXPORTED __attribute__((noipa, used, visibility("hidden")))
#else
#define EXPORTED __attribute__((noipa, used))
#endif

#define ROWS_MAX 256
#define WIDTH 8
#define EXPERTS 16
#define CHOSEN 4
#define LONG 4
#define FLOAT 6

/* c10::ScalarType and the sizes, as TensorImpl has them in a row. */
struct head {
	uint64_t dims;
	int64_t size[5], stride[5];
	int64_t storage_offset, numel;
	uint16_t dtype;
	int8_t device, device_index;
};
_Static_assert(HEAD + sizeof(struct head) <= 256, "within an impl");

struct storage {
	uint64_t vtable, references;
	void *data;
	uint64_t more[3];
	uint64_t bytes;
};

struct tensor {
	void *impl; /* a `const Tensor &` is the address of this */
	uint8_t bytes[256];
	struct storage storage;
};

static void tensor__fill(struct tensor *t, uint16_t dtype, int64_t rows, int64_t width, int dims,
			 void *data)
{
	struct head h = { .dims = (uint64_t)dims, .dtype = dtype, .device = DEVICE };
	struct storage *storage = &t->storage;

	memset(t, 0xcc, sizeof(*t));
	h.device_index = -1;
	h.size[0] = dims == 3 ? 1 : rows;
	h.size[1] = dims == 3 ? rows : width;
	h.size[2] = dims == 3 ? width : 0;
	h.stride[0] = dims == 3 ? rows * width : width;
	h.stride[1] = dims == 3 ? width : 1;
	h.stride[2] = 1;
	h.numel = rows * width;
	t->storage.data = data;
	t->storage.bytes = (uint64_t)(rows * width) * (dtype == LONG ? 8 : 4);
	memcpy(t->bytes + 16, &storage, sizeof(storage));
	memcpy(t->bytes + HEAD, &h, sizeof(h));
	t->impl = t->bytes;
}

#ifdef RENAMED
#define NAMED(name)
#else
#define NAMED(name) __asm__(name)
#endif
EXPORTED void embedding(void *out, void *weight, void *indices)
	NAMED("_ZN2at6native16embedding_symintERKNS_6TensorES3_N3c106SymIntEbb");
EXPORTED void cosine(void *self, void *angles, void *out)
	NAMED("_ZN2at6native18structured_cos_out4implERKNS_6TensorES4_");
EXPORTED void topk(void *self, void *scores, int64_t k, int64_t dim, int largest, int sorted)
	NAMED("_ZN2at6native23structured_topk_out_cpu4implERKNS_6TensorEllbbS4_S4_");

/* A push comes first, which the kernel emulates. */
#define ENTRY() __asm__ volatile("push %%rbp\n\tpop %%rbp" ::: "memory")

void embedding(void *out, void *weight, void *indices)
{
	ENTRY();
}

void cosine(void *self, void *angles, void *out)
{
	ENTRY();
}

void topk(void *self, void *scores, int64_t k, int64_t dim, int largest, int sorted)
{
	ENTRY();
}

/* Distinct in a row; tests/lib/fake_torch.py has the same. */
static float score(int64_t token, int layer, int expert)
{
	return (float)(1 + (expert * 5 + token + layer) % EXPERTS) / 256;
}

/* One forward computation of @rows tokens from position @first on. */
void fake_step(const int64_t *token, int rows, int first, int layers, int embeds);
void fake_step(const int64_t *token, int rows, int first, int layers, int embeds)
{
	static float weights[VOCABULARY * WIDTH], angles[ROWS_MAX * WIDTH];
	static float scores[ROWS_MAX * EXPERTS];
	struct tensor weight, indices, angle, gates;

	if (rows > ROWS_MAX)
		abort();
	tensor__fill(&weight, FLOAT, VOCABULARY, WIDTH, 2, weights);
	tensor__fill(&indices, LONG, 1, rows, 2, (void *)token);
	for (int row = 0; row < rows; row++)
		angles[row * WIDTH] = (float)(first + row);
	tensor__fill(&angle, FLOAT, rows, WIDTH, 2, angles);
	if (embeds) {
		embedding(&weights, &weight, &indices);
		cosine(&weights, &angle, &weights);
	}
	for (int layer = 0; layer < layers; layer++) {
		for (int row = 0; row < rows; row++)
			for (int expert = 0; expert < EXPERTS; expert++)
				scores[row * EXPERTS + expert] = score(token[row], layer, expert);
		tensor__fill(&gates, FLOAT, rows, EXPERTS, RANK, scores);
		topk(&weights, &gates, CHOSEN, -1, 1, 1);
	}
}
