/* SPDX-License-Identifier: BSD-2-Clause */
#include "analyzer/view/status.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "analyzer/metric/coverage.h"
#include "analyzer/state/state.h"
#include "analyzer/view/format.h"
#include "analyzer/view/lines.h"
#include "analyzer/view/unread.h"
#include "probe/base/error.h"

const char *missing__short_name(unsigned cause_index)
{
	static const char *const name[TRACE_MISSING_COUNT] = {
		[TRACE_MISSING_CACHED - 1] = "cached",
		[TRACE_MISSING_NOT_COMPUTED - 1] = "not computed",
		[TRACE_MISSING_LOST - 1] = "lost",
		[TRACE_MISSING_INVALID - 1] = "invalid",
		[TRACE_MISSING_BEFORE_ATTACH - 1] = "before attach",
		[TRACE_MISSING_NOT_ROUTED - 1] = "not routed",
		[TRACE_MISSING_AFTER_DETACH - 1] = "after detach",
		[TRACE_MISSING_GOVERNOR - 1] = "governor",
	};

	return cause_index < TRACE_MISSING_COUNT && name[cause_index] ? name[cause_index] : "other";
}

/* The share, and every cause with its part of what was expected. */
static void describe_coverage(struct status *out, const struct state *s)
{
	const struct state_coverage *c = &state__summary(s)->coverage;
	char part[FORMAT_SIZE];
	size_t used = 0;

	format__share(out->coverage, sizeof(out->coverage),
		      coverage__share(&state__summary(s)->coverage));
	for (unsigned i = 0; i <= STATE_MISSING_OTHER && c->expected; i++) {
		if (!c->missing[i] || used >= sizeof(out->missing))
			continue;
		format__share(part, sizeof(part), coverage__missing_share(c, i));
		used += (size_t)snprintf(out->missing + used, sizeof(out->missing) - used,
					 "%s%s %s", used ? ", " : "", missing__short_name(i), part);
	}
}

static double ppm_share(uint32_t ppm)
{
	return ppm == TRACE_UNKNOWN ? -1 : ppm / 1e6;
}

/* enum trace_loss_cause of most of what was lost; 0: of none that is known, or nothing was. */
static unsigned largest_loss(const struct state_summary *m)
{
	unsigned largest = 0;

	for (unsigned i = 0; i < STATE_CAUSES_MAX; i++)
		if (m->loss[i].count > m->loss[largest].count)
			largest = i;
	return largest;
}

#define X(id, name, text) [id] = text,
static const char *const loss_texts[STATE_CAUSES_MAX] = { [0] = "other causes", TRACE_LOSSES(X) };
#undef X
#define X(id, name, text) [id] = #name,
static const char *const loss_names[STATE_CAUSES_MAX] = { [0] = "OTHER", TRACE_LOSSES(X) };
#undef X

/* What would have helped: by the cause, since a larger ring helps no slow disk. */
static const char *loss_remedy(unsigned cause)
{
	switch (cause) {
	case TRACE_LOSS_RING_ROUTES:
	case TRACE_LOSS_RING_ROWS:
	case TRACE_LOSS_RING_IDENTITY:
		return "record again with a larger --ring, or free a CPU for the collector";
	case TRACE_LOSS_QUEUE:
	case TRACE_LOSS_REQUESTS:
		return "let the stream's reader keep up: a faster disk or network, or a lower "
		       "--detail";
	case TRACE_LOSS_LAYOUT:
		return "let one request go by after attaching, before those that matter";
	case TRACE_LOSS_CHUNKS:
	case TRACE_LOSS_NO_STEP:
		return "attach again; if it happens again, report it with what moeprobe doctor "
		       "says";
	default:
		return "record again";
	}
}

