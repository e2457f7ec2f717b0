/* SPDX-License-Identifier: BSD-2-Clause */
#include "analyzer/standard_output.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "probe/base/error.h"

int standard_output__failed(const char *module, int err, struct error *e)
{
	error__set(e, EXIT_FAILED, -err, NULL, "%s: failed to write 'standard output': %s", module,
		   strerror(-err));
	return err;
}

int standard_output__flush(const char *module, struct error *e)
{
	if (fflush(stdout))
		return standard_output__failed(module, -errno, e);
	/* An earlier write failed, and what waits now did not: its reason is gone. */
	return ferror(stdout) ? standard_output__failed(module, -EIO, e) : 0;
}
