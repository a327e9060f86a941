#pragma once
// What `longscan info` knows of a model, from its shape alone but for what its files hold.

#include "ops/model/mamba2.h"
#include "src/measure_out.h"

// Lengths in tokens that the laws of "Stuffed Mamba" (arXiv 2410.07145, 5.2 and 5.3) give for a
// state of n_s million floats, SSM and convolution, all layers:
//   forget = 1024 (5.172 n_s - 4.469)
//   recall = 1024 (4.756 (1.365^n_s - 1) - 0.742)
// forget: the shortest training length from which the model forgets in time to read on for ever;
// recall: the longest context from which a passkey is found 95 times in 100. Both were fitted to
// points from 1.08 (d 512, 8 layers) to 12.92 (370m), of models with d_state 128 and head_dim 64.
#define LAW_FLOATS_LEAST 1.07
#define LAW_FLOATS_MOST  12.92
struct capacity {
    double floats;         // n_s, millions
    double forget, recall; // tokens; not above 0 where the law says nothing
    bool fitted, kindred;  // n_s is in the fitted range; d_state and head_dim are those of the fit
};

#define UNUSUAL_MOST 16

struct info {
    const char *name;
    struct mamba2_config config;
    bool files;    // read from a folder; false: an official shape
    uint64_t hash; // of what the files hold
    int64_t parameters, embedding;
    int64_t disk_bytes;                          // of the files with weights
    int64_t stored[DTYPE_OTHER];                 // parameters by the type they are stored in
    int64_t ssm_bytes, conv_bytes;               // of one sequence and layer
    double projections, convolution, scan, head; // FLOP a token of a long text
    struct capacity capacity;
    char tokenizer[160];
    char unusual[UNUSUAL_MOST][160];
    int32_t unusual_count;
};

struct capacity info_capacity(double million_floats);
// Everything but what files say. name is borrowed.
void info_of_shape(const char *name, const struct mamba2_config *config, struct info *info);

enum status info_say(const struct info *info, const struct measure_out *out);
