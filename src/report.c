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

#define BAR_MS    100  // ten times a second looks alive and costs nothing
#define LINE_MS   5000 // a line in a log file should be worth reading
#define RATE_MS   1000 // the rate is taken over the last ten of these
#define RATE_KEPT 10

struct sample {
    int64_t at_ms, tokens, done;
};

struct report {
    const struct settings *settings;
    bool bar, lines;
    int64_t started_ms, said_ms;
    struct sample sample[RATE_KEPT]; // a ring
    int64_t samples;
};

enum status report_open(const struct settings *settings, struct report **opened) {
    struct report *report = calloc(1, sizeof *report);
    if (report == NULL) return FAIL(NO_MEMORY, "report");
    const bool wanted = !settings->quiet && !settings->no_progress;
    report->settings = settings;
    // mpirun carries the two streams of a rank apart: a table and a bar would end up in each other.
    const bool mixed = launch_is_through_mpirun() && launch_output_is_terminal();
    report->bar =
        wanted && launch_error_is_terminal() && !mixed && strcmp(settings->log_format, "text") == 0;
    report->lines = wanted && !report->bar;
    report->started_ms = clock_ms();
    report->said_ms = report->started_ms;
    report->sample[0].at_ms = report->started_ms;
    report->samples = 1;
    if (report->bar) bar_open();
    *opened = report;
    return STATUS_OK;
}

const char *short_number(double number, char *text, size_t bytes) {
    static const char units[] = " kMGTP";
    int unit = 0;
    while (number >= 10000.0 || (unit > 0 && number >= 1000.0)) {
        if (units[unit + 1] == '\0') break;
        number /= 1000.0;
        unit++;
    }
    if (unit == 0) {
        snprintf(text, bytes, "%.0f", number);
    } else {
        snprintf(text, bytes, "%.*f%c",
                 number < 10.0    ? 2
                 : number < 100.0 ? 1
                                  : 0,
                 number, units[unit]);
    }
    return text;
}

static const char *short_time(int64_t seconds, char *text, size_t bytes) {
    if (seconds >= 3600) {
        snprintf(text, bytes, "%" PRId64 "h%02" PRId64 "m", seconds / 3600, seconds / 60 % 60);
    } else if (seconds >= 60) {
        snprintf(text, bytes, "%" PRId64 "m%02" PRId64 "s", seconds / 60, seconds % 60);
    } else {
        snprintf(text, bytes, "%" PRId64 "s", seconds);
    }
    return text;
}

