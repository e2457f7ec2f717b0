/* SPDX-License-Identifier: BSD-2-Clause */
/* A GGUF header from memory and from a file: both give the same answer, within its bounds. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "probe/base/error.h"
#include "probe/target/gguf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define require(condition) \
	do { \
		if (!(condition)) \
			abort(); \
	} while (0)

static void check(const struct gguf_model *m)
{
	require(strnlen(m->architecture, sizeof(m->architecture)) < sizeof(m->architecture));
	require(strnlen(m->name, sizeof(m->name)) < sizeof(m->name));
	require(strnlen(m->quantisation, sizeof(m->quantisation)) < sizeof(m->quantisation));
	require(m->moe_layers <= GGUF_LAYERS_MAX);
	for (uint32_t i = 0; i < m->moe_layers; i++)
		require(m->layer_ids[i] < GGUF_LAYERS_MAX &&
			(!i || m->layer_ids[i - 1] < m->layer_ids[i]));
	require(m->weights_normalised <= 1 || m->weights_normalised == GGUF_UNKNOWN);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct gguf_model memory, file;
	static int fd = -1;
	struct error e = { 0 }, same = { 0 };
	int err;

	if (fd < 0)
		fd = memfd_create("gguf", MFD_CLOEXEC);
	require(ftruncate(fd, 0) == 0 && pwrite(fd, data, size, 0) == (ssize_t)size);
	err = gguf__parse(&memory, data, size, "fuzz", &e);
	require(gguf__read(&file, fd, "fuzz", &same) == err);
	require(!memcmp(&memory, &file, sizeof(memory)) && !strcmp(e.what, same.what));
	require(err ? e.exit == EXIT_UNSUPPORTED : !error__is_set(&e));
	check(&memory);
	return 0;
}
