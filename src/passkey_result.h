#pragma once
// What became of one sample, as a line of results.jsonl, and all of them as a report.

#include "pipeline/bytes.h"
#include "src/passkey_task.h"

#include <stdio.h>

#define PASSKEY_PREDICTION_MOST 256

struct passkey_result {
    struct passkey_sample sample;
    int64_t tokens;        // of the prompt
    int64_t answer_tokens; // of the answer
    double answer_nll;     // nats, of the whole answer given the prompt
    double
        margin; // least over the answer's tokens: its logit less the greatest other; < 0: not chosen
    bool correct; // the answer is in the prediction
    bool exact;   // each of the answer's tokens is what the model would have chosen
    char prediction[PASSKEY_PREDICTION_MOST]; // text that was decoded, until the answer was there
    size_t prediction_bytes;
};

// What all lines of a run have in common.
struct passkey_run {
    const char *task;                   // JSON members, as passkey_task_json
    uint64_t model, settings, numerics; // hashes, as in the lines of `score`
};

// One line with its end. Errors: NO_MEMORY.
enum status passkey_result_put(const struct passkey_run *run, const struct passkey_result *result,
                               struct bytes *out);
// A line without its end, as the above made it or with its members in another order. Members that are
// unknown are skipped. *run: its hashes only. Errors: BAD_INPUT (not logged; *wrong says why).
enum status passkey_result_read(const char *line, size_t bytes, struct passkey_result *result,
                                struct passkey_run *run, const char **wrong);

// "xxh3:...", as in every line. Errors: NO_MEMORY.
enum status passkey_put_hash(struct bytes *out, const char *before, uint64_t hash);
// By length, then number, then id.
void passkey_results_sort(struct passkey_result *results, size_t count);

// For the report beside the results themselves.
struct passkey_facts {
    const char *model_name, *tokenizer, *dtype, *backend;
    // as they were given, for whoever wants to run it again; NULL: they were not
    const char *model_option, *tokenizer_option, *filler_option;
    const char *task; // JSON members
    uint64_t model, settings, numerics;
    int64_t trained_on; // tokens; 0: unknown
    int64_t parameters;
    int64_t tokens_run, tokens_plain; // that were run, and that one prompt at a time would have
    double seconds, tokens_per_second;
    int32_t ranks, groups;
    bool branched;
};

// All written into the folder, each as NAME.partial first. results: sorted by length, then number.
// Errors: IO, NO_MEMORY.
struct passkey_report {
    const struct passkey_facts *facts;
    const struct passkey_result *results;
    int64_t count;
};
// summary.json, summary.csv, heatmap.svg, report.html.
enum status passkey_report_write(const struct passkey_report *report, const char *folder);
// The table: lengths across, depths down, colours where `colours`.
enum status passkey_report_table(const struct passkey_report *report, bool colours, FILE *out);
// results_*.json and samples_*.jsonl as lm-evaluation-harness writes them.
enum status passkey_report_lm_eval(const struct passkey_report *report, const char *folder);
// The lowest accuracy of a length, and of which.
double passkey_report_lowest(const struct passkey_report *report, int64_t *length);
