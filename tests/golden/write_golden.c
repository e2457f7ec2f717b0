/* SPDX-License-Identifier: BSD-2-Clause */
/* write_golden DIR: one recording with every record and field for each detail, DIR/DETAIL.moeprobe,
 * by the writer and the reducer of this build. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "analyzer/reduce.h"
#include "collector/trace/reader.h"
#include "probe/base/error.h"
#include "tests/golden/every_record.h"

static void check(int err, const char *what)
{
	if (err >= 0)
		return;
	fprintf(stderr, "write_golden: failed to %s: %s\n", what, strerror(-err));
	exit(1);
}

static void reduce(int from, enum detail detail, const char *path)
{
	/* One file without compression: a reader may have no zstd. */
	struct trace_writer_options options = { .codec = detail == DETAIL_ROUTES
								 ? TRACE_CODEC_NONE
								 : TRACE_CODEC_ZSTD };
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644), got;
	struct trace_writer *w;
	struct trace_reader *r;
	struct trace_item item;
	struct reducer *reducer;

	check(fd < 0 ? -1 : 0, path);
	check(trace_writer__open(&w, fd, path, &options, NULL), "open the writer");
	check(reducer__new(&reducer, detail, w), "begin to reduce");
	lseek(from, 0, SEEK_SET);
	check(trace_reader__open(&r, from, "every record", NULL), "open the reader");
	while ((got = trace_reader__next(r, &item, NULL)) == 1) {
		check(reducer__apply(reducer, &item, NULL), "reduce a record");
		/* Several blocks. */
		if (item.type == TRACE_MODEL || item.type == TRACE_REQUEST_INFO)
			check(trace_writer__flush(w, NULL), "write a block");
	}
	check(got, "read every record");
	check(reducer__finish(reducer, NULL), "finish");
	reducer__free(reducer);
	trace_reader__free(r);
	trace_writer__free(w);
	close(fd);
}

int main(int argc, char **argv)
{
	static const char *const name[] = {
#define X(id, text, holds) [DETAIL_##id] = text,
		DETAILS(X)
#undef X
	};
	struct trace_writer_options options = { .codec = TRACE_CODEC_NONE };
	int fd = memfd_create("every record", MFD_CLOEXEC);
	struct trace_writer *w;
	char path[4096];

	if (argc != 2) {
		fprintf(stderr, "usage: write_golden DIR\n");
		return 2;
	}
	check(trace_writer__open(&w, fd, "memory", &options, NULL), "begin");
	check(every__write(w), "write every record");
	check(trace_writer__flush(w, NULL), "write every record");
	trace_writer__free(w);
	for (int d = DETAIL_REQUESTS; d <= DETAIL_TOKENS; d++) {
		snprintf(path, sizeof(path), "%s/%s.moeprobe", argv[1], name[d]);
		reduce(fd, (enum detail)d, path);
	}
	close(fd);
	return 0;
}
