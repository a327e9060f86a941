// What bench says: one section a line of JSON, or one table for people.

#include "pipeline/json_put.h"
#include "src/bench.h"

#include <inttypes.h>
#include <math.h>

// Of a layer's state to the next rank where it was neither measured nor given: as between two H200s
// over NVLink, 54 us for 1 MiB and 141 us for 4 MiB (cuda/README.md).
#define HOP_SECONDS      20e-6
#define HOP_BYTE_SECONDS 29.6e-12

struct saying {
    FILE *out;
    const struct settings *settings;
    const struct bench_results *results;
    double hop; // that predictions are made with
    const char *hop_source;
};

static double floor_of(const struct bench_results *results, int stage) {
    return bench_floor(&results->ceilings, &results->stages.cost[stage]);
}

static double floors(const struct bench_results *results) {
    double sum = 0;
    for (int stage = 0; stage < STAGES; stage++) {
        sum += floor_of(results, stage);
    }
    return sum;
}

// The stage that is furthest above its floor: what to work on next.
static int furthest(const struct bench_results *results) {
    int found = 0;
    double most = -HUGE_VAL;
    for (int stage = 0; stage < STAGES; stage++) {
        const double lost = results->stages.seconds[stage] - floor_of(results, stage);
        if (lost > most) {
            most = lost;
            found = stage;
        }
    }
    return found;
}

static double share(double part, double whole) {
    return whole > 0 ? part / whole : 0;
}

static double rate(double amount, double seconds) {
    return seconds > 0 ? amount / seconds : 0;
}

static void choose_hop(struct saying *saying) {
    const struct bench_results *results = saying->results;
    if (saying->settings->hop_us > 0) {
        saying->hop = (double)saying->settings->hop_us * 1e-6;
        saying->hop_source = "given";
    } else if (results->hop_seconds > 0) {
        saying->hop = results->hop_seconds;
        saying->hop_source = "measured";
    } else {
        saying->hop = HOP_SECONDS + HOP_BYTE_SECONDS * (double)results->hop_bytes;
        saying->hop_source = "assumed, as between GPUs over NVLink";
    }
}

// The rank counts of --simulate: powers of two up to it, and itself. 0: no more.
static int64_t ranks_after(int64_t ranks, int64_t most) {
    if (ranks >= most) return 0;
    return 2 * ranks < most ? 2 * ranks : most;
}

static int64_t simulated_tokens(const struct saying *saying) {
    return saying->settings->tokens > 0 ? saying->settings->tokens : INT64_C(4) << 20;
}

// ---- JSON

static void json_machine(const struct saying *saying, const char *name, int name_bytes) {
    const struct bench_results *r = saying->results;
    fprintf(saying->out,
            "{\"kind\":\"setting\",\"model\":%.*s,\"parameters\":%" PRId64
            ",\"random_weights\":%s,\"numerics\":\"%s\",\"dtype\":\"%s\",\"step_tokens\":%" PRId64
            ",\"windows\":%" PRId64 ",\"ranks\":%d,\"repeat\":%" PRId64 ",\"seed\":%" PRId64 "}\n",
            name_bytes, name, r->model.parameters,
            saying->settings->shape != NULL ? "true" : "false", r->numerics, r->dtype,
            r->step_tokens, r->windows, r->ranks, saying->settings->repeat, saying->settings->seed);
    fprintf(saying->out,
            "{\"kind\":\"ceilings\",\"copy_bytes_per_second\":%.6g,\"copy\":\"%s\","
            "\"product_flops_per_second\":%.6g,\"product\":\"%s\","
            "\"rest_flops_per_second\":%.6g}\n",
            r->ceilings.copy_bytes, r->ceilings.copy, r->ceilings.product_flops,
            r->ceilings.product,
            r->ceilings.rest_flops > 0 ? r->ceilings.rest_flops : r->ceilings.product_flops);
}

