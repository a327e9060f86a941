#include "src/summary.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// Infinity and NaN are no JSON: null says that there is no such number.
static void put_number(FILE *out, const char *name, double number) {
    if (isfinite(number)) {
        fprintf(out, ",\"%s\":%.17g", name, number);
    } else {
        fprintf(out, ",\"%s\":null", name);
    }
}

static void put_count(FILE *out, const char *name, int64_t count) {
    fprintf(out, ",\"%s\":%" PRId64, name, count);
}

static void put_bad(FILE *out, const struct documents_counts *counts) {
    int64_t sum = 0;
    fputs(",\"bad_reasons\":{", out);
    for (int i = 0; i < BAD_REASONS; i++) {
        fprintf(out, "%s\"%s\":%" PRId64, i == 0 ? "" : ",", bad_reason_key((enum bad_reason)i),
                counts->bad[i]);
        sum += counts->bad[i];
    }
    fputc('}', out);
    put_count(out, "bad", sum);
}

static void put_scores(FILE *out, const struct documents_counts *counts) {
    put_count(out, "documents", counts->documents);
    put_count(out, "tokens", counts->tokens);
    put_count(out, "rows",
              counts->rows); // through the model, those of documents without a score too
    put_count(out, "scored", counts->scored);
    put_bad(out, counts);
    put_count(out, "open", counts->open);
    put_count(out, "duplicates", counts->duplicates);
    put_count(out, "replaced", counts->replaced);
    put_count(out, "swallowed", counts->swallowed);
    put_count(out, "settled", counts->settled);
    put_count(out, "truncated", counts->truncated);
    put_number(out, "nll", counts->nll);
    if (counts->scored > 0) {
        const double each = counts->nll / (double)counts->scored;
        put_number(out, "nll_per_token", each);
        put_number(out, "perplexity", exp(each));
    }
    // Of the documents whose text is known, which need not be all: no bits a byte from this.
    put_count(out, "text_bytes", counts->text_bytes);
    if (counts->text_bytes > 0) {
        put_number(out, "bits_per_byte", counts->text_nll / log(2.0) / (double)counts->text_bytes);
    }
}

static void put_summary(FILE *out, const struct score_totals *totals, double seconds) {
    fprintf(out, "{\"exit_code\":%d", (int)totals->exit_code);
    put_scores(out, &totals->documents);
    put_number(out, "seconds", seconds);
    put_number(out, "tokens_per_second",
               seconds > 0.0 ? (double)totals->documents.rows / seconds : 0.0);
    put_count(out, "steps", totals->steps);
    put_count(out, "moves", totals->moves);
    put_count(out, "hand_overs", totals->hand_overs);
    put_count(out, "spills", totals->spills);
    put_count(out, "inputs_skipped", totals->inputs_skipped);
    put_count(out, "peak_bytes", totals->peak_bytes);
    put_count(out, "ranks", totals->ranks);
    put_number(out, "ingest_seconds", (double)totals->ingest_ns * 1e-9);
    put_number(out, "plan_seconds", (double)totals->plan_ns * 1e-9);
    put_number(out, "emit_seconds", (double)totals->emit_ns * 1e-9);
    put_number(out, "commit_seconds", (double)totals->commit_ns * 1e-9);
    put_number(out, "run_seconds", (double)totals->run_ns * 1e-9);
    put_number(out, "compute_seconds", (double)totals->compute_ns * 1e-9);
    put_number(out, "wait_seconds", (double)totals->wait_ns * 1e-9);
    fputs("}\n", out);
}

// PATH.partial. Owns: the caller's; NULL without memory.
static char *partial_of(const char *path) {
    const size_t room = strlen(path) + sizeof ".partial";
    char *partial = malloc(room);
    if (partial != NULL) snprintf(partial, room, "%s.partial", path);
    return partial;
}

enum status summary_check(const char *path) {
    enum status status = STATUS_OK;
    if (strcmp(path, "-") == 0) return STATUS_OK;
    char *partial = partial_of(path);
    if (partial == NULL) return FAIL(NO_MEMORY, "summary");
    FILE *out = fopen(partial, "w");
    if (out == NULL) {
        status = FAIL(USAGE, "--summary %s: %s", path, strerror(errno));
    } else {
        fclose(out);
        unlink(partial);
    }
    free(partial);
    return status;
}

enum status summary_write(const char *path, const struct score_totals *totals, double seconds) {
    enum status status = STATUS_OK;
    FILE *out = NULL;
    int failed = 0;
    if (strcmp(path, "-") == 0) {
        put_summary(stderr, totals, seconds);
        return STATUS_OK;
    }
    char *partial = partial_of(path);
    if (partial == NULL) return FAIL(NO_MEMORY, "summary");
    out = fopen(partial, "w");
    if (out == NULL) {
        status = FAIL(IO, "--summary: cannot open %s: %s", partial, strerror(errno));
        goto out;
    }
    put_summary(out, totals, seconds);
    failed = ferror(out);
    if (fclose(out) != 0 || failed != 0 || rename(partial, path) != 0) {
        status = FAIL(IO, "--summary: cannot write %s: %s", path, strerror(errno));
        unlink(partial);
    }
out:
    free(partial);
    return status;
}
