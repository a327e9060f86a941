#pragma once
// Times of one thing, many times over. The machine is shared: the least is what the program needs,
// the median what it gets.

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { SAMPLES_MOST = 10000 };

struct samples {
    double at[SAMPLES_MOST];
    int64_t count;
};

static inline void samples_add(struct samples *samples, double value) {
    if (samples->count < SAMPLES_MOST) samples->at[samples->count++] = value;
}

static inline int samples_rising(const void *a, const void *b) {
    const double *left = a, *right = b;
    return (*left > *right) - (*left < *right);
}

// Sorts. share: 0 is the least, 0.5 the median.
static inline double samples_quantile(struct samples *samples, double share) {
    if (samples->count == 0) return 0.0;
    qsort(samples->at, (size_t)samples->count, sizeof *samples->at, samples_rising);
    return samples->at[(int64_t)(share * (double)(samples->count - 1) + 0.5)];
}
