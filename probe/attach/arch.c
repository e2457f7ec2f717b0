/* SPDX-License-Identifier: BSD-2-Clause */
/* The list of CPU architectures whose code we can plan probes in. */
#include "probe/attach/arch.h"

#include <stdio.h>
#include <sys/utsname.h>

const struct arch_ops *arch__find(uint16_t machine)
{
	size_t i;

	for (i = 0; architectures[i]; i++) {
		if (architectures[i]->machine == machine)
			return architectures[i];
	}
	return NULL;
}

const struct arch_ops *arch__own(void)
{
	size_t i;

	for (i = 0; architectures[i]; i++) {
		if (architectures[i]->sample_emulated && architectures[i]->sample_stepped)
			return architectures[i];
	}
	return NULL;
}

uint32_t arch__running_kernel(void)
{
	unsigned major, minor;
	struct utsname name;

	if (uname(&name) || sscanf(name.release, "%u.%u", &major, &minor) != 2)
		return 0;
	return ARCH_KERNEL(major, minor);
}

const struct arch_ops *const architectures[] = {
	&arch_x86_64,
	NULL,
};
