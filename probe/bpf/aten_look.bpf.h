/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What a libtorch tensor is and what of it is to be copied: the part of mp_tensors that reads the
 * target's memory and delivers nothing. */
#ifndef MP_BPF_ATEN_LOOK_H
#define MP_BPF_ATEN_LOOK_H

#include "probe/bpf/emit.bpf.h"

#define DIMS_MAX 3
#define STRIDE_MAX (1u << 28) /* elements: as bytes in 32 bits */
#define IMPL_DIMS 5           /* that TensorImpl holds without an allocation of its own */
#define CPU_DEVICE 0
#define DTYPE_INT 3 /* c10::ScalarType */
#define DTYPE_LONG 4

/* What TensorImpl says of a tensor, in its order (c10/core/TensorImpl.h). */
struct impl_head {
	__u64 dims;
	__s64 size[IMPL_DIMS];
	__s64 stride[IMPL_DIMS]; /* in elements */
	__s64 storage_offset;    /* in elements */
	__s64 numel;
	__u16 dtype;
	__s8 device, device_index;
	__u32 reserved;
};
_Static_assert(sizeof(struct impl_head) == 112, "no padding: filled by one read");
#define IMPL_HEAD_BYTES 108
#define STORAGE_BYTES 32 /* in StorageImpl, behind its data pointer: how large it is */

/* One tensor, ready to be copied. */
struct tensor_view {
	__u64 impl;
	__u64 from;    /* address of the first element */
	__u64 storage; /* bytes of its allocation */
	__u32 stride;  /* bytes from row to row */
	__u32 outer;   /* of three dimensions, bytes from the first to the first; 0: as @stride says
			*/
	__u32 rows, row_bytes;
	__u32 size[DIMS_MAX];
	__u8 role, dtype, dims, flags;
};

#define ARGUMENTS 6

/* Where a row says the sizes are. The offset is a multiple of 8; with MP_TENSOR_RAW it is presumed,
 * and the bytes that confirm it or not are delivered before what is read so. */
static __always_inline __u64 site__head(const struct mp_tensors_site *site)
{
	return site->head & ~7u;
}

/*
 * One hit: numbers only, since the functions that look and deliver are verified on their own (a
 * call of them is one step to the verifier, not all their branches again) and get no pointers from
 * us.
 */
struct tensors {
	__u64 time_ns;
	__u32 row, tgid, tid;
	__u32 computation, ordinal;
	__u32 rows; /* of the first tensor that was delivered */
	__u64 argument[ARGUMENTS];
	__u64 stack; /* where the arguments on the stack begin */
	struct tensor_view view;
	__u64 key;
	__u32 key_first, key_dtype;
	__s64 scalar[2];
};

/* --- what is there --------------------------------------------------------------------------- */

/* Bytes of an element of c10::ScalarType @dtype; 0: not one that is read. By a shift: 4 bits each
 * of uint8, int8, int16, int32, int64, half, float, double, 3 x complex, bool, 3 x quantised,
 * bfloat16. */
static __always_inline __u32 element_bytes(__u16 dtype)
{
	return dtype > 15 ? 0 : (0x2000100084284211ull >> (4 * dtype)) & 15;
}

/* Rule @i, in words that the verifier understands: the compiler must not compute it again. */
static __always_inline const struct mp_tensor_rule *site__rule(const struct mp_tensors_site *site,
							       __u32 i)
{
	const struct mp_tensor_rule *rule = &site->rule[i & (MP_TENSOR_RULES - 1)];

	barrier_var(rule);
	return rule;
}

/* Nonzero if @value is not within [least, most]. Here and below without branches: each doubles what
 * the verifier walks through at attach. */
static __always_inline __u64 outside(__u64 value, __u64 least, __u64 most)
{
	__u64 out = (value - least) | (most - value) | (value >> 62);

	barrier_var(out);
	return out >> 63;
}

/* All ones if @value is 0, else 0. */
static __always_inline __u64 mask_of_zero(__u64 value)
{
	__u64 mask = ((value | -value) >> 63) - 1;

	barrier_var(mask);
	return mask;
}

/* The last size of 1 to 3. */
static __always_inline __u64 head__last(const struct impl_head *h)
{
	return (h->size[0] & mask_of_zero(h->dims ^ 1)) | (h->size[1] & mask_of_zero(h->dims ^ 2)) |
	       (h->size[2] & mask_of_zero(h->dims ^ 3));
}

static __always_inline __u64 rule__refuses(const struct mp_tensor_rule *rule,
					   const struct impl_head *h)
{
	return outside(h->dims, rule->dims_min, rule->dims_max) | outside(h->dims, 1, DIMS_MAX) |
	       outside(h->dtype, 0, 31) | (~rule->dtypes >> (h->dtype & 31) & 1) |
	       outside(h->size[0], rule->first_min, rule->first_max) |
	       outside(head__last(h), rule->last_min, rule->last_max);
}

/* Turn dimensions into three, the first ones 1 where there are fewer; a vector is a column. In
 * place, and out of registers: the stack is small. */
static __always_inline void head__spread(struct impl_head *h)
{
	__u64 one = mask_of_zero(h->dims ^ 1), two = mask_of_zero(h->dims ^ 2);
	__u64 three = mask_of_zero(h->dims ^ 3);

	h->size[2] = (h->size[2] & three) | (h->size[1] & two) | (1 & one);
	h->size[1] = (h->size[1] & three) | (h->size[0] & (one | two));
	h->size[0] = (h->size[0] & three) | (1 & ~three);
	h->stride[2] = (h->stride[2] & three) | (h->stride[1] & two) | (1 & one);
	h->stride[1] = (h->stride[1] & three) | (h->stride[0] & (one | two));
	h->stride[0] &= three;
	barrier();
}

