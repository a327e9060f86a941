// verb `bench`: how fast a model runs here, against what the machine can do.

#include "src/bench.h"

#include "ops/base/clock.h"
#include "ops/base/hash.h"
#include "ops/model/random_weights.h"
#include "src/device.h"
#include "src/launch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOAD_MS    600000
#define FOREVER_MS INT32_MAX // rank 0 measures alone while the others wait

static bool speaks(const struct bench *bench) {
    return bench->place->world->rank == 0;
}

static enum status open_model(struct bench *bench) {
    const struct settings *settings = bench->settings;
    const struct model_settings sizes = {.step_tokens = bench->step_tokens};
    const struct device_share share = {bench->place->local_ranks, bench->place->local_rank};
    struct mamba2_config config;
    struct mamba2_weights weights = {0};
    enum status status = STATUS_OK;
    const int64_t begin = clock_ns();
    if (settings->shape != NULL) {
        TRY(shape_config(settings->shape, &config));
        TRY(weights_random(&config, (uint64_t)settings->seed, &weights));
    } else {
        const enum gated_norm norm = gated_norm_of(settings->gated_norm);
        TRY(mamba2_read(settings->model, norm, &config, &weights));
    }
    const char *name = settings->shape != NULL ? settings->shape : settings->model;
    const int64_t read = clock_ns();
    status = device_share_begin(bench->backend, bench->place->world, bench->place->local_rank);
    if (status == STATUS_OK) {
        status = mamba2_open(&config, &weights, name, bench->backend, &sizes, &bench->model);
        device_share_end(bench->backend, &share, speaks(bench));
    }
    weights_close(&weights);
    TRY(status);
    if (speaks(bench)) {
        LOG(INFO, "%s: weights %s in %.1f s, placed in %.1f s", name,
            settings->shape != NULL ? "drawn" : "read", (double)(read - begin) * 1e-9,
            (double)(clock_ns() - read) * 1e-9);
    }
    return STATUS_OK;
}

static enum status agree(const struct bench *bench) {
    const struct model_info *info = model_info(bench->model);
    struct pipeline_identity mine;
    memset(&mine, 0, sizeof mine);
    mine.program = hash_bytes(LONGSCAN_VERSION, strlen(LONGSCAN_VERSION));
    mine.model = info->hash;
    mine.layer_bytes = info->layer_bytes;
    mine.step_tokens = bench->step_tokens;
    memcpy(mine.numerics, bench->backend->numerics, sizeof mine.numerics);
    return pipeline_agree(bench->place->world, &mine, LOAD_MS);
}

// Nobody goes on before all have come here.
static enum status meet(const struct bench *bench) {
    struct link *world = bench->place->world;
    int32_t *all = calloc((size_t)world->ranks, sizeof *all);
    if (all == NULL) return FAIL(NO_MEMORY, "%d ranks", world->ranks);
    const enum status status =
        world->table->gather(world, &world->rank, sizeof world->rank, all, FOREVER_MS);
    free(all);
    return status;
}

static void describe(const struct bench *bench, struct bench_results *results) {
    results->model = *model_info(bench->model);
    memcpy(results->numerics, bench->backend->numerics, sizeof results->numerics);
    snprintf(results->dtype, sizeof results->dtype, "%s", bench->dtype);
    const int64_t window = bench->model->mixer->window_rows;
    results->step_tokens = bench->step_tokens;
    results->windows = (bench->step_tokens + window - 1) / window;
    results->ranks = bench->place->group->ranks;
    results->hop_bytes = (int64_t)results->model.ssm_bytes;
}

static int64_t job_tokens(const struct bench *bench, int32_t ranks) {
    const int64_t asked = bench->settings->tokens;
    return asked > 0 ? asked : bench->repeat * bench->step_tokens * ranks;
}

