/* SPDX-License-Identifier: BSD-2-Clause */
#include "collector/counters.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "probe/base/error.h"

struct counters {
	int fd;
	size_t cpus;
	struct mp_counters *per_cpu; /* [cpus] */
};

int counters__open(struct counters **out, int fd, int cpus, struct error *e)
{
	struct counters *c;

	*out = NULL;
	if (cpus < 1)
		return error__set(e, EXIT_UNSUPPORTED, cpus ? -cpus : EINVAL, NULL,
				  "collector: failed to count this machine's processors");
	c = calloc(1, sizeof(*c));
	if (c)
		c->per_cpu = calloc((size_t)cpus, sizeof(*c->per_cpu));
	if (!c || !c->per_cpu) {
		free(c);
		return error__set(e, EXIT_FAILED, ENOMEM, NULL, "collector: out of memory");
	}
	c->fd = fd;
	c->cpus = (size_t)cpus;
	*out = c;
	return 0;
}

int counters__read(struct counters *c, struct mp_counters *rows, size_t count)
{
	struct mp_counters sum[MP_SITES] = { 0 };

	if (count > MP_SITES)
		return -EINVAL;
	for (uint32_t i = 0; i < count; i++) {
		if (bpf_map_lookup_elem(c->fd, &i, c->per_cpu))
			return -errno;
		for (size_t cpu = 0; cpu < c->cpus; cpu++) {
#define X(id, name, text) sum[i].name += c->per_cpu[cpu].name;
			MP_COUNTERS(X)
#undef X
		}
	}
	/* All or nothing: half of them would run backwards. */
	memcpy(rows, sum, count * sizeof(*rows));
	return 0;
}

void counters__free(struct counters *c)
{
	if (!c)
		return;
	free(c->per_cpu);
	free(c);
}
