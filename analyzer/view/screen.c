/* SPDX-License-Identifier: BSD-2-Clause */
#include "analyzer/view/screen.h"

#define NCURSES_WIDECHAR 1
#include <errno.h>
#include <langinfo.h>
#include <ncursesw/ncurses.h>
#include <ncursesw/term.h>
#undef columns /* a macro of term.h */
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wchar.h>

#include "probe/base/error.h"

struct screen {
	SCREEN *terminal;
	FILE *input; /* standard input, or the controlling terminal if that is the stream */
	bool colours, utf8;
};

/*
 * Dark violet over blue and green to yellow (the order of "viridis"): told apart also by people
 * who see red and green alike, and brighter upwards, so it survives a grey screen. Numbers of the
 * 256-colour palette, one a level from HEAT_LOWEST on.
 */
static const short ramp[HEAT_LEVELS - HEAT_LOWEST] = { 53, 60, 25, 31, 36, 71, 149, 227 };

enum {
	PAIR_RAMP = 1,
	PAIR_TITLE = PAIR_RAMP + HEAT_LEVELS - HEAT_LOWEST,
	PAIR_LABEL,
	PAIR_WARNING
};

static const int fatal_signals[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT };
#define FATAL_SIGNALS (sizeof(fatal_signals) / sizeof(*fatal_signals))

/* For the way out that a crash takes: bytes that give the screen back, prepared before. */
static struct {
	char bytes[128];
	size_t size;
	struct termios modes;
	bool has_modes;
} rescue;

static void on_fatal_signal(int number)
{
	if (write(STDOUT_FILENO, rescue.bytes, rescue.size) >= 0 && rescue.has_modes)
		tcsetattr(STDOUT_FILENO, TCSANOW, &rescue.modes);
	raise(number); /* with the default action: SA_RESETHAND */
}

static void prepare_rescue(void)
{
	static const char *const names[] = { "sgr0", "cnorm", "rmkx", "rmcup" };
	struct sigaction action = { .sa_handler = on_fatal_signal, .sa_flags = SA_RESETHAND };

	rescue.size = 0;
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		const char *text = tigetstr((char *)names[i]);
		size_t n = text && text != (char *)-1 ? strlen(text) : 0;

		if (rescue.size + n > sizeof(rescue.bytes))
			continue;
		memcpy(rescue.bytes + rescue.size, text, n);
		rescue.size += n;
	}
	for (size_t i = 0; i < FATAL_SIGNALS; i++)
		sigaction(fatal_signals[i], &action, NULL);
}

static void forget_rescue(void)
{
	for (size_t i = 0; i < FATAL_SIGNALS; i++)
		signal(fatal_signals[i], SIG_DFL);
}

bool screen__available(void)
{
	const char *term = getenv("TERM");
	const char *move;
	int err;

	if (!isatty(STDOUT_FILENO) || !term || !*term || !strcmp(term, "dumb"))
		return false;
	if (setupterm(NULL, STDOUT_FILENO, &err) != OK)
		return false;
	move = tigetstr("cup");
	return move && move != (char *)-1;
}

/* False if the user wants none (NO_COLOR) or the terminal has too few for the ramp. */
static bool begin_colours(void)
{
	const char *no_colour = getenv("NO_COLOR");

	if ((no_colour && *no_colour) || !has_colors() || start_color() != OK)
		return false;
	if (COLORS < 256 || COLOR_PAIRS < 32)
		return false;
	use_default_colors();
	for (int i = 0; i < HEAT_LEVELS - HEAT_LOWEST; i++)
		init_pair((short)(PAIR_RAMP + i), ramp[i], ramp[i]);
	init_pair(PAIR_TITLE, 231, 24);
	init_pair(PAIR_LABEL, 245, -1);
	init_pair(PAIR_WARNING, 208, -1);
	return true;
}

int screen__open(struct screen **out, struct error *e)
{
	struct screen *s = calloc(1, sizeof(*s));

	*out = NULL;
	if (!s)
		return error__set(e, EXIT_FAILED, ENOMEM, NULL, "out of memory");
	/* The terminal knows its size; LINES and COLUMNS may be left over from another one. */
	unsetenv("LINES");
	unsetenv("COLUMNS");
	rescue.has_modes = !tcgetattr(STDOUT_FILENO, &rescue.modes);
	s->input = isatty(STDIN_FILENO) ? stdin : fopen("/dev/tty", "re");
	s->terminal = s->input ? newterm(NULL, stdout, s->input) : NULL;
	if (!s->terminal) {
		screen__free(s);
		return error__set(e, EXIT_FAILED, ENOTTY, "use --no-tui",
				  "terminal: failed to open the terminal");
	}
	s->utf8 = !strcmp(nl_langinfo(CODESET), "UTF-8");
	s->colours = begin_colours();
	prepare_rescue();
	cbreak();
	noecho();
	nonl();
	keypad(stdscr, TRUE);
	nodelay(stdscr, TRUE);
	set_escdelay(25);
	curs_set(0);
	*out = s;
	return 0;
}

int screen__key_fd(const struct screen *s)
{
	return fileno(s->input);
}