/* Fill what is to be copied and where it lies. 0, or nonzero: cannot be copied so. */
static __always_inline __u64 view__shape(struct tensor_view *v, const struct impl_head *h,
					 __u32 copy, __u32 bytes)
{
	/* Of a size that is 1 the stride says nothing. */
	__u64 first_alone = mask_of_zero(h->size[0] ^ 1),
	      second_alone = mask_of_zero(h->size[1] ^ 1);
	__u64 rows = h->size[0] * h->size[1], length = h->size[2];
	__u64 stride = (h->stride[1] & ~second_alone) | (h->stride[0] & second_alone);
	/* Rows are at one distance over both dimensions, and adjacent. */
	__u64 even = first_alone | mask_of_zero(h->stride[0] ^ (stride * h->size[1]));
	__u64 together, flat, bad;

	bad = (h->stride[2] ^ 1) & ~mask_of_zero(length ^ 1) & ~mask_of_zero(copy ^ MP_COPY_COLUMN);
	bad |= outside(h->size[0], 0, MP_ELEMENTS_MAX) | outside(h->size[1], 0, MP_ELEMENTS_MAX) |
	       outside(length, 0, MP_ELEMENTS_MAX) | outside(stride, 0, STRIDE_MAX) |
	       outside((h->stride[0] & ~even) | (1 & even), 1, STRIDE_MAX);
	length = (length & ~mask_of_zero(copy ^ MP_COPY_COLUMN)) |
		 (1 & mask_of_zero(copy ^ MP_COPY_COLUMN));
	stride = (stride & ~mask_of_zero(rows ^ 1)) | (length & mask_of_zero(rows ^ 1));
	together = even & mask_of_zero(stride ^ length);
	flat = mask_of_zero(copy ^ MP_COPY_ELEMENTS) & together;
	rows *= (length & flat) | (1 & ~flat);
	length = (1 & flat) | (length & ~flat);
	stride = (1 & flat) | (stride & ~flat);
	bad |= outside(rows, 0, MP_ELEMENTS_MAX);
	bad |= mask_of_zero(copy ^ MP_COPY_ROWS) & outside(rows, 0, MP_ROWS_MAX);
	v->rows = rows;
	v->row_bytes = length * bytes;
	v->stride = stride * bytes;
	v->outer = (h->stride[0] & ~even) * bytes;
	bad |= ~together & outside(v->row_bytes, 0, MP_STRIDED_ROW_MAX);
	bad &= ~mask_of_zero(copy ^ MP_COPY_NOTHING);
	barrier_var(bad);
	return bad;
}

/* The TensorImpl that argument @number refers to; 0: none, or not readable. */
static __always_inline __u64 tensors__impl(struct tensors *t, __u32 number)
{
	__u64 at = t->stack + 8 * ((__u64)number - MP_STACK_ARGUMENT), impl = 0;
	__u32 in_register = number;

	if (number < ARGUMENTS) {
		CLAMP(in_register, ARGUMENTS - 1);
		at = t->argument[in_register];
	} else if (read_user(&at, 8, at)) {
		return 0;
	}
	return read_user(&impl, 8, at) ? 0 : impl;
}

enum look { LOOK_FITS, LOOK_OTHER, LOOK_FAULT, LOOK_SHAPE };

/* Look at the tensor of rule @i of the hit's row and fill the view: enum look. */
__noinline int tensors__look(struct tensors *t, __u32 i)
{
	const struct mp_tensors_site *site;
	const struct mp_tensor_rule *rule;
	const struct mp_site *whole;
	struct tensor_view *v;
	struct impl_head h = {};
	__u64 storage;
	__u32 bytes, row;

	if (!t)
		return LOOK_FAULT;
	row = t->row;
	whole = bpf_map_lookup_elem(&sites, &row);
	if (!whole)
		return LOOK_FAULT;
	site = &whole->tensors;
	rule = site__rule(site, i);
	v = &t->view;
	v->impl = tensors__impl(t, rule->argument);
	if (!v->impl)
		return LOOK_FAULT;
	if (bpf_probe_read_user(&h, IMPL_HEAD_BYTES, (const void *)(v->impl + site__head(site))))
		return LOOK_FAULT;
	if (rule__refuses(rule, &h))
		return LOOK_OTHER;
	bytes = element_bytes(h.dtype);
	v->role = rule->role;
	v->dtype = h.dtype;
	v->dims = h.dims;
	v->size[0] = h.size[0];
	v->size[1] = h.size[1] & ~mask_of_zero(h.dims ^ 1);
	v->size[2] = h.size[2] & mask_of_zero(h.dims ^ 3);
	v->flags = 0;
	v->rows = v->row_bytes = v->stride = 0;
	v->from = v->storage = 0;
	if (h.device != CPU_DEVICE) {
		v->flags = MP_TENSOR_DEVICE;
		return LOOK_FITS;
	}
	if (read_user(&storage, 8, v->impl + site->storage) ||
	    read_user(&v->from, 8, storage + site->data))
		return LOOK_FAULT;
	if (rule->role == MP_ROLE_SLOTS &&
	    read_user(&v->storage, 8, storage + site->data + STORAGE_BYTES))
		return LOOK_FAULT;
	v->from += h.storage_offset * bytes;
	head__spread(&h);
	return view__shape(v, &h, rule->copy, bytes) ? LOOK_SHAPE : LOOK_FITS;
}

#endif
