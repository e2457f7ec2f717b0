/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Diagnostics on standard error; standard output belongs to data. Each source file defines
 * LOG_MODULE before including this header, and its messages carry that name.
 */
#ifndef MP_BASE_LOG_H
#define MP_BASE_LOG_H

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* Show messages up to @level (default LOG_WARN). */
void log__set_level(enum log_level level);

/* Write "<module>: <message>\n" to standard error if @level is shown. Never fails. */
void log__write(enum log_level level, const char *module, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

#define log_warn(...) log__write(LOG_WARN, LOG_MODULE, __VA_ARGS__)
#define log_info(...) log__write(LOG_INFO, LOG_MODULE, __VA_ARGS__)
#define log_debug(...) log__write(LOG_DEBUG, LOG_MODULE, __VA_ARGS__)

#endif
