#pragma once
// Flush-to-zero and denormals-are-zero for the calling thread. Decays underflow inside a tile, and
// arithmetic on denormal numbers is many times slower; and bits must not depend on which thread
// computed a row, so every thread that computes has the same mode.

#include <stdbool.h>
#include <stdint.h>

#if defined(__x86_64__)
#    include <xmmintrin.h>
#    define FLOAT_MODE_FLUSH UINT64_C(0x8040) // MXCSR: FTZ and DAZ
#elif defined(__aarch64__)
#    define FLOAT_MODE_FLUSH (UINT64_C(1) << 24) // FPCR: FZ, inputs and results
#else
#    define FLOAT_MODE_FLUSH UINT64_C(0) // no such mode: denormals are computed with
#endif

static inline uint64_t float_mode_read(void) {
#if defined(__x86_64__)
    return _mm_getcsr();
#elif defined(__aarch64__)
    uint64_t mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    return mode;
#else
    return 0;
#endif
}

static inline void float_mode_write(uint64_t mode) {
#if defined(__x86_64__)
    _mm_setcsr((unsigned)mode);
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" : : "r"(mode));
#else
    (void)mode;
#endif
}

// Sets the mode and returns the one before, for float_mode_write.
static inline uint64_t float_mode_flush(void) {
    const uint64_t before = float_mode_read();
    float_mode_write(before | FLOAT_MODE_FLUSH);
    return before;
}

static inline bool float_mode_flushes(void) {
    return (float_mode_read() & FLOAT_MODE_FLUSH) == FLOAT_MODE_FLUSH;
}
