// What a step cannot do without: every stage reads what it needs once and writes what the next one
// needs once; a chunk's state is kept once a chunk; weights are read once a step. What is small
// (norms, gates, decays) is not counted as work. T rows, d hidden, i inner, W conv width, P
// projected width, H heads, p head dim, N state, e bytes of an activation, f of a weight.

#include "ops/transport.h"
#include "src/bench.h"

#define INTRA_TOKENS 64 // rows of the products inside a chunk: the smallest tile in use

static double number(int64_t count) {
    return (double)count;
}

void bench_cost(const struct mamba2_config *config, const struct step_shape *shape,
                struct element_bytes element, struct stage_cost cost[STAGES]) {
    const double t = number(shape->rows), e = number(element.row), f = number(element.weight);
    const double d = number(config->hidden_size), inner = number(config->d_inner);
    const double w = number(config->conv_width), p = number(config->proj_width);
    const double h = number(config->heads), n = number(config->d_state);
    const double groups = number(config->groups), layers = number(config->layers);
    const double vocab = number(config->vocab_size);
    const double state = 4 * h * n * number(config->head_dim); // bytes of one, f32
    // A chunk's own contribution that somebody later needs; a state before a chunk that is not zero.
    const double left = number(shape->chunks - shape->ends);
    const double right = number(shape->chunks - shape->starts);
    const double product = 2 * t * inner * n; // of states and inputs, or of states and C
    cost[STAGE_BEGIN] = (struct stage_cost){.bytes = t * d * (e + 4)};
    cost[STAGE_PROJECT] =
        (struct stage_cost){.bytes = 4 * t * d + f * p * d + e * t * p, .flops = 2 * t * d * p};
    cost[STAGE_TAIL] = (struct stage_cost){.bytes = number(config->d_conv - 1) * w * (e + 4) *
                                                    number(shape->chunks > 0)};
    cost[STAGE_PREPARE] = (struct stage_cost){
        .bytes = 2 * e * t * w + (e + 8) * t * h + state * left,
        .flops = 2 * t * w * number(config->d_conv) + product + t * INTRA_TOKENS * n * groups,
        .rest = true};
    cost[STAGE_PASS] = (struct stage_cost){.bytes = state * (left + right)};
    cost[STAGE_SCAN] = (struct stage_cost){.bytes = e * t * (w + inner) + 8 * t * h + state * right,
                                           .flops = product + t * INTRA_TOKENS * inner,
                                           .rest = true};
    cost[STAGE_PROJECT_BACK] = (struct stage_cost){
        .bytes = 2 * e * t * inner + f * inner * d + 8 * t * d, .flops = 2 * t * inner * d};
    for (int stage = STAGE_PROJECT; stage <= STAGE_PROJECT_BACK; stage++) {
        cost[stage].bytes *= layers;
        cost[stage].flops *= layers;
    }
    cost[STAGE_HEAD] =
        (struct stage_cost){.bytes = 4 * t * d + f * vocab * d + 4 * t, .flops = 2 * t * d * vocab};
}

double bench_floor(const struct ceilings *ceilings, const struct stage_cost *cost) {
    const double moving = ceilings->copy_bytes > 0 ? cost->bytes / ceilings->copy_bytes : 0;
    const bool rest = cost->rest && ceilings->rest_flops > 0;
    const double flops = rest ? ceilings->rest_flops : ceilings->product_flops;
    const double working = flops > 0 ? cost->flops / flops : 0;
    return moving > working ? moving : working;
}

// A rank may pass its first window's states once the last window of the rank to its left has passed
// its own: that is the lag. Rank r works r lags behind rank 0, which costs a document (r - 1) of
// them once; a step later rank 0 needs the last rank's state. Its first batch of layers leaves when the
// last rank has written it, so it has come unless all the lags together outlast the rest of a step.
struct bench_guess bench_guess(const struct bench_results *results, int64_t ranks, int64_t tokens,
                               double hop_seconds) {
    const double step = results->one.seconds, windows = number(results->windows);
    const double layer = step / number(results->model.layers);
    const double batch = step / TRANSPORT_BATCHES;
    const double pass = results->stages.seconds[STAGE_PASS] / number(results->model.layers);
    const int64_t alone = (tokens + results->step_tokens - 1) / results->step_tokens;
    const int64_t steps = (alone + ranks - 1) / ranks;
    struct bench_guess guess = {.ranks = ranks, .steps = steps};
    guess.lag = hop_seconds + pass / windows + layer * (1 - 1 / windows);
    guess.skew = number(ranks - 1) * guess.lag;
    guess.stalls = guess.skew > step - batch;
    // A turn of the ring then takes as long as the ring is.
    const double turn = guess.stalls ? guess.skew + batch : step;
    guess.seconds = number(steps - 1) * turn + step + guess.skew;
    guess.speed_up = number(alone) * step / guess.seconds;
    guess.efficiency = guess.speed_up / number(ranks);
    return guess;
}
