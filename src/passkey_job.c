#include "src/passkey_job.h"

#include "ops/base/hash.h"
#include "ops/base/room.h"
#include "src/device.h"
#include "src/passkey_feed.h"
#include "src/tokenizer_choice.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

// What changes a result beside the model: not ranks, steps, or how samples are read together.
static enum status name_run(struct passkey_job *job) {
    const struct tokenizer *tokenizer = job->tokenizer;
    const char *numerics = job->rank.backend->numerics;
    char dtype[160];
    const int bytes =
        snprintf(dtype, sizeof dtype, "passkey dtype=%s tokenizer=%s:%016" PRIx64 " ",
                 device_dtype(job->settings, job->rank.backend), tokenizer->name, tokenizer->hash);
    struct bytes *text = &job->named;
    TRY(bytes_put(text, dtype, (size_t)bytes));
    TRY(passkey_task_json(job->task, text));
    job->run = (struct passkey_run){.model = model_info(job->rank.model)->hash,
                                    .settings = hash_bytes(text->data, text->count),
                                    .numerics = hash_bytes(numerics, strlen(numerics))};
    TRY(bytes_put(text, "", 1));
    job->run.task = text->data + bytes;
    return STATUS_OK;
}

static enum status check(const struct passkey_job *job) {
    TRY(rank_model_check(job->settings));
    TRY(passkey_queue_check(job->settings, job->place->groups));
    if (!passkey_to_folder(job->settings) && (job->settings->resume || job->settings->lm_eval)) {
        return FAIL(USAGE, "%s needs a folder: give --output DIR",
                    job->settings->resume ? "--resume" : "--lm-eval");
    }
    if (passkey_queue_output(job->settings) && job->settings->fail_below > 0) {
        return FAIL(USAGE, "--fail-below needs the results: give --output DIR or -");
    }
    if (job->settings->resume && passkey_queue_input(job->settings)) {
        return FAIL(USAGE, "--resume is for a grid; a topic is gone on with under its --job");
    }
    if (strcmp(job->settings->output, "-") == 0 && job->place->groups > 1) {
        return FAIL(USAGE, "several groups of ranks need a folder or topic for results: give "
                           "--output DIR or kafka:TOPIC");
    }
    return STATUS_OK;
}

static enum status open_task(struct passkey_job *job) {
    const struct model_info *info = model_info(job->rank.model);
    TRY(tokenizer_for_text(job->settings, info->vocab_size, &job->tokenizer));
    TRY(passkey_task_open(job->settings, job->tokenizer, job->settings->bos ? info->bos_token : -1,
                          &job->task));
    passkey_feed_listing(job);
    return name_run(job);
}

// Where it is kept, and then whoever described the sample is told.
static enum status take_result(void *listener, int64_t index, const struct passkey_result *result) {
    struct passkey_job *job = listener;
    struct bytes *line = &job->line;
    line->count = 0;
    TRY(passkey_result_put(&job->run, result, line));
    if (job->store != NULL) {
        TRY(passkey_store_put(job->store, line));
    } else if (!passkey_queue_output(job->settings)) {
        TRY(room_for((void **)&job->results, &job->room, job->count + 1, sizeof *job->results));
        job->results[job->count++] = *result;
    }
    if (passkey_prints_lines(job) &&
        (fwrite(line->data, 1, line->count, stdout) != line->count || fflush(stdout) != 0)) {
        return FAIL(IO, "cannot write to standard output");
    }
    return passkey_feed_answered(job, index, result);
}

// Called about once a second, whatever is under way.
static enum status tell_progress(void *listener, const struct passkey_tree_counts *counts) {
    struct passkey_job *job = listener;
    const struct documents_counts done = {.documents = counts->samples, .rows = counts->tokens_run};
    const int64_t most = counts->tokens_expected;
    const struct source_progress progress = {.done = counts->tokens_run < most ? counts->tokens_run
                                                                               : most - (most > 0),
                                             .total = most,
                                             .unit = "tokens",
                                             .lag = -1};
    if (job->report != NULL) report_progress(job->report, &done, &progress);
    return passkey_feed_commit(job);
}

