/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What is known of where a process sends to. */
#ifndef MP_BPF_CHANNEL_H
#define MP_BPF_CHANNEL_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/* A channel: how many pieces that look like nothing are still delivered, and whether some were not.
 * A descriptor may be another's by now; so what it was known for does not last. */
struct channel_key {
	__u64 number; /* the descriptor, or the address of a TLS connection */
	__u32 tgid;
	__u32 is_object;
};
struct channel {
	__u32 credit;
	__u32 missing;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct channel_key);
	__type(value, struct channel);
} channels __weak SEC(".maps");

#endif
