/* SPDX-License-Identifier: BSD-2-Clause */
#include "analyzer/view/servers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "analyzer/state/printable.h"
#include "analyzer/view/format.h"
#include "analyzer/view/lines.h"
#include "analyzer/view/table.h"
#include "collector/trace/reader.h"
#include "probe/base/error.h"

/* Names of the collector's findings about a process; docs/trace-format.md, FINDING. */
#define COMMAND "command"
#define PORT "port"
#define COST "predicted cost"

struct server {
	uint32_t pid, process, context; /* the latter two of the stream; TRACE_UNKNOWN */
	char command[256], engine[48];
	char name[96], architecture[48]; /* of the model */
	bool has_model;
	uint32_t layers, experts, k;
	char port[64], cost[128];
	bool refused;
	char why[256], remedy[512];
};

struct servers {
	struct server *server;
	size_t count, capacity;
	bool has_obstacle;
	char obstacle[256], remedy[512];
};

int servers__new(struct servers **out)
{
	*out = calloc(1, sizeof(**out));
	return *out ? 0 : -ENOMEM;
}

static void copy(char *out, size_t size, const struct trace_item *item, size_t column)
{
	printable__copy(out, size, item->column[column].bytes, item->column[column].size);
}

/* The server of @pid, begun if it is not there; NULL without memory or where there are too many. */
static struct server *take_server(struct servers *s, uint32_t pid)
{
	size_t capacity = s->capacity ? s->capacity * 2 : 16;
	struct server *n;

	for (size_t i = 0; i < s->count; i++)
		if (s->server[i].pid == pid)
			return &s->server[i];
	if (s->count == SERVERS_MAX)
		return NULL;
	if (s->count == s->capacity) {
		n = reallocarray(s->server, capacity, sizeof(*n));
		if (!n)
			return NULL;
		s->server = n;
		s->capacity = capacity;
	}
	n = &s->server[s->count++];
	memset(n, 0, sizeof(*n));
	n->pid = pid;
	n->process = n->context = TRACE_UNKNOWN;
	n->layers = n->experts = n->k = TRACE_UNKNOWN;
	return n;
}

static void take_context(struct servers *s, const struct trace_context *c)
{
	for (size_t i = 0; i < s->count; i++)
		if (s->server[i].process == c->process)
			s->server[i].context = c->context;
}

static void take_model(struct servers *s, const struct trace_item *item)
{
	const struct trace_model *m = item->model;

	for (size_t i = 0; i < s->count; i++) {
		struct server *n = &s->server[i];

		if (n->context != m->context || n->context == TRACE_UNKNOWN)
			continue;
		n->has_model = true;
		n->layers = m->layers;
		n->experts = m->experts;
		n->k = m->k;
		copy(n->architecture, sizeof(n->architecture), item, 1);
		copy(n->name, sizeof(n->name), item, 2);
	}
}

static void take_obstacle(struct servers *s, const struct trace_item *item)
{
	if (s->has_obstacle || item->finding->status != TRACE_STATUS_MISSING)
		return;
	s->has_obstacle = true;
	copy(s->obstacle, sizeof(s->obstacle), item, 2);
	copy(s->remedy, sizeof(s->remedy), item, 3);
}

static void take_finding(struct server *n, const struct trace_item *item)
{
	char name[64];

	copy(name, sizeof(name), item, 1);
	if (item->finding->status == TRACE_STATUS_MISSING) {
		n->refused = true;
		copy(n->why, sizeof(n->why), item, 2);
		copy(n->remedy, sizeof(n->remedy), item, 3);
	} else if (!strcmp(name, COMMAND)) {
		copy(n->command, sizeof(n->command), item, 2);
	} else if (item->finding->status == TRACE_STATUS_UNKNOWN) {
		; /* its value says why */
	} else if (!strcmp(name, PORT)) {
		copy(n->port, sizeof(n->port), item, 2);
	} else if (!strcmp(name, COST)) {
		copy(n->cost, sizeof(n->cost), item, 2);
	}
}

int servers__take(void *servers, const struct trace_item *item, struct error *e)
{
	struct servers *s = servers;
	struct server *n;
	uint32_t pid = 0;

	if (item->type == TRACE_PROCESS)
		pid = item->process->pid;
	else if (item->type == TRACE_FINDING)
		pid = item->finding->pid;
	if (item->type == TRACE_CONTEXT)
		take_context(s, item->context);
	else if (item->type == TRACE_MODEL)
		take_model(s, item);
	else if (item->type == TRACE_FINDING && !pid)
		take_obstacle(s, item);
	if (!pid)
		return 0;
	n = take_server(s, pid);
	if (!n)
		return s->count == SERVERS_MAX
			       ? 0
			       : error__set(e, EXIT_FAILED, ENOMEM, NULL, "out of memory");
	if (item->type == TRACE_FINDING) {
		take_finding(n, item);
		return 0;
	}
	n->process = item->process->process;
	copy(n->engine, sizeof(n->engine), item, 0);
	return 0;
}