static void json_steps(const struct saying *saying, const char *documents,
                       const struct bench_steps *steps) {
    fprintf(saying->out,
            "{\"kind\":\"step\",\"documents\":\"%s\",\"spans\":%" PRId64 ",\"tokens\":%" PRId64
            ",\"seconds\":%.6g,\"least_seconds\":%.6g,"
            "\"most_seconds\":%.6g,\"queue_seconds\":%.6g,\"tokens_per_second\":%.6g}\n",
            documents, steps->documents, steps->shape.rows, steps->seconds, steps->least,
            steps->most, steps->queue_seconds, rate((double)steps->shape.rows, steps->seconds));
}

static void json_stages(const struct saying *saying) {
    const struct bench_results *r = saying->results;
    for (int stage = 0; stage < STAGES; stage++) {
        const struct stage_cost *cost = &r->stages.cost[stage];
        fprintf(saying->out,
                "{\"kind\":\"stage\",\"stage\":\"%s\",\"seconds\":%.6g,\"bytes\":%.6g,"
                "\"flops\":%.6g,\"floor_seconds\":%.6g,\"share_of_floor\":%.4g}\n",
                stage_name((enum stage)stage), r->stages.seconds[stage], cost->bytes, cost->flops,
                floor_of(r, stage), share(floor_of(r, stage), r->stages.seconds[stage]));
    }
    const int worst = furthest(r);
    fprintf(saying->out,
            "{\"kind\":\"floor\",\"seconds\":%.6g,\"stages_seconds\":%.6g,\"step_seconds\":%.6g,"
            "\"share\":%.4g,\"furthest\":\"%s\",\"furthest_seconds\":%.6g}\n",
            floors(r), r->stages.all, r->one.seconds, share(floors(r), r->one.seconds),
            stage_name((enum stage)worst), r->stages.seconds[worst] - floor_of(r, worst));
}

static void json_job(const struct saying *saying, const char *documents,
                     const struct bench_job *job) {
    if (job->ranks == 0) return;
    fprintf(saying->out,
            "{\"kind\":\"program\",\"documents\":\"%s\",\"ranks\":%d,\"count\":%" PRId64
            ",\"tokens\":%" PRId64 ",\"steps\":%" PRId64
            ",\"seconds\":%.6g,\"tokens_per_second\":%.6g,\"compute_seconds_a_step\":%.6g,"
            "\"wait_seconds_a_step\":%.6g,\"ingest_seconds_a_step\":%.6g,"
            "\"plan_seconds_a_step\":%.6g,\"emit_seconds_a_step\":%.6g,"
            "\"commit_seconds_a_step\":%.6g}\n",
            documents, job->ranks, job->documents, job->tokens, job->steps, job->seconds,
            rate((double)job->tokens, job->seconds), job->compute, job->wait, job->ingest,
            job->plan, job->emit, job->commit);
}

static void json_scaling(const struct saying *saying) {
    const struct bench_results *r = saying->results;
    if (r->ranks > 1) {
        const double speed_up = rate(r->alone_job.seconds, r->job.seconds);
        fprintf(saying->out,
                "{\"kind\":\"scaling\",\"ranks\":%d,\"tokens\":%" PRId64
                ",\"seconds\":%.6g,\"alone_seconds\":%.6g,\"speed_up\":%.4g,"
                "\"efficiency\":%.4g,\"hop_seconds\":%.6g,\"hop_bytes\":%" PRId64 "}\n",
                r->ranks, r->job.tokens, r->job.seconds, r->alone_job.seconds, speed_up,
                speed_up / r->ranks, r->hop_seconds, r->hop_bytes);
    }
    for (int64_t n = saying->settings->simulate > 0 ? 1 : 0; n > 0;
         n = ranks_after(n, saying->settings->simulate)) {
        const int64_t tokens = simulated_tokens(saying);
        const struct bench_guess guess = bench_guess(r, n, tokens, saying->hop);
        fprintf(saying->out,
                "{\"kind\":\"simulated\",\"ranks\":%" PRId64 ",\"tokens\":%" PRId64
                ",\"steps\":%" PRId64 ",\"hop_seconds\":%.6g,\"hop\":\"%s\",\"lag_seconds\":%.6g,"
                "\"skew_seconds\":%.6g,\"stalls\":%s,\"seconds\":%.6g,\"speed_up\":%.4g,"
                "\"efficiency\":%.4g}\n",
                n, tokens, guess.steps, saying->hop, saying->hop_source, guess.lag, guess.skew,
                guess.stalls ? "true" : "false", guess.seconds, guess.speed_up, guess.efficiency);
    }
}

