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

static uint64_t sum(uint64_t a, uint64_t b)
{
	return a == LOSS_UNKNOWN || b == LOSS_UNKNOWN ? LOSS_UNKNOWN : a + b;
}

void loss__add(struct loss *l, uint32_t context, uint32_t cause, struct loss_of of)
{
	struct loss_of *to;

	if (!cause || cause >= LOSS_CAUSES || !of.count)
		return;
	to = &part_of(l, context)->of[cause];
	to->count += of.count;
	to->rows = sum(to->rows, of.rows);
	to->decisions = sum(to->decisions, of.decisions);
	l->total += of.count;
}

void loss__add_invalid(struct loss *l, uint32_t cause, uint64_t count)
{
	if (!cause || cause >= LOSS_INVALIDS)
		return;
	l->invalid[cause] += count;
	l->total_invalid += count;
}

/* @rows are those of one layer each, of steps, or no rows at all. */
static void add_dropped(struct loss *l, enum mp_purpose purpose, uint64_t count, uint64_t rows)
{
	switch (purpose) {
	case MP_PURPOSE_ROUTER:
		loss__add(l, TRACE_UNKNOWN, TRACE_LOSS_RING_ROUTES,
			  (struct loss_of){ count, LOSS_UNKNOWN, rows });
		break;
	case MP_PURPOSE_ROWS:
		loss__add(l, TRACE_UNKNOWN, TRACE_LOSS_RING_ROWS,
			  (struct loss_of){ count, rows, LOSS_UNKNOWN });
		break;
	default:
		loss__add(l, TRACE_UNKNOWN, TRACE_LOSS_RING_IDENTITY,
			  (struct loss_of){ .count = count });
		break;
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

		add_dropped(l, purpose, dropped, rows);
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
			.count = p->of[i].count,
			.rows = p->of[i].rows,
			.decisions = p->of[i].decisions,
			.since_ns = h->since_ns,
		};

		if (!r.count)
			continue;
		p->of[i] = (struct loss_of){ 0 };
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
