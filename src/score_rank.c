#include "src/score_rank.h"

#include "ops/base/hash.h"
#include "ops/model/model.h"
#include "src/device.h"
#include "src/endpoints.h"
#include "src/rank_model.h"
#include "src/summary.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GATHER_FOREVER_MS INT32_MAX // groups may end hours apart; a lost rank ends the job anyway
#define QUEUE_STEPS       8         // steps' worth of tokens that may wait

struct rank_run {
    const struct settings *settings;
    const struct score_place *place;
    struct rank_model rank;
    struct endpoints endpoints;
    struct result_ids ids;
    struct report *report;
    struct pipeline_counts counts;
    char mark[64];          // of ids, beside committed offsets
    int64_t inputs_skipped; // --resume: their outputs are complete
};

// What changes a score, and nothing else: not ranks, steps, threads or times. The model has a hash
// of its own beside this one.
static uint64_t settings_hash(const struct rank_run *run) {
    char text[256];
    const struct tokenizer *tokenizer = run->endpoints.tokenizer;
    // 0: none is put before a document; 1 and up: that token and one
    const int bos = run->settings->bos ? 1 + model_info(run->rank.model)->bos_token : 0;
    const int bytes = snprintf(text, sizeof text, "dtype=%s bos=%d tokenizer=%s:%016llx",
                               device_dtype(run->settings, run->rank.backend), bos,
                               tokenizer != NULL ? tokenizer->name : "none",
                               (unsigned long long)(tokenizer != NULL ? tokenizer->hash : 0));
    return hash_bytes(text, (size_t)bytes);
}

static enum status open_model(struct rank_run *run) {
    TRY(rank_model_open(&run->rank, false));
    const struct model_info *info = model_info(run->rank.model);
    TRY(endpoints_choose_tokenizer(&run->endpoints, info->vocab_size));
    run->ids = (struct result_ids){
        .model = info->hash,
        .settings = settings_hash(run),
        .numerics = hash_bytes(run->rank.backend->numerics, strlen(run->rank.backend->numerics))};
    snprintf(run->mark, sizeof run->mark, "model=%016llx;settings=%016llx",
             (unsigned long long)run->ids.model, (unsigned long long)run->ids.settings);
    return STATUS_OK;
}

static int64_t bad_of(const struct documents_counts *counts) {
    int64_t bad = 0;
    for (int i = 0; i < BAD_REASONS; i++) {
        bad += counts->bad[i];
    }
    return bad;
}

static void tell_report(void *listener, const struct documents_counts *counts,
                        const struct source_progress *source) {
    report_progress(listener, counts, source);
}

// Results on standard output are written so often even if commits are seldom: somebody may wait for
// each.
#define SHOWN_MS 1000

static int64_t commit_interval(const struct rank_run *run) {
    const struct settings *settings = run->settings;
    const bool shown = !run->endpoints.topic_in && strcmp(settings->output, "-") == 0;
    return shown && settings->commit_interval_ms > SHOWN_MS ? SHOWN_MS
                                                            : settings->commit_interval_ms;
}

static struct pipeline_settings pipeline_settings(const struct rank_run *run) {
    const struct settings *settings = run->settings;
    const int64_t capacity = run->rank.step_tokens * run->place->group->ranks;
    const struct model *model = run->rank.model;
    struct pipeline_settings pipeline = rank_model_pipeline(&run->rank);
    pipeline.queue_tokens =
        settings->queue_tokens > 0 ? settings->queue_tokens : QUEUE_STEPS * capacity;
    pipeline.commit_interval_ms = commit_interval(run);
    pipeline.mark = run->mark;
    pipeline.close_open = settings->close_open;
    pipeline.idle_ms = settings->idle_ms;
    pipeline.documents = (struct documents_settings){
        .bos = settings->bos && model != NULL ? model_info(model)->bos_token : -1,
        .ordered = !run->endpoints.topic_in,
        .tally = {.score_every = settings->score_every,
                  .windows_apart = settings->windows != NULL,
                  .token_nll = settings->token_nll}
    };
    pipeline.progress = run->report != NULL ? tell_report : NULL;
    pipeline.listener = run->report;
    return pipeline;
}

