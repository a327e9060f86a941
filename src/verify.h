#pragma once
// What `longscan verify` checks: a model on a backend against float64, and its scores' bits against
// themselves however the work is cut. verify.c is the verb, verify_model.c the judge.

#include "ops/model/mamba2.h"

#define VERIFY_CHECKS_MOST 8

// What the arithmetic may be off by. NLLs in nats: their mean, and each one, or share * nll if that is
// more; states relative to their norm, the worst layer's. Models differ in how much they make of a
// rounding: where the dtype's roundoff in the weights of the products alone, put into the float64
// model, moves its results, a few times that is allowed too. 0: it is not tried.
struct verify_tolerance {
    double mean, each, share, state;
    double roundoff;
};
// By the name of a dtype. Errors: USAGE.
enum status verify_tolerance_of(const char *dtype, struct verify_tolerance *tolerance);

// What to judge. All borrowed.
struct verify_subject {
    struct backend *backend;
    const struct mamba2_config *config;
    const struct mamba2_weights *weights;
    const char *name;
    const int32_t *token; // of one document
    int64_t tokens;
    uint64_t seed;
    struct verify_tolerance tolerance;
    double oracle_work; // multiplications of the float64 model that may be spent on a check
};

struct verify_check {
    const char *name;
    bool exact;  // by bits; otherwise against float64
    bool passed; // neither NaN nor beyond the tolerance; or all bits equal
    int64_t tokens, layers;
    double mean, most, state; // against float64
    double mean_allowed, most_allowed, state_allowed;
    int64_t different; // NLLs whose bits differ, and bytes of states
    int64_t first;     // position of the first such NLL; -1: none
};

struct verify_report {
    struct verify_check check[VERIFY_CHECKS_MOST];
    int count;
    bool passed; // all of them
};

// A verdict that is negative is no error. Errors: NO_MEMORY, PEER.
enum status verify_model(const struct verify_subject *subject, struct verify_report *report);

// Parts of it. A model of some of the subject's layers, opened for steps of up to `step_tokens`.
struct verify_trial {
    const struct verify_subject *subject;
    struct mamba2_config config;
    struct mamba2_weights weights; // shares all with the subject's but layers
    struct model *model;
};
enum status verify_trial_open(const struct verify_subject *subject, int64_t layers,
                              int64_t step_tokens, struct verify_trial *trial);
void verify_trial_close(struct verify_trial *trial);

// Against float64, over as many tokens as the work allows. Adds nothing if those would be fewer
// than `least`.
enum status verify_oracle(const struct verify_trial *trial, int64_t least,
                          struct verify_report *report);
// By bits: cuts, neighbours, places in a step. `other`: the same layers, opened for other steps.
enum status verify_bits(const struct verify_trial *trial, const struct verify_trial *other,
                        struct verify_report *report);

void verify_add(struct verify_report *report, const struct verify_check *check);
