// The end of a passkey job: what all groups have answered, as one.
#include "src/device.h"
#include "src/endpoints.h"
#include "src/launch.h"
#include "src/passkey_job_inner.h"

#include <inttypes.h>
#include <stdlib.h>

#define GATHER_FOREVER_MS INT32_MAX // groups may end hours apart; a lost rank ends the job anyway

bool passkey_prints_lines(const struct passkey_job *job) {
    return strcmp(job->settings->output, "-") == 0 && !wants_table(job->settings);
}

enum status passkey_gather(const struct passkey_job *job, int exit_code,
                           struct passkey_share *sum) {
    struct link *world = job->place->world;
    struct passkey_share mine = {.exit_code = exit_code};
    struct passkey_share *all = calloc((size_t)world->ranks, sizeof *all);
    if (all == NULL) return FAIL(NO_MEMORY, "%d ranks", world->ranks);
    if (job->tree != NULL) mine.tree = passkey_tree_counts(job->tree);
    mine.run_ns = job->counts.branches.run_ns;
    const enum status status =
        world->table->gather(world, &mine, sizeof mine, all, GATHER_FOREVER_MS);
    *sum = (struct passkey_share){0};
    for (int32_t i = 0; status == STATUS_OK && i < world->ranks; i++) {
        sum->tree.samples += all[i].tree.samples;
        sum->tree.correct += all[i].tree.correct;
        sum->tree.tokens_run += all[i].tree.tokens_run;
        sum->tree.tokens_plain += all[i].tree.tokens_plain;
        sum->tree.astray += all[i].tree.astray;
        if (all[i].run_ns > sum->run_ns) sum->run_ns = all[i].run_ns;
        if (all[i].exit_code > sum->exit_code) sum->exit_code = all[i].exit_code;
    }
    free(all);
    return status;
}

static void say_sums(const struct passkey_share *sum) {
    const double seconds = (double)sum->run_ns * 1e-9;
    char samples[40];
    char run[24];
    char rate[24];
    LOG(INFO,
        "%s: %s, %" PRId64
        " right; %s tokens, %.1f%% of a prompt at a time, in %.1f s, %s tokens/s",
        sum->exit_code == 143 ? "stopped" : "done",
        count_of(sum->tree.samples, "sample", samples, sizeof samples), sum->tree.correct,
        short_number((double)sum->tree.tokens_run, run, sizeof run),
        sum->tree.tokens_plain > 0
            ? 100.0 * (double)sum->tree.tokens_run / (double)sum->tree.tokens_plain
            : 0.0,
        seconds,
        short_number(seconds > 0 ? (double)sum->tree.tokens_run / seconds : 0, rate, sizeof rate));
}

enum status passkey_tell(struct passkey_job *job, const struct passkey_share *sum, int *exit_code) {
    const struct settings *settings = job->settings;
    const struct model_info *info = model_info(job->rank.model);
    const double seconds = (double)sum->run_ns * 1e-9;
    const struct passkey_facts facts = {
        .model_name = info->name,
        .tokenizer = job->tokenizer->name,
        .model_option = settings->model,
        .tokenizer_option = settings->tokenizer,
        .filler_option = settings->filler,
        .dtype = device_dtype(settings, job->rank.backend),
        .backend = job->rank.backend->table->name,
        .task = job->run.task,
        .model = job->run.model,
        .settings = job->run.settings,
        .numerics = job->run.numerics,
        .trained_on = settings->trained_on,
        .parameters = info->parameters,
        .tokens_run = sum->tree.tokens_run,
        .tokens_plain = sum->tree.tokens_plain,
        .seconds = seconds,
        .tokens_per_second = seconds > 0 ? (double)sum->tree.tokens_run / seconds : 0,
        .ranks = job->place->world->ranks,
        .groups = job->place->groups,
        .branched = !settings->unbranched,
    };
    struct passkey_report report = {
        .facts = &facts, .results = job->results, .count = (int64_t)job->count};
    const bool queue = passkey_queue_input(settings);
    // a topic is gone on with by itself, so what there is now is a result as good as any
    const bool complete = sum->exit_code == 0 || (queue && sum->exit_code == 143);
    report_drop(&job->report);
    say_sums(sum);
    if (job->store != NULL) {
        TRY(passkey_store_finish(job->store, complete, &report.results, &report.count));
    } else {
        passkey_results_sort(job->results, job->count);
    }
    if (!complete) {
        if (job->store != NULL) {
            LOG(INFO, "%" PRId64 " results are kept in %s; --resume goes on with the rest",
                report.count, settings->output);
        }
        return STATUS_OK;
    }
    if (!queue && job->store != NULL && report.count != passkey_task_count(job->task)) {
        return FAIL(IO,
                    "--output %s: %" PRId64 " results of %" PRId64 " are there: who removed the "
                    "others?",
                    settings->output, report.count, passkey_task_count(job->task));
    }
    if (job->store != NULL) {
        TRY(passkey_report_write(&report, settings->output));
        if (settings->lm_eval) TRY(passkey_report_lm_eval(&report, settings->output));
        LOG(INFO, "results and report.html are in %s", settings->output);
    }
    if (!passkey_prints_lines(job) && !passkey_queue_output(settings)) {
        TRY(passkey_report_table(&report, launch_output_is_terminal(), stdout));
        if (job->store == NULL) LOG(INFO, "nothing is kept: --output DIR keeps results and report");
    }
    int64_t length = 0;
    const double lowest = passkey_report_lowest(&report, &length);
    if (lowest < settings->fail_below) {
        LOG(ERROR, "%.1f%% are right at %" PRId64 " tokens, fewer than --fail-below %g%%",
            100 * lowest, length, 100 * settings->fail_below);
        *exit_code = EXIT_VERDICT;
    }
    return STATUS_OK;
}