/* "olmoe, 16 x 64, k 8" */
static char *model_text(char *out, size_t size, const struct server *n)
{
	char layers[FORMAT_SIZE], experts[FORMAT_SIZE], k[FORMAT_SIZE];

	*out = '\0';
	if (n->has_model)
		snprintf(out, size, "%s, %s x %s, k %s",
			 *n->name           ? n->name
			 : *n->architecture ? n->architecture
					    : "-",
			 format__known(layers, sizeof(layers), n->layers),
			 format__known(experts, sizeof(experts), n->experts),
			 format__known(k, sizeof(k), n->k));
	return out;
}

/* "12.3 us" of "12.3 us a step and thread: ...". */
static char *cost_text(char *out, size_t size, const struct server *n)
{
	const char *end = strstr(n->cost, " a step");

	snprintf(out, size, "%.*s", end ? (int)(end - n->cost) : (int)strlen(n->cost), n->cost);
	return out;
}

int servers__table(struct table **out, const struct servers *s)
{
	enum { PID, ENGINE, MODEL, PORTS, STEP_COST, COUNT };
	static const struct table_column column[COUNT] = {
		[PID] = { "pid", "pid", TABLE_ID, 0, TABLE_KEY },
		[ENGINE] = { "engine", "engine", TABLE_TEXT, 0, TABLE_CELL },
		[MODEL] = { "model", "model, layers x experts", TABLE_TEXT, 0, TABLE_CELL },
		[PORTS] = { "port", "port", TABLE_TEXT, 0, TABLE_CELL },
		[STEP_COST] = { "cost", "cost a step", TABLE_TEXT, 0, TABLE_CELL },
	};
	char text[256];

	if (table__new(out, "servers", "Servers found", TABLE_ROWS, column, COUNT))
		return -ENOMEM;
	for (size_t i = 0; i < s->count; i++) {
		const struct server *n = &s->server[i];

		if (n->refused)
			continue;
		table__row(*out);
		table__count(*out, PID, n->pid);
		table__text(*out, ENGINE, n->engine);
		table__text(*out, MODEL, model_text(text, sizeof(text), n));
		table__text(*out, PORTS, n->port);
		table__text(*out, STEP_COST, cost_text(text, sizeof(text), n));
	}
	return 0;
}

size_t servers__refused(const struct servers *s)
{
	size_t refused = 0;

	for (size_t i = 0; i < s->count; i++)
		refused += s->server[i].refused;
	return refused;
}

void servers__print_refused(const struct servers *s, FILE *out)
{
	for (size_t i = 0; i < s->count; i++) {
		const struct server *n = &s->server[i];

		if (n->refused)
			lines__print(out, 4, "  %u, %s: %s%s%s", n->pid,
				     *n->command ? n->command : "-", n->why,
				     *n->remedy ? "; try: " : "", n->remedy);
	}
}

/* True if @port stands in @value as a number of its own: "127.0.0.1:8080", "8080, 8081". */
static bool has_port(const char *value, uint16_t port)
{
	const char *p = value;
	char *end;

	while (*p) {
		if (*p < '0' || *p > '9') {
			p++;
			continue;
		}
		if (strtoul(p, &end, 10) == port)
			return true;
		p = end;
	}
	return false;
}

static bool matches(const struct server *n, const char *name, uint16_t port)
{
	if (name)
		return strcasestr(n->command, name) || strcasestr(n->name, name) ||
		       strcasestr(n->architecture, name);
	return port && has_port(n->port, port);
}

size_t servers__match(const struct servers *s, const char *name, uint16_t port, uint32_t *pid,
		      size_t room)
{
	size_t found = 0;

	for (size_t i = 0; i < s->count; i++) {
		if (!matches(&s->server[i], name, port))
			continue;
		if (found < room)
			pid[found] = s->server[i].pid;
		found++;
	}
	return found;
}

bool servers__obstacle(const struct servers *s, const char **what, const char **remedy)
{
	if (!s->has_obstacle)
		return false;
	*what = s->obstacle;
	*remedy = s->remedy;
	return true;
}

void servers__free(struct servers *s)
{
	if (!s)
		return;
	free(s->server);
	free(s);
}
