#pragma once
// What `longscan bench` measures, part by part; bench.c runs them in order, bench_report.c says it.

#include "ops/model/mamba2.h"
#include "ops/model/stage_clock.h"
#include "src/measure_out.h"
#include "src/score_rank.h"

#define BENCH_WARM_UPS 2

// What a stage has to move and to compute, whatever the implementation (bench_cost.c).
struct stage_cost {
    double bytes, flops;
    bool rest; // the flops are not of a product with weights
};

// A step, as much of it as its cost depends on.
struct step_shape {
    int64_t rows, chunks;
    int64_t starts, ends; // spans without a state from before; without one for after
};

// A few steps of the same kind, the model alone.
struct bench_steps {
    int64_t documents; // spans of a step
    double seconds;    // a step: median
    double least, most;
    double queue_seconds; // until model_run returned: what the host has to do, or waits for
    struct step_shape shape;
};

struct bench_stages {
    double seconds[STAGES]; // of one step
    double all;             // their sum
    struct stage_cost cost[STAGES];
};

// The whole program: leader, plan, ranks, hand-over, with tokens made up instead of read.
struct bench_job {
    int32_t ranks;
    int64_t documents, tokens, steps;
    double seconds;                    // from the first step sent to the last answer
    double ingest, plan, emit, commit; // of the leader's thread, a step
    double compute, wait;              // of rank 0's compute thread, a step
};

struct bench_results {
    struct model_info model;
    char numerics[128], dtype[16];
    int64_t step_tokens;
    int64_t windows; // of a step, in which a layer is worked off
    int32_t ranks;
    struct ceilings ceilings;
    struct bench_steps one, packed;              // one document that goes on; many short ones
    struct bench_stages stages;                  // of a step of one document
    struct bench_job job, packed_job, alone_job; // alone: one rank, where there are several
    double hop_seconds;                          // of one layer's state to the next rank; 0: no
    int64_t hop_bytes;
};

// Everything a rank measures with. Borrowed.
struct bench {
    const struct settings *settings;
    const struct score_place *place;
    struct backend *backend;
    struct model *model;
    const char *dtype;
    int64_t step_tokens, repeat;
};

// Tokens of one step and where its spans lie; states of one long document. Errors: NO_MEMORY.
enum status bench_measure_steps(const struct bench *bench, bool packed, struct bench_steps *steps);
enum status bench_measure_stages(const struct bench *bench, struct bench_stages *stages);
// Collective over the link. documents: of log-uniform 50 to 4,000 tokens; otherwise one.
enum status bench_measure_job(const struct bench *bench, struct link *link, bool documents,
                              int64_t tokens, struct bench_job *job);
// Collective over a group of at least two: half the time of there and back.
enum status bench_measure_hop(const struct bench *bench, struct link *link, double *seconds);

// Bytes of a weight and of an activation.
struct element_bytes {
    int64_t weight, row;
};
// What each stage of the step needs.
void bench_cost(const struct mamba2_config *config, const struct step_shape *shape,
                struct element_bytes element, struct stage_cost cost[STAGES]);
// The least time for it: whatever of the two takes longer. 0 without ceilings.
double bench_floor(const struct ceilings *ceilings, const struct stage_cost *cost);

// How long a document of `tokens` takes on `ranks` ranks.
struct bench_guess {
    int64_t ranks, steps;
    double lag;  // of one rank behind the one to its left
    double skew; // of the last rank behind the first; must stay below a step
    double seconds, speed_up, efficiency;
    bool stalls; // the skew is longer than a step: rank 0 waits
};
struct bench_guess bench_guess(const struct bench_results *results, int64_t ranks, int64_t tokens,
                               double hop_seconds);

// The next length of a short document; log-uniform in [50, 4000].
int64_t bench_draw_length(uint64_t *random);
uint64_t bench_draw(uint64_t *random);

// A table or JSON lines, as `out` says. Errors: NO_MEMORY.
enum status bench_report(const struct settings *settings, const struct bench_results *results,
                         const struct measure_out *out);