static enum status run_pipeline(struct rank_run *run, int *exit_code) {
    const struct pipeline_settings pipeline = pipeline_settings(run);
    const struct pipeline_rank rank = {.group = run->place->group,
                                       .backend = run->rank.backend,
                                       .model = run->rank.model,
                                       .source = run->endpoints.source,
                                       .sink = run->endpoints.sink,
                                       .letters = run->endpoints.letters};
    return pipeline_run(&pipeline, &rank, &run->counts, exit_code);
}

// Of this program: the maximum that getrusage gives is also that of what this process was before.
static int64_t peak_bytes(void) {
    char line[256];
    int64_t kib = 0;
    FILE *status = fopen("/proc/self/status", "r");
    if (status == NULL) return 0;
    while (kib == 0 && fgets(line, sizeof line, status) != NULL) {
        if (strncmp(line, "VmHWM:", 6) == 0) kib = strtol(line + 6, NULL, 10);
    }
    fclose(status);
    return kib * 1024;
}

static void own_totals(const struct rank_run *run, int exit_code, struct score_totals *totals) {
    const struct leader_counts *leader = &run->counts.leader;
    *totals =
        (struct score_totals){.documents = leader->documents,
                              .steps = leader->steps,
                              .moves = leader->moves,
                              .hand_overs = leader->hand_overs,
                              .spills = run->counts.slots.spills,
                              .ingest_ns = leader->ingest_ns,
                              .plan_ns = leader->plan_ns,
                              .emit_ns = leader->emit_ns,
                              .commit_ns = leader->commit_ns,
                              .run_ns = leader->run_ns,
                              .compute_ns = run->counts.worker.compute_ns,
                              .wait_ns = run->counts.worker.wait_ns,
                              .peak_bytes = peak_bytes(),
                              .inputs_skipped = rank_speaks(run->place) ? run->inputs_skipped : 0,
                              .exit_code = exit_code,
                              .ranks = 1,
                              .leaders = rank_leads(run->place) ? 1 : 0};
}

static void add_totals(struct score_totals *sum, const struct score_totals *more) {
    sum->documents.documents += more->documents.documents;
    sum->documents.tokens += more->documents.tokens;
    sum->documents.scored += more->documents.scored;
    sum->documents.text_bytes += more->documents.text_bytes;
    sum->documents.nll += more->documents.nll;
    sum->documents.text_nll += more->documents.text_nll;
    sum->documents.rows += more->documents.rows;
    sum->documents.open += more->documents.open;
    sum->documents.duplicates += more->documents.duplicates;
    sum->documents.replaced += more->documents.replaced;
    sum->documents.swallowed += more->documents.swallowed;
    sum->documents.settled += more->documents.settled;
    sum->documents.truncated += more->documents.truncated;
    for (int i = 0; i < BAD_REASONS; i++) {
        sum->documents.bad[i] += more->documents.bad[i];
    }
    sum->steps += more->steps;
    sum->moves += more->moves;
    sum->hand_overs += more->hand_overs;
    sum->spills += more->spills;
    sum->ingest_ns += more->ingest_ns;
    sum->plan_ns += more->plan_ns;
    sum->emit_ns += more->emit_ns;
    sum->commit_ns += more->commit_ns;
    sum->compute_ns += more->compute_ns;
    sum->wait_ns += more->wait_ns;
    sum->inputs_skipped += more->inputs_skipped;
    sum->ranks += more->ranks;
    sum->leaders += more->leaders;
    if (more->run_ns > sum->run_ns) sum->run_ns = more->run_ns;
    if (more->peak_bytes > sum->peak_bytes) sum->peak_bytes = more->peak_bytes;
    if (more->exit_code > sum->exit_code) sum->exit_code = more->exit_code;
}

static enum status gather_totals(const struct rank_run *run, int exit_code,
                                 struct score_totals *totals) {
    struct link *world = run->place->world;
    struct score_totals mine;
    struct score_totals *all = calloc((size_t)world->ranks, sizeof *all);
    if (all == NULL) return FAIL(NO_MEMORY, "totals of %d ranks", world->ranks);
    own_totals(run, exit_code, &mine);
    const enum status status =
        world->table->gather(world, &mine, sizeof mine, all, GATHER_FOREVER_MS);
    *totals = (struct score_totals){0};
    for (int32_t i = 0; i < world->ranks; i++) {
        add_totals(totals, &all[i]);
    }
    free(all);
    return status;
}

