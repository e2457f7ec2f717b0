/* SPDX-License-Identifier: BSD-2-Clause */
/* Standard output that cannot be written (a full disk, a reader that is gone): said in one way. */
#ifndef MP_ANALYZER_STANDARD_OUTPUT_H
#define MP_ANALYZER_STANDARD_OUTPUT_H

struct error;

/* Writing failed with @err (negative errno), in @module. Returns @err. */
int standard_output__failed(const char *module, int err, struct error *e);
/* Write out what waits: 0, or -errno with @e if that, or anything before it, failed. */
int standard_output__flush(const char *module, struct error *e);

#endif
