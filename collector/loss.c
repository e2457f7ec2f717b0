/* SPDX-License-Identifier: BSD-2-Clause */
#include "collector/loss.h"

#include "collector/trace/writer.h"

void loss__add(struct loss *l, uint32_t cause, uint64_t count, uint64_t rows)
{
	if (!cause || cause >= LOSS_CAUSES)
		return;
	l->count[cause] += count;
	l->rows[cause] += rows;
	l->total += count;
}

void loss__add_invalid(struct loss *l, uint32_t cause, uint64_t count)
{
	if (!cause || cause >= LOSS_INVALIDS)
		return;
	l->invalid[cause] += count;
	l->total_invalid += count;
}

static uint32_t cause_of(enum mp_purpose purpose)
{
	switch (purpose) {
	case MP_PURPOSE_ROUTER:
		return TRACE_LOSS_RING_ROUTES;
	case MP_PURPOSE_ROWS:
		return TRACE_LOSS_RING_ROWS;
	default:
		return TRACE_LOSS_RING_IDENTITY;
	}
}

struct loss_news loss__take(struct loss *l, const struct mp_counters *now,
			    const struct mp_site *site, size_t count)
{
	struct loss_news news = { 0 };

	for (size_t i = 0; i < count && i < MP_SITES; i++) {
		const struct mp_counters *before = &l->seen[i];
		uint64_t dropped = now[i].dropped - before->dropped;
		uint64_t rows = now[i].dropped_rows - before->dropped_rows;
		uint64_t fault = now[i].fault - before->fault;
		uint64_t shape = now[i].shape - before->shape;
		enum mp_purpose purpose = mp_site__purpose(&site[i]);

		loss__add(l, cause_of(purpose), dropped, rows);
		loss__add_invalid(l, TRACE_INVALID_FAULT, fault);
		loss__add_invalid(l, TRACE_INVALID_SHAPE, shape);
		/* No news: it may be any multiplication, and then coverage misses nothing. */
		loss__add_invalid(l, TRACE_INVALID_UNREADABLE,
				  now[i].unreadable - before->unreadable);
		if (purpose == MP_PURPOSE_ROUTER) {
			news.route_rows += rows;
			news.invalid_captures += fault + shape;
		} else if (purpose == MP_PURPOSE_ROWS) {
			news.steps += dropped;
			news.invalid_steps += fault + shape;
		}
		l->seen[i] = now[i];
	}
	return news;
}

static int write_loss(struct loss *l, struct trace_writer *w, uint32_t source, uint64_t now_ns,
		      uint32_t cause)
{
	struct trace_loss r = {
		.head = { .time_ns = now_ns, .source = source },
		.cause = cause,
		.count = l->count[cause],
		.rows = l->rows[cause],
		.since_ns = l->since_ns,
	};

	l->count[cause] = 0;
	l->rows[cause] = 0;
	return trace_writer__append(w, TRACE_LOSS, &r, sizeof(r), NULL, 0);
}

static int write_invalid(struct loss *l, struct trace_writer *w, uint32_t source, uint64_t now_ns,
			 uint32_t cause)
{
	struct trace_invalid r = {
		.head = { .time_ns = now_ns, .source = source },
		.cause = cause,
		.count = l->invalid[cause],
	};

	l->invalid[cause] = 0;
	return trace_writer__append(w, TRACE_INVALID, &r, sizeof(r), NULL, 0);
}

int loss__write(struct loss *l, struct trace_writer *w, uint32_t source, uint64_t now_ns)
{
	int err = 0;

	for (uint32_t i = 1; i < LOSS_CAUSES && !err; i++)
		if (l->count[i])
			err = write_loss(l, w, source, now_ns, i);
	for (uint32_t i = 1; i < LOSS_INVALIDS && !err; i++)
		if (l->invalid[i])
			err = write_invalid(l, w, source, now_ns, i);
	if (!err)
		l->since_ns = now_ns;
	return err;
}