// The verdict of --max-bad and --strict, from what all ranks know.
static void judge(const struct settings *settings, struct score_totals *totals) {
    const int64_t bad = bad_of(&totals->documents);
    if (totals->exit_code != 0 || bad == 0) return;
    // an input that was complete already is known to be good, as one document at least
    const double all = (double)(totals->documents.documents + bad + totals->inputs_skipped);
    if ((double)bad > settings->max_bad * all) {
        totals->exit_code = status_exit_code(STATUS_BAD_INPUT);
    } else if (settings->strict) {
        totals->exit_code = status_exit_code(STATUS_SOME_BAD);
    }
}

static enum status score(struct rank_run *run, struct score_totals *totals) {
    const struct settings *settings = run->settings;
    int exit_code = 0;
    TRY(rank_model_check(settings));
    TRY(endpoints_check(settings, &run->endpoints));
    for (int64_t i = 0; run->endpoints.complete != NULL && i < run->endpoints.inputs.count; i++) {
        run->inputs_skipped += run->endpoints.complete[i];
    }
    if (rank_speaks(run->place) && run->endpoints.older > 0) {
        LOG(INFO,
            run->endpoints.older == 1
                ? "--resume: %lld output is older than its input and is made again"
                : "--resume: %lld outputs are older than their inputs and are made again",
            (long long)run->endpoints.older);
    }
    if (run->place->groups > 1) TRY(endpoints_check_groups(&run->endpoints, run->place->groups));
    if (rank_speaks(run->place) && settings->summary != NULL) TRY(summary_check(settings->summary));
    TRY(rank_model_begin(&run->rank));
    const struct pipeline_settings pipeline = pipeline_settings(run);
    TRY(pipeline_check(&pipeline));
    TRY(open_model(run));
    if (rank_speaks(run->place)) TRY(endpoints_verify(&run->endpoints, &run->ids));
    TRY(rank_model_agree(&run->rank, run->ids.settings));
    if (settings->dry_run) {
        if (rank_speaks(run->place)) {
            LOG(INFO, "dry run: model, input and output are in order%s",
                run->endpoints.topic_in || run->endpoints.topic_out ? "; brokers were not asked"
                                                                    : "");
        }
        return STATUS_OK;
    }
    if (rank_leads(run->place)) {
        TRY(endpoints_open(&run->endpoints, run->place->group_index, run->place->groups,
                           &run->ids));
    }
    if (rank_speaks(run->place)) TRY(report_open(settings, "document", &run->report));
    const enum status status = run_pipeline(run, &exit_code);
    totals->exit_code = exit_code;
    if (status != STATUS_OK && status != STATUS_STOPPED) return status;
    TRY(endpoints_close(&run->endpoints));
    TRY(gather_totals(run, exit_code, totals));
    judge(settings, totals);
    if (rank_speaks(run->place) && run->endpoints.topic_in && totals->exit_code == 0 &&
        totals->documents.rows == 0 && totals->documents.open == 0) {
        LOG(INFO,
            "nothing new: job %s has read this topic to its end; another --job reads it again",
            settings->job);
    }
    return rank_speaks(run->place) ? report_close(&run->report, totals) : STATUS_OK;
}

enum status score_on_rank(const struct settings *settings, const struct score_place *place,
                          struct score_totals *totals) {
    struct rank_run run = {
        .settings = settings, .place = place, .rank = {.settings = settings, .place = place}
    };
    *totals = (struct score_totals){0};
    const enum status status = score(&run, totals);
    if (status != STATUS_OK) {
        if (totals->exit_code == 0) totals->exit_code = status_exit_code(status);
        rank_model_fail(place, totals->exit_code);
    }
    (void)!endpoints_close(&run.endpoints);
    report_drop(&run.report);
    rank_model_close(&run.rank);
    return status;
}
