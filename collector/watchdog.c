/* SPDX-License-Identifier: BSD-2-Clause */
#include "collector/watchdog.h"

#include "collector/listeners.h"
#include "collector/service.h"
#include "collector/stream.h"

#define IDLE_NS 5000000000ull
#define SILENT_SECONDS 3

int watchdog__joined(struct stream *s, const struct member *m)
{
	uint32_t pid = (uint32_t)m->pid;
	int err = 0;

	for (size_t i = 0; i < m->plan.sites && !err; i++) {
		const struct engine_site *site = &m->plan.site[i];

		if (!m->site[i].linked)
			err = stream__finding(s, TRACE_STATUS_WARN, pid, "site", site->purpose,
					      site->without, "not probed: %s", m->site[i].reason);
		else if (site->row.program == MP_PROGRAM_HEADS)
			err = stream__finding(s, TRACE_STATUS_OK, pid, "site", site->purpose, NULL,
					      "%s", LISTENERS_COST);
		else if (site->place.class != SITE_EMULATED && site->required)
			err = stream__finding(s, TRACE_STATUS_WARN, pid, "site", site->purpose,
					      NULL, "%s probes: about 15 times the cost of others",
					      site_class__name(site->place.class));
	}
	return err;
}

/* What all rows for @purpose counted together. */
static struct mp_counters counters_of(const struct service *v, const struct watchdog_facts *f,
				      enum mp_purpose purpose)
{
	struct mp_counters sum = { 0 };

	for (uint32_t i = 0; i < v->rows; i++) {
		if (mp_site__purpose(&v->table[i]) != purpose)
			continue;
#define X(id, name, text) sum.name += f->counters[i].name;
		MP_COUNTERS(X)
#undef X
	}
	return sum;
}

/* Why no router result comes out of a probe that counted @c. */
static const char *why_silent(const struct mp_counters *c)
{
	if (!c->hits)
		return "never fires";
	return c->unreadable ? "fires, but what it should read is not readable"
			     : "fires and finds nothing that it knows";
}

/* One of two places that belong together fires and the other does not. */
static int say_silent(struct watchdog *w, struct stream *s, const struct service *v,
		      const struct watchdog_facts *f, uint32_t pid)
{
	uint64_t rows = counters_of(v, f, MP_PURPOSE_ROWS).hits;
	struct mp_counters results = counters_of(v, f, MP_PURPOSE_ROUTER);
	bool silent = rows != w->rows_hits && f->routes == w->routes;

	w->silent_seconds = silent ? w->silent_seconds + 1 : 0;
	w->rows_hits = rows;
	w->routes = f->routes;
	if (w->silent_seconds < SILENT_SECONDS || w->said_silent)
		return 0;
	w->said_silent = true;
	return stream__finding(
		s, TRACE_STATUS_WARN, pid, "capture", "router", "see `moeprobe doctor PID`",
		"the server computes, but no router result arrives: the router's probe "
		"%s",
		why_silent(&results));
}

int watchdog__second(struct watchdog *w, struct stream *s, const struct service *v,
		     const struct watchdog_facts *f)
{
	uint32_t pid = (uint32_t)v->pid;

	if (f->routes && !w->said_flowing) {
		w->said_flowing = true;
		return stream__finding(s, TRACE_STATUS_OK, pid, "capture", "attached", NULL,
				       "router results arrive");
	}
	if (!f->routes && !w->said_idle && f->now_ns - v->attached_ns >= IDLE_NS &&
	    !counters_of(v, f, MP_PURPOSE_ROWS).hits &&
	    !counters_of(v, f, MP_PURPOSE_ROUTER).matched) {
		w->said_idle = true;
		return stream__finding(s, TRACE_STATUS_WARN, pid, "capture", "idle",
				       "send it a request",
				       "no router result yet: is the server idle?");
	}
	return say_silent(w, s, v, f, pid);
}