static enum status say_json(const struct saying *saying) {
    const struct bench_results *r = saying->results;
    struct bytes name = {0}; // the folder's, so it may be any text
    const enum status status = json_put_string(&name, "", r->model.name, strlen(r->model.name));
    if (status == STATUS_OK) json_machine(saying, name.data, (int)name.count);
    bytes_free(&name);
    TRY(status);
    json_steps(saying, "one", &r->one);
    json_steps(saying, "short", &r->packed);
    json_stages(saying);
    json_job(saying, "one", &r->job);
    json_job(saying, "short", &r->packed_job);
    json_job(saying, "one", &r->alone_job);
    json_scaling(saying);
    return STATUS_OK;
}

// ---- for people

static void table_machine(const struct saying *saying) {
    const struct bench_results *r = saying->results;
    fprintf(saying->out, "%s%s, %.1f million parameters, %s\n%s\n\n", r->model.name,
            saying->settings->shape != NULL ? " with random weights" : "",
            (double)r->model.parameters * 1e-6, r->dtype, r->numerics);
    fprintf(saying->out, "ceilings\n");
    if (r->ceilings.copy_bytes > 0) {
        fprintf(saying->out, "  %10.1f GB/s      %s, read and written\n",
                r->ceilings.copy_bytes * 1e-9, r->ceilings.copy);
    }
    if (r->ceilings.product_flops > 0) {
        fprintf(saying->out, "  %10.2f TFLOP/s   %s\n", r->ceilings.product_flops * 1e-12,
                r->ceilings.product);
    }
    if (r->ceilings.rest_flops > 0) {
        fprintf(saying->out, "  %10.2f TFLOP/s   the same in f32, as the scan is computed\n",
                r->ceilings.rest_flops * 1e-12);
    }
}

static void table_steps(const struct saying *saying, const char *what,
                        const struct bench_steps *steps) {
    fprintf(saying->out, "  %-22s %9.2f ms  (%.2f to %.2f)  %10.0f tokens/s, host %.2f ms\n", what,
            steps->seconds * 1e3, steps->least * 1e3, steps->most * 1e3,
            rate((double)steps->shape.rows, steps->seconds), steps->queue_seconds * 1e3);
}

static void table_stages(const struct saying *saying) {
    const struct bench_results *r = saying->results;
    const int worst = furthest(r);
    fprintf(saying->out, "\nstages of a step of one document\n  %-14s %9s %6s %9s %9s %9s %9s\n",
            "", "ms", "share", "GB", "GFLOP", "floor ms", "of floor");
    for (int stage = 0; stage < STAGES; stage++) {
        const struct stage_cost *cost = &r->stages.cost[stage];
        fprintf(saying->out, "  %-14s %9.3f %5.1f%% %9.2f %9.1f %9.3f %8.1f%%\n",
                stage_name((enum stage)stage), r->stages.seconds[stage] * 1e3,
                100 * share(r->stages.seconds[stage], r->stages.all), cost->bytes * 1e-9,
                cost->flops * 1e-9, floor_of(r, stage) * 1e3,
                100 * share(floor_of(r, stage), r->stages.seconds[stage]));
    }
    fprintf(saying->out,
            "  %-14s %9.3f %6s %9s %9s %9.3f %8.1f%%\n  the step reaches %.1f%% of its floor; "
            "most is lost in %s: %.3f ms\n",
            "all", r->stages.all * 1e3, "", "", "", floors(r) * 1e3,
            100 * share(floors(r), r->stages.all), 100 * share(floors(r), r->one.seconds),
            stage_name((enum stage)worst), (r->stages.seconds[worst] - floor_of(r, worst)) * 1e3);
}

