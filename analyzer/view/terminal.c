/* SPDX-License-Identifier: BSD-2-Clause */
/* The live view that takes the whole screen: its keys, its frame, its bottom lines. */
#include "analyzer/view/terminal_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "analyzer/view/format.h"
#include "analyzer/view/lines.h"
#include "analyzer/view/status.h"
#include "analyzer/view/unread.h"
#include "probe/base/error.h"

#define INTERVAL_MS 200
#define MESSAGE_DRAWS 50 /* ten seconds */
#define REQUEST_LINES_MIN 3
/* Title, rates, blank, axis; legend, blank, header of the requests; blank, status, keys. */
#define LINES_ABOVE 4
#define LINES_BETWEEN 3
#define LINES_BELOW 3
#define LINES_PER_ROW_MAX 3
#define CAUSE_LINES_MAX 3
#define CAUSES_SIZE 400
#define IDLE "idle: " /* the collector's finding begins so */

bool live_terminal__available(void)
{
	return screen__available();
}

/* The requests get what they need up to a third; the map the rest. */
struct page page__divide(int height, uint32_t layers, uint32_t requests, bool tall)
{
	int room = height - LINES_ABOVE - LINES_BETWEEN - LINES_BELOW;
	struct page p = { .lines_per_row = 1 };
	int wanted = requests > (uint32_t)room ? room : (int)requests;

	if (wanted > room / 3)
		wanted = room / 3;
	if (wanted < REQUEST_LINES_MIN)
		wanted = REQUEST_LINES_MIN;
	p.heat.first = LINES_ABOVE;
	p.heat.lines = room - wanted;
	while (tall && layers && p.lines_per_row < LINES_PER_ROW_MAX &&
	       layers * ((uint32_t)p.lines_per_row + 1) <= (uint32_t)p.heat.lines)
		p.lines_per_row++;
	if (layers && layers * (uint32_t)p.lines_per_row < (uint32_t)p.heat.lines)
		p.heat.lines = (int)layers * p.lines_per_row;
	p.requests.first = LINES_ABOVE + p.heat.lines + LINES_BETWEEN;
	p.requests.lines = height - LINES_BELOW - p.requests.first;
	return p;
}

static int terminal_open(void **ctx, struct error *e)
{
	struct terminal *t = calloc(1, sizeof(*t));
	int err;

	*ctx = NULL;
	if (!t)
		return error__set(e, EXIT_FAILED, ENOMEM, NULL, "out of memory");
	t->phase = STATE_BOTH;
	err = screen__open(&t->screen, e);
	if (err)
		free(t);
	else
		*ctx = t;
	return err;
}

static int terminal_key_fd(void *ctx)
{
	struct terminal *t = ctx;

	return screen__key_fd(t->screen);
}

static bool terminal_paused(void *ctx)
{
	struct terminal *t = ctx;

	return t->paused;
}

static enum state_phase next_phase(enum state_phase p)
{
	return p == STATE_BOTH ? STATE_PREFILL : p == STATE_PREFILL ? STATE_DECODE : STATE_BOTH;
}

/* Scrolling stops at zero here and at the far end when the map is laid out. */
static void scroll(uint32_t *at, int by)
{
	*at = by < 0 && *at < (uint32_t)-by ? 0 : *at + (uint32_t)by;
}

/* Nothing else moves a picture that stands still. */
static bool moves_frozen(int key)
{
	return key == 'p' || key == 'q' || key == SCREEN_RESIZED;
}

