/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What this kernel and these rights allow, as one table: each row says what is needed, finds
 * out whether it is there, and what to do when it is not. Asked once; read by the broker, by
 * doctor and by the tests (to skip with a reason).
 */
#ifndef MP_ATTACH_ABILITY_H
#define MP_ATTACH_ABILITY_H

#include <stddef.h>

struct error;

/* X(NAME, short name) */
#define ABILITIES(X) \
	X(CAP_BPF, "CAP_BPF") \
	X(CAP_PERFMON, "CAP_PERFMON") \
	X(CAP_SYS_PTRACE, "CAP_SYS_PTRACE") \
	X(CAP_DAC_READ_SEARCH, "CAP_DAC_READ_SEARCH") \
	X(CAP_CHECKPOINT_RESTORE, "CAP_CHECKPOINT_RESTORE") \
	X(KERNEL_VERSION, "kernel >= 5.19") \
	X(BPF_SYSCALL, "bpf system call") \
	X(BPF_LOOP, "bpf_loop helper") \
	X(BPF_COOKIE, "uprobe cookies") \
	X(RING_BUFFER, "BPF ring buffer") \
	X(UPROBE, "uprobes by perf_event_open") \
	X(UPROBE_MULTI, "uprobe_multi links")

enum ability_id {
#define X(name, text) ABILITY_##name,
	ABILITIES(X)
#undef X
		ABILITY_COUNT
};

enum ability_state { ABILITY_THERE, ABILITY_MISSING, ABILITY_UNKNOWN };

struct ability {
	enum ability_state state;
	int required;     /* attach cannot do without it, as things are here */
	int by_rights;    /* missing for lack of rights: another kernel would not help */
	char found[96];   /* what was found ("6.18.44", "not permitted") */
	char remedy[384]; /* what to do when it is missing, "" if nothing helps */
};

/* Find out about every ability with the caller's rights; @out has ABILITY_COUNT entries. Leaves
 * nothing behind. */
void ability__probe_all(struct ability *out);
const char *ability__name(enum ability_id id);
/* 0, or the error that names every required ability that is missing: rights give EXIT_PERMISSION
 * with the command that grants them, the rest EXIT_UNSUPPORTED. */
int ability__require(const struct ability *all, struct error *e);

#endif
