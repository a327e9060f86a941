#include "src/report.h"

#include "ops/base/clock.h"
#include "src/bar.h"
#include "src/launch.h"
#include "src/score_rank.h"
#include "src/summary.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BAR_MS  100  // ten times a second looks alive and costs nothing
#define LINE_MS 5000 // a line in a log file should be worth reading

#define SHARES_LEAST_S 0.1 // of less, shares of the time say nothing

struct report {
    const struct settings *settings;
    bool bar, lines;
    int64_t started_ms, said_ms;
    struct progress_line line;
};

enum status report_open(const struct settings *settings, const char *noun, struct report **opened) {
    struct report *report = calloc(1, sizeof *report);
    if (report == NULL) return FAIL(NO_MEMORY, "report");
    const bool wanted = !settings->quiet && !settings->no_progress;
    report->settings = settings;
    // mpirun carries the two streams of a rank apart: a table and a bar would end up in each other.
    const bool mixed = launch_is_through_mpirun() && launch_output_is_terminal() &&
                       strcmp(settings->output, "-") == 0;
    report->bar =
        wanted && launch_error_is_terminal() && !mixed && strcmp(settings->log_format, "text") == 0;
    report->lines = wanted && !report->bar;
    report->started_ms = clock_ms();
    report->said_ms = report->started_ms;
    progress_line_start(&report->line, noun, report->started_ms);
    if (report->bar) bar_open();
    *opened = report;
    return STATUS_OK;
}

const char *bad_reason_text(enum bad_reason reason) {
    static const char *const texts[BAD_REASONS] = {
        [BAD_RECORD] = "a record cannot be read",
        [BAD_GAP] = "tokens are missing",
        [BAD_TOKEN] = "a token is not in the vocabulary",
        [BAD_NLL] = "an NLL is not a finite number",
        [BAD_FILE] = "a file cannot be read",
    };
    return texts[reason];
}

static int64_t bad_sum(const struct documents_counts *counts) {
    int64_t sum = 0;
    for (int i = 0; i < BAD_REASONS; i++) {
        sum += counts->bad[i];
    }
    return sum;
}

void report_progress(struct report *report, const struct documents_counts *counts,
                     const struct source_progress *progress) {
    char text[320];
    const int64_t now_ms = clock_ms();
    if (!report->bar && !report->lines) return;
    const bool last = report->bar && progress != NULL && progress->total > 0 &&
                      progress->done >= progress->total && progress->waiting == 0;
    if (!last && now_ms - report->said_ms < (report->bar ? BAR_MS : LINE_MS)) return;
    report->said_ms = now_ms;
    progress_line_tell(&report->line, now_ms, counts, progress, text, sizeof text);
    if (report->bar) {
        bar_draw(text);
    } else {
        LOG(INFO, "%s", text);
    }
}

static void say_sums(const struct score_totals *totals, double seconds) {
    const struct documents_counts *counts = &totals->documents;
    char documents[40];
    char tokens[40];
    char scored[40] = "";
    char rows[16];
    char rate[16];
    char more[128] = "";
    if (counts->text_bytes > 0) {
        snprintf(more, sizeof more, ", %.4f bits per byte",
                 counts->text_nll / log(2.0) / (double)counts->text_bytes);
    }
    const size_t at = strlen(more);
    if (totals->inputs_skipped > 0) {
        snprintf(more + at, sizeof more - at,
                 totals->inputs_skipped == 1 ? ", %" PRId64 " input was complete already"
                                             : ", %" PRId64 " inputs were complete already",
                 totals->inputs_skipped);
    }
    // tokens of documents that have a score; and, as the progress counts, all that were worked on
    if (counts->rows != counts->tokens) {
        snprintf(scored, sizeof scored, " (%s scored)",
                 short_number((double)counts->rows, rows, sizeof rows));
    }
    LOG(INFO, "%s: %s, %s%s in %.1f s, %s tokens/s, %" PRId64 " bad, %" PRId64 " left open%s",
        totals->exit_code == 143 ? "stopped"
        : totals->exit_code == 0 ? "done"
                                 : "ended",
        count_of(counts->documents, "document", documents, sizeof documents),
        count_of(counts->tokens, "token", tokens, sizeof tokens), scored, seconds,
        short_number(seconds > 0.0 ? (double)counts->rows / seconds : 0.0, rate, sizeof rate),
        bad_sum(counts), counts->open, more);
    for (int i = 0; i < BAD_REASONS; i++) {
        if (counts->bad[i] == 0) continue;
        LOG(WARN, "bad: %" PRId64 ", because %s", counts->bad[i],
            bad_reason_text((enum bad_reason)i));
    }
    if (counts->duplicates > 0) {
        LOG(INFO, "%s dropped, known already",
            count_of(counts->duplicates, "record", documents, sizeof documents));
    }
}

// As shares: of the ranks' time, what their threads that compute did; of the leaders' time, what
// they did meanwhile.
static void say_stages(const struct score_totals *totals, double seconds) {
    const double run_seconds = (double)totals->run_ns * 1e-9;
    if (run_seconds > seconds) seconds = run_seconds; // another group's leader began earlier
    if (totals->steps == 0 || seconds < SHARES_LEAST_S) return;
    const double ranks = seconds * 1e9 * (double)(totals->ranks > 0 ? totals->ranks : 1) / 100.0;
    const double leaders =
        seconds * 1e9 * (double)(totals->leaders > 0 ? totals->leaders : 1) / 100.0;
    LOG(INFO,
        "time: ranks compute %.0f%%, wait %.0f%%; %s ingest %.1f%%, plan %.1f%%, emit %.1f%%, "
        "commit %.1f%%",
        (double)totals->compute_ns / ranks, (double)totals->wait_ns / ranks,
        totals->leaders > 1 ? "leaders" : "leader", (double)totals->ingest_ns / leaders,
        (double)totals->plan_ns / leaders, (double)totals->emit_ns / leaders,
        (double)totals->commit_ns / leaders);
}

static void say_verdict(const struct settings *settings, const struct score_totals *totals) {
    const int64_t bad = bad_sum(&totals->documents);
    const int64_t all = totals->documents.documents + bad;
    char complete[64] = "";
    if (totals->inputs_skipped > 0) {
        snprintf(complete, sizeof complete, " (%" PRId64 " inputs were complete already)",
                 totals->inputs_skipped);
    }
    if (totals->exit_code == status_exit_code(STATUS_BAD_INPUT)) {
        LOG(ERROR, "%" PRId64 " of %" PRId64 " documents are bad%s, more than --max-bad %g%%", bad,
            all, complete, 100.0 * settings->max_bad);
    } else if (totals->exit_code == status_exit_code(STATUS_SOME_BAD)) {
        LOG(ERROR, "%" PRId64 " of %" PRId64 " documents are bad, and --strict is given", bad, all);
    }
}

enum status report_close(struct report **report, const struct score_totals *totals) {
    const struct settings *settings = (*report)->settings;
    const double seconds = (double)(clock_ms() - (*report)->started_ms) / 1000.0;
    report_drop(report);
    say_sums(totals, seconds);
    say_stages(totals, seconds);
    say_verdict(settings, totals);
    if (settings->summary == NULL) return STATUS_OK;
    return summary_write(settings->summary, totals, seconds);
}

void report_drop(struct report **report) {
    if (*report == NULL) return;
    if ((*report)->bar) bar_close();
    free(*report);
    *report = NULL;
}
