/* SPDX-License-Identifier: BSD-2-Clause */
/* Raw logs of any bytes, through the engine's assembly, coverage and the stream's writer. */
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "collector/raw_log.h"
#include "collector/replay.h"
#include "probe/abi/event.h"
#include "probe/base/error.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int out = -1;
	struct error e = { 0 };

	if (out < 0)
		out = open("/dev/null", O_WRONLY | O_CLOEXEC);
	replay__run(data, size, out, &e);
	return 0;
}
