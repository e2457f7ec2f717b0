/* SPDX-License-Identifier: BSD-2-Clause */
#include "collector/raw_log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "probe/abi/event.h"
#include "probe/base/buffer.h"
#include "probe/base/error.h"

struct raw_log_writer {
	FILE *out;
};

struct raw_log_reader {
	struct cursor at;
	struct raw_log_header header;
	const uint8_t *saved;
	struct buffer entry, aside; /* aligned copies */
};

/* --- writing -------------------------------------------------------------------------------- */

static void set_sizes(struct raw_log_header *h)
{
	memcpy(h->magic, RAW_LOG_MAGIC, sizeof(h->magic));
	h->header_bytes = sizeof(*h);
	h->event_bytes = sizeof(struct mp_event);
	h->site_bytes = sizeof(struct mp_site);
	h->counter_bytes = sizeof(struct mp_counters);
	h->member_bytes = sizeof(struct raw_log_member);
}

static int put(struct raw_log_writer *w, const void *bytes, size_t size)
{
	return fwrite(bytes, 1, size, w->out) == size ? 0 : -EIO;
}

int raw_log__create(struct raw_log_writer **out, int fd, struct raw_log_header *h,
		    const void *saved, struct error *e)
{
	struct raw_log_writer *w = calloc(1, sizeof(*w));
	int own = dup(fd), err = -ENOMEM;

	*out = NULL;
	if (w && own >= 0)
		w->out = fdopen(own, "wb");
	if (!w || !w->out) {
		if (own >= 0)
			close(own);
		free(w);
		return error__set(e, EXIT_FAILED, ENOMEM, NULL, "collector: out of memory");
	}
	set_sizes(h);
	err = put(w, h, sizeof(*h));
	if (!err && h->saved_bytes)
		err = put(w, saved, h->saved_bytes);
	if (err) {
		raw_log__close(w, e);
		return err;
	}
	*out = w;
	return 0;
}

int raw_log__append(struct raw_log_writer *w, enum raw_log_kind kind, const void *bytes,
		    size_t size)
{
	const uint32_t head[2] = { kind, (uint32_t)size };
	int err;

	if (size > RAW_LOG_ENTRY_MAX)
		return -E2BIG;
	err = put(w, head, sizeof(head));
	return err ? err : put(w, bytes, size);
}

int raw_log__join(struct raw_log_writer *w, const struct raw_log_member *m,
		  const struct mp_site *rows, const void *saved)
{
	size_t size = sizeof(*m) + m->sites * sizeof(*rows) + m->saved_bytes;
	const uint32_t head[2] = { RAW_LOG_JOIN, (uint32_t)size };
	int err;

	if (size > RAW_LOG_ENTRY_MAX)
		return -E2BIG;
	err = put(w, head, sizeof(head));
	if (!err)
		err = put(w, m, sizeof(*m));
	if (!err && m->sites)
		err = put(w, rows, m->sites * sizeof(*rows));
	return err || !m->saved_bytes ? err : put(w, saved, m->saved_bytes);
}

int raw_log__close(struct raw_log_writer *w, struct error *e)
{
	int bad, err;

	if (!w)
		return 0;
	bad = ferror(w->out);
	errno = 0;
	if (fclose(w->out))
		bad = 1;
	err = bad ? (errno ? -errno : -EIO) : 0;
	free(w);
	if (err)
		error__set(e, EXIT_FAILED, -err, "free space there, or leave --raw-log away",
			   "collector: failed to write the raw log: %s", strerror(-err));
	return err;
}

/* --- reading -------------------------------------------------------------------------------- */

static bool is_text(const char *text, size_t size)
{
	return memchr(text, '\0', size) != NULL;
}

