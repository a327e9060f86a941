#pragma once
// A trial's weights as the float64 model takes them: f32, in host memory.

#include "ops/ref/oracle.h"
#include "src/verify.h"

struct plain {
    struct oracle_weights weights;
    struct oracle_layer *layers;
    float **block; // what was converted or shaken, ours
    int64_t blocks;
    double roundoff;
    uint64_t random;
};

// roundoff > 0: every weight of a product is off by up to that share of itself, as rounding to a dtype
// would have it, whatever the weights are. Borrows the trial. Errors: NO_MEMORY, also with what is
// to be closed.
enum status plain_open(const struct verify_trial *trial, double roundoff, struct plain *plain);
void plain_close(struct plain *plain);