static enum live_command on_key(struct terminal *t, int key)
{
	if (t->frozen && !moves_frozen(key))
		return LIVE_NONE;
	switch (key) {
	case 'q':
		return LIVE_QUIT;
	case 'p':
		t->paused = !t->paused;
		t->frozen = false;
		break;
	case SCREEN_RESIZED:
		break;
	case '?':
	case 'h':
		t->help = !t->help;
		break;
	case 'w':
		t->window = (t->window + 1) % STATE_WINDOW_COUNT;
		break;
	case '\t':
		t->phase = next_phase(t->phase);
		break;
	case 'z':
		t->zoomed = !t->zoomed;
		break;
	case 'm':
		t->model++;
		break;
	case SCREEN_LEFT:
	case SCREEN_RIGHT:
		scroll(&t->first_expert, key == SCREEN_LEFT ? -8 : 8);
		break;
	case SCREEN_UP:
	case SCREEN_DOWN:
		scroll(&t->first_layer, key == SCREEN_UP ? -1 : 1);
		break;
	case SCREEN_PAGE_UP:
	case SCREEN_PAGE_DOWN:
		scroll(&t->first_layer, key == SCREEN_PAGE_UP ? -10 : 10);
		break;
	default:
		break;
	}
	return LIVE_REDRAW;
}

static enum live_command terminal_key(void *ctx)
{
	enum live_command command = LIVE_NONE, next;
	struct terminal *t = ctx;
	int key;

	while ((key = screen__key(t->screen)) != SCREEN_NO_KEY) {
		next = on_key(t, key);
		if (next > command)
			command = next;
	}
	return command;
}

static void draw_title(struct terminal *t, const struct live_frame *f,
		       const struct state_context *c)
{
	const struct state_process *p = c ? state__process(f->state, c->process) : NULL;
	const char *dot = screen__glyph(t->screen, " · ", " - ");
	const char *slash = strrchr(f->source, '/');
	const struct state_summary *m = state__summary(f->state);
	char layers[FORMAT_SIZE], experts[FORMAT_SIZE], k[FORMAT_SIZE], span[FORMAT_SIZE];
	char time[FORMAT_SIZE + 16];
	int width = screen__width(t->screen), end, x;

	screen__fill(t->screen, 0, 0, SCREEN_TITLE);
	format__duration(span, sizeof(span), m->last_ns - m->first_ns);
	snprintf(time, sizeof(time), "%s%s%s", f->ended ? "end" : "", f->ended ? dot : "", span);
	end = width - 3 - (int)lines__width(time);
	x = 1 + screen__put(t->screen, 0, 1, end - 1, SCREEN_TITLE, "moeprobe%s", dot);
	x += screen__put(t->screen, 0, x, 40, SCREEN_TITLE, "%s", slash ? slash + 1 : f->source);
	if (p && *p->engine)
		x += screen__put(t->screen, 0, x, end - x, SCREEN_TITLE, "%s%s%s%s", dot, p->engine,
				 *p->version && width >= 100 ? " " : "",
				 width >= 100 ? p->version : "");
	if (state__contexts(f->state) > 1)
		x += screen__put(t->screen, 0, x, end - x, SCREEN_TITLE, "%smodel %u of %u", dot,
				 t->model + 1, state__contexts(f->state));
	if (c)
		screen__put(t->screen, 0, x, end - x, SCREEN_TITLE, "%s%s %s %s experts, k %s%s%s",
			    dot, format__known(layers, sizeof(layers), c->layers),
			    screen__glyph(t->screen, "×", "x"),
			    format__known(experts, sizeof(experts), c->experts),
			    format__known(k, sizeof(k), c->k), dot,
			    *c->name ? c->name : c->architecture);
	screen__put_right(t->screen, 0, width - 1, SCREEN_TITLE, time);
}

static int put_pair(struct terminal *t, int y, int x, const char *label, const char *value,
		    enum screen_style style)
{
	x += screen__put(t->screen, y, x, 40, SCREEN_LABEL, "%s ", label);
	x += screen__put(t->screen, y, x, 40, style, "%s", value);
	return x + 3;
}

