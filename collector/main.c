/* SPDX-License-Identifier: BSD-2-Clause */
#include "collector/collector.h"
#include "collector/collector_options.h"
#include "probe/base/error.h"
#include "probe/base/log.h"

int main(int argc, char **argv)
{
	const char *program = collector_options__program(argc, argv);
	struct error e = { 0 };
	struct collector_options o;
	int code;

	code = collector_options__parse(&o, argc, argv, &e);
	if (code > 0)
		return EXIT_OK;
	if (!code) {
		if (o.verbose)
			log__set_level(LOG_DEBUG);
		code = collector__run(&o, &e);
	} else {
		code = e.exit;
	}
	if (error__is_set(&e))
		error__print(&e, program, stderr);
	return code;
}
