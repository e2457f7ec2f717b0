/* SPDX-License-Identifier: BSD-2-Clause */
/* Which places of a process show what it sends: this one's own libraries. */
#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "probe/base/error.h"
#include "probe/engine/engine.h"
#include "probe/engine/wire/sites.h"
#include "probe/target/opener.h"
#include "probe/target/target.h"

static const struct wanted {
	const char *symbol;
	uint32_t form;
	bool is_tls;
} wanted[] = {
	{ "send", MP_BYTES_BUFFER, false },        { "sendto", MP_BYTES_BUFFER, false },
	{ "sendmsg", MP_BYTES_MESSAGE, false },    { "write", MP_BYTES_BUFFER, false },
	{ "writev", MP_BYTES_VECTOR, false },      { "SSL_write", MP_BYTES_OBJECT, true },
	{ "SSL_write_ex", MP_BYTES_OBJECT, true },
};
#define WANTED (sizeof(wanted) / sizeof(*wanted))

static const struct engine_site *find(const struct engine_plan *p, const struct wanted *w)
{
	for (size_t i = 0; i < p->sites; i++)
		if (!strcmp(p->site[i].place.symbol, w->symbol))
			return &p->site[i];
	return NULL;
}

static void check_plan(bool only_tls, bool has_tls)
{
	struct engine_plan plan;
	struct error e = { 0 };
	struct target *t;

	if (target__open(&t, getpid(), &opener_direct, &e))
		fail_msg("%s", e.what);
	engine_plan__clear(&plan);
	if (only_tls)
		wire_sites__plan_tls(&plan, t);
	else
		wire_sites__plan(&plan, t);
	for (size_t i = 0; i < WANTED; i++) {
		const struct engine_site *s = find(&plan, &wanted[i]);

		assert_int_equal(s != NULL, wanted[i].is_tls ? has_tls : !only_tls);
		if (!s)
			continue;
		assert_int_equal(s->row.program, MP_PROGRAM_BYTES);
		assert_int_equal(s->row.sent.form, wanted[i].form);
		/* Only what carries responses: these show files and pipes too. */
		assert_int_equal(s->row.sent.all, 0);
		assert_int_equal(s->required, 0);
	}
	target__free(t);
}

static void all_that_servers_send_by(void **state)
{
	void *library;

	check_plan(false, false);
	check_plan(true, false);
	library = dlopen("libssl.so.3", RTLD_NOW);
	if (!library)
		skip();
	check_plan(false, true);
	check_plan(true, true);
	dlclose(library);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(all_that_servers_send_by) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