static void draw_rates(struct terminal *t, const struct live_frame *f)
{
	const struct request_table *requests = state__requests(f->state);
	char a[FORMAT_SIZE], chosen[96];
	int x = 1, y = 1;

	format__rate(a, sizeof(a), state__steps_per_second(f->state));
	x = put_pair(t, y, x, "steps/s", a, SCREEN_STRONG);
	format__rate(a, sizeof(a), state__rows_per_second(f->state, STATE_PREFILL));
	x = put_pair(t, y, x, "prefill/s", a, SCREEN_STRONG);
	format__rate(a, sizeof(a), state__rows_per_second(f->state, STATE_DECODE));
	x = put_pair(t, y, x, "decode/s", a, SCREEN_STRONG);
	format__count(a, sizeof(a), request_table__live(requests));
	x = put_pair(t, y, x, "live", a, SCREEN_STRONG);
	snprintf(chosen, sizeof(chosen), "%s%s%s%s", t->paused ? "PAUSED  " : "",
		 state_window__name(t->window), screen__glyph(t->screen, " · ", ", "),
		 t->phase == STATE_BOTH ? "both phases" : state_phase__name(t->phase));
	screen__put_right(t->screen, y, screen__width(t->screen) - 1,
			  t->paused ? SCREEN_WARNING : SCREEN_PLAIN, chosen);
}

/* Why something is missing: the lines above the status, as many as it needs (at least one). */
struct causes {
	char text[CAUSES_SIZE];
	bool is_damage;
	int lines;
};

static struct causes causes_of(const struct terminal *t, const struct state *s)
{
	const struct trace_unread *unread = &state__summary(s)->unread;
	size_t width = (size_t)screen__width(t->screen) - 2;
	struct causes c = { .is_damage = unread->damaged_blocks };
	struct status of;

	status__of(&of, s);
	if (c.is_damage)
		unread__damaged(c.text, unread);
	else
		snprintf(c.text, sizeof(c.text), "%s%s%s%s%s",
			 of.loss_cause ? "most of the loss: " : "",
			 of.loss_cause ? of.loss_cause : "",
			 of.loss_cause && *of.missing ? "   " : "",
			 *of.missing ? "not seen, of all rows: " : "", of.missing);
	for (const char *rest = c.text; *rest && c.lines < CAUSE_LINES_MAX; c.lines++)
		rest = lines__rest(rest, lines__fit(rest, width));
	if (!c.lines)
		c.lines = 1;
	return c;
}

static void draw_causes(struct terminal *t, const struct causes *c, int y)
{
	enum screen_style style = c->is_damage ? SCREEN_WARNING : SCREEN_LABEL;
	size_t width = (size_t)screen__width(t->screen) - 2, fits;
	const char *rest = c->text;

	for (int i = 0; i < c->lines; i++) {
		fits = i + 1 < c->lines ? lines__fit(rest, width) : strlen(rest);
		screen__put(t->screen, y + i, 1, (int)width, style, "%.*s", (int)fits, rest);
		rest = lines__rest(rest, fits);
	}
}

static void draw_status(struct terminal *t, const struct live_frame *f, int y)
{
	char coverage[FORMAT_SIZE + 16];
	struct status s;
	int x = 1;

	status__of(&s, f->state);
	snprintf(coverage, sizeof(coverage), "%s of ended", s.coverage);
	x = put_pair(t, y, x, "coverage", coverage, SCREEN_STRONG) - 1;
	x = put_pair(t, y, x, "loss", s.loss, s.any_loss ? SCREEN_WARNING : SCREEN_STRONG) - 1;
	x = put_pair(t, y, x, "invalid", s.invalid,
		     s.any_invalid ? SCREEN_WARNING : SCREEN_STRONG) -
	    1;
	x = put_pair(t, y, x, "slowdown", s.slowdown, SCREEN_STRONG) - 1;
	put_pair(t, y, x, "collector", s.collector, SCREEN_STRONG);
}

static void draw_keys(struct terminal *t, const struct live_frame *f, int y)
{
	if (t->frozen) {
		screen__put(t->screen, y, 1, 400, SCREEN_WARNING,
			    "PAUSED: p goes on with what is then, q quits; capture goes on");
		return;
	}
	if (t->message_idle && state__summary(f->state)->decisions)
		t->message_draws = 0;
	if (t->messages && t->message_draws > 0) {
		t->message_draws--;
		screen__put(t->screen, y, 1, 400, SCREEN_WARNING, "%s",
			    t->message[t->messages - 1]);
		return;
	}
	screen__put(
		t->screen, y, 1, 400, SCREEN_LABEL, "%s",
		state__contexts(f->state) > 1
			? "q quit  p pause  m model  w window  tab phase  z zoom  arrows scroll  "
			  "? help"
			: "q quit   p pause   w window   tab phase   z zoom   arrows scroll   "
			  "? help");
}

