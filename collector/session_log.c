/* SPDX-License-Identifier: BSD-2-Clause */
#include "collector/session_log.h"

#include <errno.h>
#include <stdio.h>

#include "collector/member.h"
#include "collector/service.h"
#include "probe/base/buffer.h"
#include "probe/base/error.h"
#include "probe/engine/engine.h"

static int failed(int err, struct error *e)
{
	return err ? error__set(e, EXIT_FAILED, EIO, "free space there",
				"collector: failed to write the raw log")
		   : 0;
}

int session_log__open(struct raw_log_writer **out, int fd, const struct service *v,
		      uint64_t begin_ns, struct error *e)
{
	struct raw_log_header h = { .attached_ns = v->attached_ns, .begin_ns = begin_ns };
	struct buffer saved = { 0 };
	int err;

	if (fd < 0)
		return 0;
	snprintf(h.engine, sizeof(h.engine), "%s", v->ops->name);
	err = v->ops->save(v->engine, &saved);
	h.saved_bytes = (uint32_t)saved.size;
	if (!err)
		err = raw_log__create(out, fd, &h, saved.data, e);
	buffer__free(&saved);
	return err;
}

int session_log__append(struct raw_log_writer *w, enum raw_log_kind kind, const void *bytes,
			size_t size, struct error *e)
{
	return w ? failed(raw_log__append(w, kind, bytes, size), e) : 0;
}

int session_log__joined(struct raw_log_writer *w, const struct service *v, const struct member *m,
			const struct stream_process *p, const struct mp_site *rows, struct error *e)
{
	struct raw_log_member r = {
		.process = *p,
		.first = m->first,
		.sites = (uint32_t)m->plan.sites,
		.opened = m->process == SERVICE_FIRST_PROCESS,
	};
	struct buffer saved = { 0 };
	int err = 0;

	if (!w)
		return 0;
	if (!r.opened && v->ops->save_member)
		err = v->ops->save_member(v->engine, m->pid, &saved);
	r.saved_bytes = (uint32_t)saved.size;
	if (!err)
		err = raw_log__join(w, &r, rows, saved.data);
	buffer__free(&saved);
	return failed(err, e);
}
