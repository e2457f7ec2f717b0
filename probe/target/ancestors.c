/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/target/ancestors.h"

#include "probe/base/buffer.h"
#include "probe/target/opener.h"
#include "probe/target/proc_file.h"
#include "probe/target/stat.h"
#include "probe/target/target.h"

#define ANCESTORS_MAX 32
#define STAT_MAX 1024u
#define CMDLINE_MAX 65536u

/* 1: it was read. */
static int read_one(const struct opener *o, struct ancestor *a, struct buffer *cmdline)
{
	struct buffer text = { 0 };
	struct pid_stat stat;
	int err = proc_file__read(o, a->pid, PROC_STAT, STAT_MAX, &text);

	if (!err)
		err = pid_stat__parse(&stat, (const char *)text.data, text.size);
	buffer__free(&text);
	if (err || stat.kernel_thread)
		return 0;
	a->parent = stat.parent;
	/* A longer one is cut: what is looked for stands at its beginning. */
	proc_file__read(o, a->pid, PROC_CMDLINE, CMDLINE_MAX, cmdline);
	a->cmdline = (const char *)cmdline->data;
	a->size = cmdline->size;
	return 1;
}

int target__each_ancestor(const struct target *t, int (*each)(void *ctx, const struct ancestor *a),
			  void *ctx)
{
	struct ancestor a = { .pid = target__info(t)->parent };
	int got = 0;

	for (int i = 0; i < ANCESTORS_MAX && a.pid > 0 && !got; i++) {
		struct buffer cmdline = { 0 };

		if (read_one(target__opener(t), &a, &cmdline))
			got = each(ctx, &a);
		else
			a.parent = 0;
		buffer__free(&cmdline);
		a.pid = a.parent;
	}
	return got;
}