static int check_header(const struct raw_log_header *h, struct error *e)
{
	struct raw_log_header own = { 0 };

	if (memcmp(h->magic, RAW_LOG_MAGIC, sizeof(h->magic)))
		return error__set(e, EXIT_FAILED, EPROTO, NULL,
				  "collector: failed to replay: this is no raw log");
	set_sizes(&own);
	if (h->header_bytes != own.header_bytes || h->event_bytes != own.event_bytes ||
	    h->site_bytes != own.site_bytes || h->counter_bytes != own.counter_bytes ||
	    h->member_bytes != own.member_bytes)
		return error__set(e, EXIT_UNSUPPORTED, EPROTONOSUPPORT,
				  "replay it with the build that wrote it",
				  "collector: failed to replay: the log is of another build");
	if (h->saved_bytes > RAW_LOG_SAVED_MAX || !is_text(h->engine, sizeof(h->engine)))
		return error__set(e, EXIT_FAILED, EBADMSG, NULL,
				  "collector: failed to replay: the log's header is damaged");
	return 0;
}

static int read_saved(struct raw_log_reader *r, struct error *e)
{
	r->saved = cursor__take(&r->at, r->header.saved_bytes);
	if (r->at.failed)
		return error__set(e, EXIT_FAILED, EBADMSG, NULL,
				  "collector: failed to replay: the log ends in its header");
	return 0;
}

int raw_log__open(struct raw_log_reader **out, const void *bytes, size_t size, struct error *e)
{
	struct raw_log_reader *r = calloc(1, sizeof(*r));
	const uint8_t *head;
	int err;

	*out = NULL;
	if (!r)
		return error__set(e, EXIT_FAILED, ENOMEM, NULL, "collector: out of memory");
	r->at = cursor__over(bytes, size);
	head = cursor__take(&r->at, sizeof(r->header));
	if (head)
		memcpy(&r->header, head, sizeof(r->header));
	err = check_header(&r->header, e);
	if (!err)
		err = read_saved(r, e);
	if (err) {
		raw_log__free(r);
		return err;
	}
	*out = r;
	return 0;
}

static int next(struct cursor *at, struct buffer *copy, uint32_t *kind, const void **bytes,
		size_t *size)
{
	const uint8_t *payload;
	uint32_t length;

	if (!cursor__left(at))
		return 0;
	*kind = cursor__u32(at);
	length = cursor__u32(at);
	payload = length <= RAW_LOG_ENTRY_MAX ? cursor__take(at, length) : NULL;
	if (!payload || at->failed)
		return -EBADMSG;
	copy->size = 0;
	if (buffer__append(copy, payload, length))
		return -ENOMEM;
	*bytes = copy->data;
	*size = length;
	return 1;
}

int raw_log__next(struct raw_log_reader *r, uint32_t *kind, const void **bytes, size_t *size)
{
	return next(&r->at, &r->entry, kind, bytes, size);
}

int raw_log__next_if(struct raw_log_reader *r, enum raw_log_kind kind, const void **bytes,
		     size_t *size)
{
	struct cursor at = r->at;
	uint32_t found;
	int got;

	if (cursor__u32(&at) != kind || at.failed)
		return 0;
	at = r->at;
	got = next(&at, &r->aside, &found, bytes, size);
	if (got == -EBADMSG)
		return 0;
	if (got == 1)
		r->at = at;
	return got;
}

int raw_log__parse_join(const void *bytes, size_t size, const struct raw_log_member **m,
			const struct mp_site **rows, const void **saved)
{
	const struct raw_log_member *member = bytes;
	const struct stream_process *p;

	if (size < sizeof(*member))
		return -EBADMSG;
	p = &member->process;
	if (member->sites > MP_SITES || member->first > MP_SITES ||
	    member->sites > MP_SITES - member->first || member->saved_bytes > RAW_LOG_ENTRY_MAX ||
	    size != sizeof(*member) + member->sites * sizeof(**rows) + member->saved_bytes ||
	    !is_text(p->engine, sizeof(p->engine)) || !is_text(p->version, sizeof(p->version)) ||
	    !is_text(p->command, sizeof(p->command)) || !is_text(p->role, sizeof(p->role)))
		return -EBADMSG;
	*m = member;
	*rows = (const struct mp_site *)(member + 1);
	*saved = *rows + member->sites;
	return 0;
}

const struct raw_log_header *raw_log__header(const struct raw_log_reader *r)
{
	return &r->header;
}

const void *raw_log__saved(const struct raw_log_reader *r)
{
	return r->saved;
}

void raw_log__free(struct raw_log_reader *r)
{
	if (!r)
		return;
	buffer__free(&r->entry);
	buffer__free(&r->aside);
	free(r);
}