// Keeps a sample a second, and gives the oldest that is kept.
static struct sample take_sample(struct report *report, const struct sample *now) {
    const int64_t newest = (report->samples - 1) % RATE_KEPT;
    if (now->at_ms - report->sample[newest].at_ms >= RATE_MS) {
        report->sample[report->samples % RATE_KEPT] = *now;
        report->samples++;
    }
    const int64_t oldest = report->samples < RATE_KEPT ? 0 : report->samples % RATE_KEPT;
    return report->sample[oldest];
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

// "12.3k documents, 4.56M tokens, 789k tokens/s, 34%, ETA 2m10s, 5 bad, 17 open, lag 1234"
static void describe(struct report *report, int64_t now_ms, const struct documents_counts *counts,
                     const struct source_progress *progress, char *text, size_t bytes) {
    char documents[16];
    char tokens[16];
    char rate[16];
    char eta[24];
    char more[160] = "";
    size_t at = 0;
    const struct sample now = {now_ms, counts->rows, progress != NULL ? progress->done : 0};
    const struct sample then = take_sample(report, &now);
    // The first second's rate is taken from the start, when nothing was done.
    const struct sample from =
        now_ms - then.at_ms >= RATE_MS ? then : (struct sample){report->started_ms, 0, 0};
    const double seconds = (double)(now.at_ms - from.at_ms) / 1000.0;
    const double speed = seconds > 0.0 ? (double)(now.tokens - from.tokens) / seconds : 0.0;
    if (progress != NULL && progress->total > 0) {
        const double share = (double)progress->done / (double)progress->total;
        const double flow = seconds > 0.0 ? (double)(now.done - from.done) / seconds : 0.0;
        at += (size_t)snprintf(more + at, sizeof more - at, ", read %.0f%%",
                               100.0 * (share < 1.0 ? share : 1.0));
        if (flow > 0.0 && progress->done < progress->total) {
            const double left = (double)(progress->total - progress->done) / flow;
            at += (size_t)snprintf(
                more + at, sizeof more - at, ", ETA %s",
                short_time(left < 1e9 ? (int64_t)left : 1000000000, eta, sizeof eta));
        }
    }
    if (bad_sum(counts) > 0) {
        at += (size_t)snprintf(more + at, sizeof more - at, ", %" PRId64 " bad", bad_sum(counts));
    }
    if (counts->open > 0) {
        at += (size_t)snprintf(more + at, sizeof more - at, ", %" PRId64 " open", counts->open);
    }
    if (progress != NULL && progress->lag >= 0) {
        snprintf(more + at, sizeof more - at, ", lag %" PRId64, progress->lag);
    }
    snprintf(text, bytes, "%s documents, %s tokens, %s tokens/s%s",
             short_number((double)counts->documents, documents, sizeof documents),
             short_number((double)counts->tokens, tokens, sizeof tokens),
             short_number(speed, rate, sizeof rate), more);
}

void report_progress(struct report *report, const struct documents_counts *counts,
                     const struct source_progress *progress) {
    char text[320];
    const int64_t now_ms = clock_ms();
    if (!report->bar && !report->lines) return;
    if (now_ms - report->said_ms < (report->bar ? BAR_MS : LINE_MS)) return;
    report->said_ms = now_ms;
    describe(report, now_ms, counts, progress, text, sizeof text);
    if (report->bar) {
        bar_draw(text);
    } else {
        LOG(INFO, "%s", text);
    }
}

static void say_sums(const struct score_totals *totals, double seconds) {
    const struct documents_counts *counts = &totals->documents;
    char tokens[16];
    char rate[16];
    char more[128] = "";
    if (counts->text_bytes > 0) {
        snprintf(more, sizeof more, ", %.4f bits per byte",
                 counts->text_nll / log(2.0) / (double)counts->text_bytes);
    }
    const size_t at = strlen(more);
    if (totals->inputs_skipped > 0) {
        snprintf(more + at, sizeof more - at, ", %" PRId64 " inputs were complete already",
                 totals->inputs_skipped);
    }
    LOG(INFO,
        "%s: %" PRId64 " documents, %s tokens in %.1f s, %s tokens/s, %" PRId64 " bad, %" PRId64
        " left open%s",
        totals->exit_code == 143 ? "stopped"
        : totals->exit_code == 0 ? "done"
                                 : "ended",
        counts->documents, short_number((double)counts->tokens, tokens, sizeof tokens), seconds,
        short_number(seconds > 0.0 ? (double)counts->tokens / seconds : 0.0, rate, sizeof rate),
        bad_sum(counts), counts->open, more);
    for (int i = 0; i < BAD_REASONS; i++) {
        if (counts->bad[i] == 0) continue;
        LOG(WARN, "bad: %" PRId64 ", because %s", counts->bad[i],
            bad_reason_text((enum bad_reason)i));
    }
    if (counts->duplicates > 0) {
        LOG(INFO, "%" PRId64 " records were known already and dropped", counts->duplicates);
    }
}

static void say_verdict(const struct settings *settings, const struct score_totals *totals) {
    const int64_t bad = bad_sum(&totals->documents);
    const int64_t all = totals->documents.documents + bad;
    if (totals->exit_code == status_exit_code(STATUS_BAD_INPUT)) {
        LOG(ERROR, "%" PRId64 " of %" PRId64 " documents are bad, more than --max-bad %g%%", bad,
            all, 100.0 * settings->max_bad);
    } else if (totals->exit_code == status_exit_code(STATUS_SOME_BAD)) {
        LOG(ERROR, "%" PRId64 " of %" PRId64 " documents are bad, and --strict is given", bad, all);
    }
}

enum status report_close(struct report **report, const struct score_totals *totals) {
    const struct settings *settings = (*report)->settings;
    const double seconds = (double)(clock_ms() - (*report)->started_ms) / 1000.0;
    report_drop(report);
    say_sums(totals, seconds);
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
