/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/engine/wire/sites.h"

#include <stdbool.h>
#include <string.h>

#include "probe/target/elf.h"
#include "probe/target/target.h"

#define ARGUMENT(n) (1u << (n))

/* write() and writev() show files and pipes too: the kernel program lets go of a descriptor that
 * carries no responses. */
static const struct hook {
	const char *library, *symbol; /* how the library's file name begins */
	enum mp_bytes_form form;
} hooks[] = {
	{ "libc.so", "send", MP_BYTES_BUFFER },        { "libc.so", "sendto", MP_BYTES_BUFFER },
	{ "libc.so", "sendmsg", MP_BYTES_MESSAGE },    { "libc.so", "write", MP_BYTES_BUFFER },
	{ "libc.so", "writev", MP_BYTES_VECTOR },      { "libssl", "SSL_write", MP_BYTES_OBJECT },
	{ "libssl", "SSL_write_ex", MP_BYTES_OBJECT },
};

static bool begins(const char *path, const char *name)
{
	const char *file = strrchr(path, '/');

	return !strncmp(file ? file + 1 : path, name, strlen(name));
}

static void add(struct engine_plan *plan, const struct hook *h, const struct mapping *library,
		struct elf *f)
{
	struct engine_site *s = &plan->site[plan->sites];

	memset(s, 0, sizeof(*s));
	if (site__plan(&s->place, f, h->symbol, ARGUMENT(0) | ARGUMENT(1) | ARGUMENT(2), 0, NULL))
		return;
	s->purpose = "responses";
	s->library = library;
	s->without = "the ids that clients see stay unknown";
	s->row.program = MP_PROGRAM_BYTES;
	s->row.sent.form = h->form;
	s->row.sent.whole = WIRE_WHOLE_BYTES;
	plan->sites++;
}

static void plan_hooks(struct engine_plan *plan, struct target *t, bool only_tls)
{
	const struct mapping *m;
	size_t at = 0;

	while ((m = target__next_library(t, &at))) {
		for (size_t i = 0; i < sizeof(hooks) / sizeof(*hooks); i++) {
			struct elf_symbol found;
			struct elf *f;

			if ((only_tls && hooks[i].form != MP_BYTES_OBJECT) ||
			    !begins(m->path, hooks[i].library) || plan->sites == ENGINE_SITES_MAX ||
			    target__elf(t, m, &f, NULL) || elf__symbol(f, hooks[i].symbol, &found))
				continue;
			add(plan, &hooks[i], m, f);
		}
	}
}

void wire_sites__plan(struct engine_plan *out, struct target *t)
{
	plan_hooks(out, t, false);
}

void wire_sites__plan_tls(struct engine_plan *out, struct target *t)
{
	plan_hooks(out, t, true);
}