void status__of(struct status *out, const struct state *s)
{
	const struct state_summary *m = state__summary(s);
	char lost[FORMAT_SIZE], share[FORMAT_SIZE];

	memset(out, 0, sizeof(*out));
	out->any_loss = m->lost > 0;
	out->any_invalid = m->invalid > 0;
	describe_coverage(out, s);
	format__count(lost, sizeof(lost), m->lost);
	format__share(share, sizeof(share), state__lost_share(s));
	if (m->lost) {
		out->loss_cause = loss_texts[largest_loss(m)];
		out->loss_remedy = loss_remedy(largest_loss(m));
	}
	if (m->lost)
		snprintf(out->loss, sizeof(out->loss), "%s (%s)", lost, share);
	else
		snprintf(out->loss, sizeof(out->loss), "%s", lost);
	format__count(out->invalid, sizeof(out->invalid), m->invalid);
	format__share(out->slowdown, sizeof(out->slowdown), ppm_share(m->cost.slowdown_ppm));
	format__share(out->collector, sizeof(out->collector), ppm_share(m->cost.collector_ppm));
}

int status__check_loss(const struct state *s, double most_percent, const char *source,
		       struct error *e)
{
	double lost = 100 * state__lost_share(s);
	struct status status;

	if (most_percent < 0 || lost <= most_percent)
		return EXIT_OK;
	status__of(&status, s);
	/* Coverage may know of losses that no record counts. */
	error__set(e, EXIT_LOSS, EOVERFLOW,
		   status.loss_remedy ? status.loss_remedy : loss_remedy(0),
		   "%s: lost %.2f %% of the decisions, more than the %.2f %% of --max-loss%s%s%s",
		   source, lost, most_percent, status.loss_cause ? " (mostly " : "",
		   status.loss_cause ? status.loss_cause : "", status.loss_cause ? ")" : "");
	return EXIT_LOSS;
}

int status__check_coverage(const struct state *s, double least_percent, const char *source,
			   struct error *e)
{
	double seen = 100 * coverage__share(&state__summary(s)->coverage);
	struct status status;

	if (least_percent < 0 || seen >= least_percent)
		return EXIT_OK;
	if (seen < 0) {
		error__set(e, EXIT_LOSS, ENODATA, "capture until a request has ended",
			   "%s: coverage is not known, which is less than the %.2f %% of "
			   "--min-coverage: no request ended",
			   source, least_percent);
		return EXIT_LOSS;
	}
	status__of(&status, s);
	error__set(e, EXIT_LOSS, EOVERFLOW, NULL,
		   "%s: saw %.2f %% of ended requests, less than the %.2f %% of --min-coverage"
		   "%s%s%s",
		   source, seen, least_percent, *status.missing ? " (not seen, of all rows: " : "",
		   status.missing, *status.missing ? ")" : "");
	return EXIT_LOSS;
}

int status__check_any(const struct state *s, const char *source, struct error *e)
{
	const struct state_summary *m = state__summary(s);
	struct status status;

	if (m->decisions || state__lost_share(s) < 1)
		return EXIT_OK;
	status__of(&status, s);
	error__set(e, EXIT_LOSS, ENODATA, status.loss_remedy ? status.loss_remedy : loss_remedy(0),
		   "%s: router results came, and none could be shown%s%s%s", source,
		   status.loss_cause ? ": " : "", status.loss_cause ? status.loss_cause : "",
		   status.loss_cause ? "" : ": all were lost");
	return EXIT_LOSS;
}

/* @ns of @threads in @interval_ns of the capture; negative: not known. */
static double average(uint64_t ns, uint64_t interval_ns, uint32_t threads)
{
	if (!interval_ns || !threads || threads == TRACE_UNKNOWN)
		return -1;
	return (double)ns / ((double)interval_ns * threads);
}