// What one rank can do by itself.
static enum status measure_alone(const struct bench *bench, struct bench_results *results) {
    const struct loopback_settings plain = {.rendezvous = false};
    const int32_t ranks = results->ranks;
    struct link *one = NULL;
    if (bench->backend->table->ceilings != NULL) {
        LOG(INFO, "bench: the machine's ceilings");
        TRY(bench->backend->table->ceilings(bench->backend, &results->ceilings));
    }
    LOG(INFO, "bench: steps of %lld tokens", (long long)bench->step_tokens);
    TRY(bench_measure_steps(bench, false, &results->one));
    TRY(bench_measure_steps(bench, true, &results->packed));
    TRY(bench_measure_stages(bench, &results->stages));
    if (ranks == 1) return STATUS_OK;
    LOG(INFO, "bench: one document on one rank");
    TRY(loopback_links_open(1, &plain, &one));
    const enum status status =
        bench_measure_job(bench, one, false, job_tokens(bench, ranks), &results->alone_job);
    one->table->close(one);
    return status;
}

static enum status measure_together(const struct bench *bench, struct bench_results *results) {
    struct link *group = bench->place->group;
    const int64_t tokens = job_tokens(bench, group->ranks);
    if (speaks(bench)) LOG(INFO, "bench: the program, on %d rank(s)", group->ranks);
    TRY(bench_measure_job(bench, group, false, tokens, &results->job));
    TRY(meet(bench));
    TRY(bench_measure_job(bench, group, true, tokens, &results->packed_job));
    TRY(meet(bench));
    return group->ranks > 1 ? bench_measure_hop(bench, group, &results->hop_seconds) : STATUS_OK;
}

static enum status measure(struct bench *bench, struct bench_results *results) {
    const struct settings *settings = bench->settings;
    const struct device_share share = {bench->place->local_ranks, bench->place->local_rank};
    TRY(device_open(settings, &share, bench->place->world, speaks(bench), &bench->backend));
    bench->step_tokens =
        settings->step_tokens > 0 ? settings->step_tokens : device_step_tokens(bench->backend);
    bench->dtype = device_dtype(settings, bench->backend);
    const struct pipeline_settings pipeline = {.step_tokens = bench->step_tokens};
    TRY(pipeline_check(&pipeline));
    TRY(open_model(bench));
    TRY(agree(bench));
    describe(bench, results);
    if (speaks(bench)) TRY(measure_alone(bench, results));
    TRY(meet(bench));
    return measure_together(bench, results);
}

// The output is opened first: minutes later it would be too late to say that it cannot be written.
static enum status measure_and_say(struct bench *bench) {
    const struct settings *settings = bench->settings;
    struct bench_results results = {0};
    struct measure_out out = {0};
    if (!speaks(bench)) return measure(bench, &results);
    TRY(measure_out_open(settings, &out));
    enum status status = measure(bench, &results);
    if (status == STATUS_OK) status = bench_report(settings, &results, &out);
    const enum status closed = measure_out_close(&out, status == STATUS_OK);
    return status == STATUS_OK ? closed : status;
}

static enum status bench_on_rank(const struct settings *settings, const struct score_place *place,
                                 struct score_totals *totals) {
    struct bench bench = {.settings = settings, .place = place, .repeat = settings->repeat};
    *totals = (struct score_totals){0};
    const enum status status = measure_and_say(&bench);
    totals->exit_code = status_exit_code(status);
    if (status != STATUS_OK) {
        launch_tell_failure(totals->exit_code);
        place->group->table->abort(place->group, launch_exit_code(totals->exit_code));
        place->world->table->abort(place->world, launch_exit_code(totals->exit_code));
    }
    model_close(bench.model);
    if (bench.backend != NULL) bench.backend->table->close(bench.backend);
    return status;
}

enum status verb_bench(const struct settings *settings, int *exit_code) {
    struct score_totals totals = {0};
    if ((settings->model == NULL) == (settings->shape == NULL)) {
        return FAIL(USAGE, "bench needs --model DIR or --shape " OFFICIAL_SHAPES ", one of them");
    }
    if (settings->dry_run) {
        LOG(INFO, "dry run: the settings of bench are in order");
        return STATUS_OK;
    }
    const enum status status = ranks_run(settings, bench_on_rank, &totals);
    *exit_code =
        status == STATUS_OK || totals.exit_code != 0 ? totals.exit_code : status_exit_code(status);
    return status;
}
