/* SPDX-License-Identifier: BSD-2-Clause */
/* Numbers as people read them. Each writes into @out (@size bytes) and returns it. */
#ifndef MP_VIEW_FORMAT_H
#define MP_VIEW_FORMAT_H

#include <stddef.h>
#include <stdint.h>

#define FORMAT_SIZE 32 /* bytes that hold any of them */

/* 1234567 -> "1,234,567" */
char *format__count(char *out, size_t size, uint64_t n);
/* TRACE_UNKNOWN -> "-" */
char *format__known(char *out, size_t size, uint32_t n);
/* 0.0123 -> "1.2 %"; 0 -> "0 %"; less than 0.05 % but not nothing -> "<0.1 %"; negative: "-" */
char *format__share(char *out, size_t size, double share);
/* 38.25 -> "38.3"; negative: "-" */
char *format__rate(char *out, size_t size, double per_second);
/* 12.3 s, 2 min 05 s, 1 h 02 min */
char *format__duration(char *out, size_t size, uint64_t ns);
/* 812 B, 12.3 MB (powers of 1000) */
char *format__bytes(char *out, size_t size, uint64_t bytes);

#endif