static const struct state_context *shown_context(struct terminal *t, const struct state *s)
{
	uint32_t contexts = state__contexts(s);

	if (!contexts)
		return NULL;
	t->model %= contexts;
	return state__context(s, t->model);
}

/* The oldest is forgotten if there are too many: the last ones say why it ended. */
static void terminal_message(void *ctx, const char *line)
{
	struct terminal *t = ctx;

	if (t->messages == MESSAGES_MAX) {
		free(t->message[0]);
		memmove(t->message, t->message + 1, (MESSAGES_MAX - 1) * sizeof(*t->message));
		t->messages--;
	}
	t->message[t->messages] = strdup(line);
	if (t->message[t->messages])
		t->messages++;
	t->message_draws = MESSAGE_DRAWS;
	t->message_idle = false;
}

static void take_warnings(struct terminal *t, const struct state *s)
{
	const struct state_summary *m = state__summary(s);
	char line[280];

	if (m->warnings - t->warnings > STATE_WARNINGS_MAX)
		t->warnings = m->warnings - STATE_WARNINGS_MAX;
	for (; t->warnings < m->warnings; t->warnings++) {
		const char *warning = m->warning[t->warnings % STATE_WARNINGS_MAX];

		snprintf(line, sizeof(line), "warning: %s", warning);
		terminal_message(t, line);
		t->message_idle = !strncmp(warning, IDLE, strlen(IDLE));
	}
}

static int terminal_draw(void *ctx, const struct live_frame *f)
{
	struct terminal *t = ctx;
	int width = screen__width(t->screen), height = screen__height(t->screen);
	const struct state_context *c = shown_context(t, f->state);
	const struct request_table *requests = state__requests(f->state);
	struct causes causes;
	struct page page;

	/* A replay stands still itself: its picture may be looked at from all sides. */
	t->frozen = t->paused && !f->replay && !f->ended;
	take_warnings(t, f->state);
	screen__clear(t->screen);
	if (width < TERMINAL_WIDTH_MIN || height < TERMINAL_HEIGHT_MIN) {
		screen__put(t->screen, 0, 0, width, SCREEN_PLAIN,
			    "too small: %dx%d, needs %dx%d (q quits)", width, height,
			    TERMINAL_WIDTH_MIN, TERMINAL_HEIGHT_MIN);
		screen__show(t->screen);
		return 0;
	}
	causes = causes_of(t, f->state);
	page = page__divide(height - causes.lines + 1, c && c->grid ? grid__layers(c->grid) : 0,
			    request_table__live(requests) + 3, screen__has_colours(t->screen));
	draw_title(t, f, c);
	draw_rates(t, f);
	if (t->help) {
		terminal__draw_help(t);
	} else {
		terminal__draw_heat(t, f, c, &page);
		terminal__draw_requests(t, f, page.requests);
	}
	draw_causes(t, &causes, height - 2 - causes.lines);
	draw_status(t, f, height - 2);
	draw_keys(t, f, height - 1);
	screen__show(t->screen);
	return 0;
}

static void terminal_close(void *ctx)
{
	struct terminal *t = ctx;

	if (!t)
		return;
	screen__free(t->screen);
	for (int i = 0; i < t->messages; i++) {
		fprintf(stderr, "%s\n", t->message[i]);
		free(t->message[i]);
	}
	free(t);
}

const struct live_view live_terminal = {
	.name = "terminal",
	.interval_ms = INTERVAL_MS,
	.stays = true,
	.open = terminal_open,
	.key_fd = terminal_key_fd,
	.key = terminal_key,
	.paused = terminal_paused,
	.draw = terminal_draw,
	.message = terminal_message,
	.close = terminal_close,
};