static enum status open_tree(struct passkey_job *job) {
    const struct passkey_tree_settings tree = {
        .task = job->task,
        .tokenizer = job->tokenizer,
        .listing = &job->listing,
        .unbranched = job->settings->unbranched,
        // a queue has shared them out already
        .group = passkey_queue_input(job->settings) ? 0 : job->place->group_index,
        .groups = passkey_queue_input(job->settings) ? 1 : job->place->groups,
        .batch = passkey_feed_batch,
        .result = take_result,
        .progress = tell_progress,
        .listener = job,
    };
    return passkey_tree_open(&tree, &job->tree);
}

static enum status run(struct passkey_job *job, int *exit_code) {
    struct pipeline_settings pipeline = rank_model_pipeline(&job->rank);
    struct pipeline_rank rank = {
        .group = job->place->group, .backend = job->rank.backend, .model = job->rank.model};
    pipeline.asked_most = job->rank.step_tokens;
    if (rank_leads(job->place)) {
        TRY(open_tree(job));
        rank.driver = passkey_tree_driver(job->tree);
    }
    return pipeline_run(&pipeline, &rank, &job->counts, exit_code);
}

// A queue's samples that are answered do not come again.
static bool keeps_results(const struct settings *settings) {
    return settings->resume || passkey_queue_input(settings);
}

static enum status answer(struct passkey_job *job, int *exit_code) {
    const struct settings *settings = job->settings;
    struct passkey_share sum;
    TRY(check(job));
    TRY(rank_model_begin(&job->rank));
    const struct pipeline_settings pipeline = rank_model_pipeline(&job->rank);
    TRY(pipeline_check(&pipeline));
    TRY(rank_model_open(&job->rank, true));
    TRY(open_task(job));
    TRY(rank_model_agree(&job->rank, job->run.settings));
    if (settings->dry_run) {
        if (rank_speaks(job->place)) {
            LOG(INFO, "dry run: model and task are in order: %" PRId64 " samples",
                passkey_task_count(job->task));
        }
        return STATUS_OK;
    }
    if (passkey_to_folder(settings)) {
        const struct passkey_store_settings store = {
            .folder = settings->output, .resume = keeps_results(settings), .run = &job->run};
        TRY(passkey_store_open(&store, job->place, &job->store));
    }
    if (rank_leads(job->place)) TRY(passkey_feed_open(job));
    if (rank_speaks(job->place)) TRY(report_open(settings, "sample", &job->report));
    const enum status status = run(job, exit_code);
    if (status != STATUS_OK && status != STATUS_STOPPED) return status;
    TRY(passkey_feed_close(job, true));
    if (job->store != NULL) TRY(passkey_store_end(job->store));
    TRY(passkey_gather(job, *exit_code, &sum));
    *exit_code = sum.exit_code;
    return rank_speaks(job->place) ? passkey_tell(job, &sum, exit_code) : STATUS_OK;
}

enum status passkey_on_rank(const struct settings *settings, const struct score_place *place,
                            struct score_totals *totals) {
    struct passkey_job job = {
        .settings = settings, .place = place, .rank = {.settings = settings, .place = place}
    };
    *totals = (struct score_totals){0};
    const enum status status = answer(&job, &totals->exit_code);
    if (status != STATUS_OK) {
        if (totals->exit_code == 0) totals->exit_code = status_exit_code(status);
        rank_model_fail(place, totals->exit_code);
    }
    report_drop(&job.report);
    passkey_tree_close(job.tree);
    passkey_store_close(job.store);
    passkey_task_close(job.task);
    if (job.tokenizer != NULL) job.tokenizer->close(job.tokenizer);
    rank_model_close(&job.rank);
    bytes_free(&job.named);
    bytes_free(&job.line);
    (void)!passkey_feed_close(&job, false);
    free(job.results);
    return status;
}