int screen__key(struct screen *s)
{
	int key = getch();

	switch (key) {
	case ERR:
		return SCREEN_NO_KEY;
	case KEY_LEFT:
		return SCREEN_LEFT;
	case KEY_RIGHT:
		return SCREEN_RIGHT;
	case KEY_UP:
		return SCREEN_UP;
	case KEY_DOWN:
		return SCREEN_DOWN;
	case KEY_PPAGE:
		return SCREEN_PAGE_UP;
	case KEY_NPAGE:
		return SCREEN_PAGE_DOWN;
	case KEY_RESIZE:
		return SCREEN_RESIZED;
	default:
		return key < 256 ? key : SCREEN_OTHER_KEY;
	}
}

int screen__width(const struct screen *s)
{
	return COLS;
}

int screen__height(const struct screen *s)
{
	return LINES;
}

bool screen__has_colours(const struct screen *s)
{
	return s->colours;
}

const char *screen__glyph(const struct screen *s, const char *rich, const char *plain)
{
	return s->utf8 ? rich : plain;
}

void screen__clear(struct screen *s)
{
	erase();
}

static attr_t attributes(const struct screen *s, enum screen_style style)
{
	switch (style) {
	case SCREEN_TITLE:
		return s->colours ? COLOR_PAIR(PAIR_TITLE) | A_BOLD : A_REVERSE;
	case SCREEN_LABEL:
		return s->colours ? COLOR_PAIR(PAIR_LABEL) : A_NORMAL;
	case SCREEN_STRONG:
		return A_BOLD;
	case SCREEN_WARNING:
		return s->colours ? COLOR_PAIR(PAIR_WARNING) | A_BOLD : A_BOLD | A_REVERSE;
	case SCREEN_PLAIN:
		break;
	}
	return A_NORMAL;
}

/*
 * As many characters of @text as fit into @width columns; returns the columns. What the locale
 * cannot show becomes '?'. A text that is cut ends with an ellipsis.
 */
static int to_wide(const struct screen *s, wchar_t *out, size_t room, const char *text, int width)
{
	mbstate_t state = { 0 };
	size_t left = strlen(text), used = 0, cut = 0;
	int columns = 0, cut_columns = 0; /* of what leaves a column for the ellipsis */

	while (left && used + 2 < room) {
		wchar_t c;
		size_t n = mbrtowc(&c, text, left, &state);
		int own;

		if (!n || n > left) {
			memset(&state, 0, sizeof(state));
			c = L'?';
			n = 1;
		}
		own = wcwidth(c);
		if (own < 0)
			own = 1, c = L'?';
		if (columns + own > width)
			break;
		out[used++] = c;
		columns += own;
		text += n;
		left -= n;
		if (columns < width) {
			cut = used;
			cut_columns = columns;
		}
	}
	if (text[strspn(text, " ")] && width > 0) {
		used = cut;
		columns = cut_columns + 1;
		out[used++] = s->utf8 ? L'\u2026' : L'~';
	}
	out[used] = L'\0';
	return columns;
}

int screen__put(struct screen *s, int y, int x, int width, enum screen_style style, const char *fmt,
		...)
{
	wchar_t wide[512];
	char text[1024];
	va_list ap;
	int columns;

	if (y < 0 || y >= LINES || x < 0 || x >= COLS)
		return 0;
	if (width > COLS - x)
		width = COLS - x;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	columns = to_wide(s, wide, sizeof(wide) / sizeof(*wide), text, width);
	attrset(attributes(s, style));
	mvaddwstr(y, x, wide);
	attrset(A_NORMAL);
	return columns;
}

void screen__put_right(struct screen *s, int y, int end, enum screen_style style, const char *text)
{
	wchar_t wide[512];
	int columns = to_wide(s, wide, sizeof(wide) / sizeof(*wide), text, end);

	attrset(attributes(s, style));
	mvaddwstr(y, end - columns, wide);
	attrset(A_NORMAL);
}

void screen__fill(struct screen *s, int y, int x, enum screen_style style)
{
	attrset(attributes(s, style));
	for (; x < COLS; x++)
		mvaddch(y, x, ' ');
	attrset(A_NORMAL);
}

void screen__heat(struct screen *s, int y, int x, int width, enum heat_level level)
{
	static const char *const bar[] = { "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█" };
	static const char *const ink[] = { "-", "=", "+", "*", "o", "%", "#", "@" };
	const char *glyph = " ";

	for (int i = 0; i < width; i++) {
		if (level == HEAT_UNKNOWN)
			glyph = screen__glyph(s, "╱", "/");
		else if (level == HEAT_NEVER)
			glyph = i == (width - 1) / 2 ? screen__glyph(s, "·", ".") : " ";
		else if (!s->colours)
			glyph = screen__glyph(s, bar[level - HEAT_LOWEST],
					      ink[level - HEAT_LOWEST]);
		if (level >= HEAT_LOWEST && s->colours)
			attrset(COLOR_PAIR(PAIR_RAMP + level - HEAT_LOWEST));
		else if (level < HEAT_LOWEST)
			attrset(attributes(s, SCREEN_LABEL));
		mvaddstr(y, x + i, glyph);
		attrset(A_NORMAL);
	}
}

void screen__show(struct screen *s)
{
	refresh();
}

void screen__free(struct screen *s)
{
	if (!s)
		return;
	if (s->terminal) {
		endwin();
		forget_rescue();
		delscreen(s->terminal);
	}
	if (s->input && s->input != stdin)
		fclose(s->input);
	free(s);
}