static void table_job(const struct saying *saying, const char *what, const struct bench_job *job) {
    if (job->ranks == 0) return;
    fprintf(saying->out,
            "  %-22s %10.0f tokens/s  %" PRId64 " tokens, %" PRId64
            " steps\n  %22s a step: compute %.2f ms, wait %.2f; leader: ingest %.3f, plan %.3f, "
            "emit %.3f, commit %.3f\n",
            what, rate((double)job->tokens, job->seconds), job->tokens, job->steps, "",
            job->compute * 1e3, job->wait * 1e3, job->ingest * 1e3, job->plan * 1e3,
            job->emit * 1e3, job->commit * 1e3);
}

static void table_scaling(const struct saying *saying) {
    const struct bench_results *r = saying->results;
    if (r->ranks > 1) {
        const double speed_up = rate(r->alone_job.seconds, r->job.seconds);
        fprintf(saying->out,
                "\n%d ranks, one document of %" PRId64 " tokens: %.3f s, one rank %.3f s; speed-up "
                "%.2f, efficiency %.3f\none layer's state to the next rank: %.1f us, %" PRId64
                " bytes\n",
                r->ranks, r->job.tokens, r->job.seconds, r->alone_job.seconds, speed_up,
                speed_up / r->ranks, r->hop_seconds * 1e6, r->hop_bytes);
    }
    if (saying->settings->simulate == 0) return;
    fprintf(saying->out,
            "\npredicted for one document of %" PRId64 " tokens; hop %.1f us (%s)\n"
            "  %6s %8s %10s %10s %10s %9s %11s\n",
            simulated_tokens(saying), saying->hop * 1e6, saying->hop_source, "ranks", "steps",
            "skew ms", "fill", "s", "speed-up", "efficiency");
    for (int64_t n = 1; n > 0; n = ranks_after(n, saying->settings->simulate)) {
        const struct bench_guess guess = bench_guess(r, n, simulated_tokens(saying), saying->hop);
        fprintf(saying->out, "  %6" PRId64 " %8" PRId64 " %10.3f %9.1f%% %10.3f %9.2f %11.3f%s\n",
                n, guess.steps, guess.skew * 1e3, 100 * share(guess.skew, guess.seconds),
                guess.seconds, guess.speed_up, guess.efficiency,
                guess.stalls ? "  rank 0 waits for the last" : "");
    }
}

static void say_table(const struct saying *saying) {
    const struct bench_results *r = saying->results;
    char shorts[64];
    table_machine(saying);
    fprintf(saying->out, "\nsteps of %" PRId64 " tokens in %" PRId64 " windows, the model alone\n",
            r->step_tokens, r->windows);
    table_steps(saying, "one document", &r->one);
    snprintf(shorts, sizeof shorts, "%" PRId64 " documents", r->packed.documents);
    table_steps(saying, shorts, &r->packed);
    table_stages(saying);
    fprintf(saying->out, "\nthe program, on %d rank%s\n", r->ranks, r->ranks == 1 ? "" : "s");
    table_job(saying, "one document", &r->job);
    snprintf(shorts, sizeof shorts, "%" PRId64 " documents", r->packed_job.documents);
    table_job(saying, shorts, &r->packed_job);
    if (r->ranks > 1) table_job(saying, "one document, 1 rank", &r->alone_job);
    table_scaling(saying);
}

enum status bench_report(const struct settings *settings, const struct bench_results *results,
                         const struct measure_out *out) {
    struct saying saying = {.out = out->file, .settings = settings, .results = results};
    choose_hop(&saying);
    if (!out->table) return say_json(&saying);
    say_table(&saying);
    return STATUS_OK;
}
