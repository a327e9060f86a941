#pragma once
// Time as the loops need it: monotonic, 64-bit, never wall clock.

#include "ops/base/linkage.h"

#include <stdint.h>
#include <time.h>

C_BEGIN

static inline int64_t clock_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static inline int64_t clock_ms(void) {
    return clock_ns() / 1000000;
}

C_END
