#pragma once
// JSON text behind a growing run of bytes: each puts `before`, text as it is, and then a value.
// Errors: NO_MEMORY.

#include "pipeline/bytes.h"

#include <stdint.h>

enum status json_put(struct bytes *out, const char *before);
enum status json_put_int(struct bytes *out, const char *before, int64_t value);
enum status json_put_count(struct bytes *out, const char *before, uint64_t value);
enum status json_put_double(struct bytes *out, const char *before, double value);
// With as few digits as give it back: 0.05, not 0.050000000000000003.
enum status json_put_short(struct bytes *out, const char *before, double value);
// In quotes, escaped.
enum status json_put_string(struct bytes *out, const char *before, const char *string,
                            size_t string_bytes);
