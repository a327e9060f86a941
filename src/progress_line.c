#include "src/progress_line.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#define SAMPLE_MS   1000
#define RATE_MS     10000 // tokens/s are of the last ten seconds,
#define ETA_LEAST_S 3     // and the time left of the last minute; before this it would be a guess

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

const char *count_of(int64_t number, const char *word, char *text, size_t bytes) {
    char digits[16];
    snprintf(text, bytes, "%s %s%s", short_number((double)number, digits, sizeof digits), word,
             number == 1 ? "" : "s");
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

void progress_line_start(struct progress_line *line, const char *noun, int64_t now_ms) {
    *line = (struct progress_line){.started_ms = now_ms, .noun = noun, .samples = 1};
    line->sample[0].at_ms = now_ms;
}

static void keep_sample(struct progress_line *line, const struct progress_sample *now) {
    const int64_t newest = (line->samples - 1) % PROGRESS_KEPT;
    if (now->at_ms - line->sample[newest].at_ms < SAMPLE_MS) return;
    line->sample[line->samples % PROGRESS_KEPT] = *now;
    line->samples++;
}

// The oldest sample that is no older than this.
static struct progress_sample sample_since(const struct progress_line *line, int64_t at_ms) {
    const int64_t kept = line->samples < PROGRESS_KEPT ? line->samples : PROGRESS_KEPT;
    for (int64_t i = line->samples - kept; i < line->samples - 1; i++) {
        const struct progress_sample *sample = &line->sample[i % PROGRESS_KEPT];
        if (sample->at_ms >= at_ms) return *sample;
    }
    return line->sample[(line->samples - 1) % PROGRESS_KEPT];
}

// What was read is scored but for the tokens that wait.
static double units_done(const struct documents_counts *counts,
                         const struct source_progress *progress) {
    const double rows = (double)counts->rows;
    const double waiting = progress->waiting > 0 ? (double)progress->waiting : 0.0;
    if (progress->done <= 0 || waiting <= 0.0) return (double)progress->done;
    return (double)progress->done * rows / (rows + waiting);
}

struct words {
    char *text;
    size_t bytes, at;
};

__attribute__((format(printf, 2, 3))) static void add(struct words *words, const char *format,
                                                      ...) {
    va_list arguments;
    const char *between = words->at > 0 ? ", " : "";
    char more[64];
    va_start(arguments, format);
    vsnprintf(more, sizeof more, format, arguments);
    va_end(arguments);
    const int bytes =
        snprintf(words->text + words->at, words->bytes - words->at, "%s%s", between, more);
    words->at += (size_t)bytes;
    if (words->at >= words->bytes) words->at = words->bytes - 1;
}

static void add_share(struct words *words, const struct progress_line *line,
                      const struct progress_sample *now, const struct source_progress *progress) {
    const struct progress_sample from = sample_since(line, 0);
    const double seconds = (double)(now->at_ms - from.at_ms) / 1000.0;
    const double share = now->done / (double)progress->total;
    char eta[24];
    // Downwards: 100% is for what is done.
    add(words, "%d%%", share < 1.0 ? (int)(100.0 * share) : 100);
    if (share >= 1.0 || now->at_ms - line->started_ms < ETA_LEAST_S * 1000) return;
    if (now->done - from.done <= 0.0) return;
    const double left =
        ceil(((double)progress->total - now->done) * seconds / (now->done - from.done));
    add(words, "ETA %s", short_time(left < 1e9 ? (int64_t)left : 1000000000, eta, sizeof eta));
}

void progress_line_tell(struct progress_line *line, int64_t now_ms,
                        const struct documents_counts *counts,
                        const struct source_progress *progress, char *text, size_t bytes) {
    struct progress_sample now = {now_ms, counts->rows,
                                  progress != NULL ? units_done(counts, progress) : 0.0};
    struct words words = {text, bytes, 0};
    char number[40];
    int64_t bad = 0;
    if (now.done < line->most) now.done = line->most;
    line->most = now.done;
    const struct progress_sample from = sample_since(line, now_ms - RATE_MS);
    const double seconds = (double)(now_ms - from.at_ms) / 1000.0;
    for (int i = 0; i < BAD_REASONS; i++) {
        bad += counts->bad[i];
    }
    if (progress != NULL && progress->total > 0) add_share(&words, line, &now, progress);
    keep_sample(line, &now);
    add(&words, "%s", count_of(counts->documents, line->noun, number, sizeof number));
    add(&words, "%s", count_of(counts->rows, "token", number, sizeof number));
    if (seconds > 0.0) {
        add(&words, "%s tokens/s",
            short_number((double)(now.tokens - from.tokens) / seconds, number, sizeof number));
    }
    if (bad > 0) add(&words, "%" PRId64 " bad", bad);
    if (counts->open > 0) add(&words, "%" PRId64 " open", counts->open);
    if (progress != NULL && progress->lag >= 0) add(&words, "lag %" PRId64, progress->lag);
}
