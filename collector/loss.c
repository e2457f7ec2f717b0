/* SPDX-License-Identifier: BSD-2-Clause */
#include "collector/loss.h"

#include "collector/trace/writer.h"

static struct loss_part *part_of(struct loss *l, uint32_t context)
{
	if (context == TRACE_UNKNOWN)
		return &l->unknown;
	for (uint32_t i = 0; i < l->parts; i++)
		if (l->part[i].context == context)
			return &l->part[i];
	if (l->parts == LOSS_CONTEXTS)
		return &l->unknown;
	l->part[l->parts].context = context;
	return &l->part[l->parts++];
}

void loss__add(struct loss *l, uint32_t context, uint32_t cause, uint64_t count, uint64_t rows)
{
	struct loss_part *p;

	if (!cause || cause >= LOSS_CAUSES)
		return;
	p = part_of(l, context);
	p->count[cause] += count;
	p->rows[cause] += rows;
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

		loss__add(l, TRACE_UNKNOWN, cause_of(purpose), dropped, rows);
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

struct loss_head {
	struct trace_writer *writer;
	struct trace_record head;
	uint64_t since_ns;
};

static int write_part(struct loss_part *p, uint32_t context, const struct loss_head *h)
{
	int err = 0;

	for (uint32_t i = 1; i < LOSS_CAUSES && !err; i++) {
		struct trace_loss r = {
			.head = h->head,
			.cause = i,
			.context = context,
			.count = p->count[i],
			.rows = p->rows[i],
			.since_ns = h->since_ns,
		};

		if (!r.count)
			continue;
		p->count[i] = 0;
		p->rows[i] = 0;
		err = trace_writer__append(h->writer, TRACE_LOSS, &r, sizeof(r), NULL, 0);
	}
	return err;
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
	const struct loss_head h = { w, { .time_ns = now_ns, .source = source }, l->since_ns };
	int err = write_part(&l->unknown, TRACE_UNKNOWN, &h);

	for (uint32_t i = 0; i < l->parts && !err; i++)
		err = write_part(&l->part[i], l->part[i].context, &h);
	for (uint32_t i = 1; i < LOSS_INVALIDS && !err; i++)
		if (l->invalid[i])
			err = write_invalid(l, w, source, now_ns, i);
	if (!err)
		l->since_ns = now_ns;
	return err;
}
