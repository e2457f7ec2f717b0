/* SPDX-License-Identifier: BSD-2-Clause */
/* Any course of events of a vLLM whose scheduler is ours: who is said for sure to own a row does.
 */
#include "tests/unit/vllm_scheduler.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	scheduler__run(data, size, 2);
	return 0;
}