void status__print_summary(const struct state *s, FILE *out)
{
	const struct state_summary *m = state__summary(s);
	char duration[FORMAT_SIZE], steps[FORMAT_SIZE], decisions[FORMAT_SIZE];
	char finished[FORMAT_SIZE], live[FORMAT_SIZE], unread[UNREAD_SIZE];
	struct status status;

	status__of(&status, s);
	format__duration(duration, sizeof(duration), m->last_ns - m->first_ns);
	if (state__steps(s) == UINT64_MAX)
		snprintf(steps, sizeof(steps), "-");
	else
		format__count(steps, sizeof(steps), state__steps(s));
	format__count(decisions, sizeof(decisions), m->decisions);
	format__count(finished, sizeof(finished), request_table__finished(state__requests(s)));
	format__count(live, sizeof(live),
		      request_table__live(state__requests(s)) +
			      request_table__cut_off(state__requests(s)));
	lines__print(out, 2, "%s: %s decisions in %s steps; requests: %s finished, %s not",
		     duration, decisions, steps, finished, live);
	lines__print(out, 2, "coverage %s (of ended requests%s%s), loss %s, invalid %s",
		     status.coverage, *status.missing ? "; not seen, of all rows: " : "",
		     status.missing, status.loss, status.invalid);
	if (status.loss_cause)
		fprintf(out, "most of the loss: %s\n", status.loss_cause);
	format__share(steps, sizeof(steps),
		      average(m->cost.hit_ns, m->cost.timed_ns, m->cost.threads));
	format__share(decisions, sizeof(decisions),
		      average(m->cost.collector_cpu_ns, m->cost.interval_ns, 1));
	fprintf(out, "cost: slowdown %s, collector %s of a CPU\n", steps, decisions);
	if (m->unread.damaged_blocks)
		lines__print(out, 2, "%s", unread__damaged(unread, &m->unread));
	if (m->unread.records)
		lines__print(out, 2, "%s", unread__skipped(unread, &m->unread));
}

/* 12.30%, or - where it is not known. */
static char *share_text(char *out, size_t size, double share)
{
	if (share < 0)
		snprintf(out, size, "-");
	else
		snprintf(out, size, "%.2f%%", 100 * share);
	return out;
}

static void print_progress(const struct state *s, FILE *out)
{
	const struct state_summary *m = state__summary(s);
	double rate = state__steps_per_second(s);
	char steps[FORMAT_SIZE] = "-", per_second[FORMAT_SIZE] = "-";
	uint64_t rows = 0;

	for (int p = 0; p < STATE_BOTH; p++)
		rows += m->rows[p];
	if (state__steps(s) != UINT64_MAX)
		snprintf(steps, sizeof(steps), "%" PRIu64, state__steps(s));
	if (rate >= 0)
		snprintf(per_second, sizeof(per_second), "%.1f", rate);
	lines__print(out, 2,
		     "t=%.1fs steps=%s steps/s=%s rows=%" PRIu64 " decisions=%" PRIu64
		     " live=%u finished=%" PRIu64,
		     (double)(m->last_ns - m->first_ns) / 1e9, steps, per_second, rows,
		     m->decisions, request_table__live(state__requests(s)),
		     request_table__finished(state__requests(s)));
}

void status__print_line(const struct state *s, FILE *out)
{
	const struct state_summary *m = state__summary(s);
	char coverage[FORMAT_SIZE], slowdown[FORMAT_SIZE], cpu[FORMAT_SIZE];
	char cause[64] = "", damaged[64] = "";
	size_t n = 0;

	print_progress(s, out);
	if (m->lost)
		n = (size_t)snprintf(cause, sizeof(cause), " loss_cause=%s",
				     loss_names[largest_loss(m)]);
	for (size_t i = 0; i < n; i++)
		cause[i] = (char)tolower((unsigned char)cause[i]);
	if (m->unread.damaged_blocks)
		snprintf(damaged, sizeof(damaged), " damaged_blocks=%" PRIu64,
			 m->unread.damaged_blocks);
	lines__print(out, 2,
		     "  coverage=%s loss=%" PRIu64 "%s invalid=%" PRIu64
		     "%s slowdown=%s collector_cpu=%s",
		     share_text(coverage, sizeof(coverage),
				coverage__share(&state__summary(s)->coverage)),
		     m->lost, cause, m->invalid, damaged,
		     share_text(slowdown, sizeof(slowdown), ppm_share(m->cost.slowdown_ppm)),
		     share_text(cpu, sizeof(cpu), ppm_share(m->cost.collector_ppm)));
}
