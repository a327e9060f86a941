#pragma once
// One line an event on standard error: time, level, rank, then words and name=value; the place in the
// source with LOG_DEBUG, and always in JSON.

#include "ops/base/linkage.h"

#include <stdbool.h>
#include <stdint.h>

C_BEGIN

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };
enum log_format { LOG_TEXT, LOG_JSON };

// Set once by main, before threads start. Default: LOG_INFO, LOG_TEXT.
void log_setup(enum log_level most, enum log_format format);

// The calling thread speaks for this rank; -1 (the default) for none. A rank's threads each say so.
void log_set_rank(int32_t rank);
int32_t log_rank(void);

bool log_on(enum log_level level);
void log_write(enum log_level level, const char *file, int line, const char *format, ...)
    PRINTF_LIKE(4, 5);

// Whoever draws on the terminal (the progress bar) is told before and after a line is written.
void log_set_screen(void (*before)(void), void (*after)(void));

#define LOG(level, ...) \
    (log_on(LOG_##level) ? log_write(LOG_##level, __FILE__, __LINE__, __VA_ARGS__) : (void)0)

C_END
