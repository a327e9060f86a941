#pragma once
// What the parts of a report share: the results as a map, and text that is put together.

#include "src/passkey_result.h"

struct passkey_tally {
    int64_t n, correct;
};

struct passkey_interval {
    double low, high;
};

// All samples of one length, or of the run.
struct passkey_column {
    int64_t length, first; // tokens; its results begin here
    struct passkey_tally tally;
    int64_t exact;
    double answer_nll; // mean of those that are finite; NaN: there are none
    double margin;     // median of the same kind
};

// The results by length and depth. Rows are the depths that were asked for, or, where lengths do not
// have the same ones or they are too many, equal parts of the whole; then `depth` is a part's middle.
struct passkey_map {
    int64_t lengths, rows;
    bool parts;
    double *depth;                 // [rows], ascending
    struct passkey_tally *cell;    // [lengths, rows]
    struct passkey_column *column; // [lengths], ascending
    struct passkey_column all;
};

// Text, or null. Errors: NO_MEMORY.
enum status passkey_put_text(struct bytes *out, const char *before, const char *text);
// The members that name a sample, with the brace that opens them. Errors: NO_MEMORY.
enum status passkey_put_sample(struct bytes *out, const struct passkey_sample *sample);

#define PASSKEY_PARTS     10 // as the paper's heat maps
#define PASSKEY_ROWS_MOST 100

// Owns: the caller, freed by passkey_map_free in any case. Memory is linear in the results.
// Errors: NO_MEMORY.
enum status passkey_map_build(const struct passkey_report *report, int64_t rows_most,
                              struct passkey_map *map);
void passkey_map_free(struct passkey_map *map);
struct passkey_tally passkey_map_cell(const struct passkey_map *map, int64_t column, int64_t row);

// correct / n; NaN without samples.
double passkey_accuracy(struct passkey_tally share);
// Wilson's interval of 95%; all of [0, 1] without samples.
struct passkey_interval passkey_wilson(struct passkey_tally share);
// Whole percents, but 100 only if all are correct and 0 only if none is. n > 0.
int passkey_percent(struct passkey_tally share);

// The last k tokens (the paper's plot_acc_curve): samples of one length in the lowest rows, as many
// of them as k tokens fill. false: k is longer than the prompt, or fills no row.
bool passkey_last_k(const struct passkey_map *map, int64_t k, int64_t column,
                    struct passkey_tally *share);
#define PASSKEY_KS_MOST 64
// The powers of two up to half of the longest length that fill rows of two lengths at least (of one,
// where there is one only). Returns how many; k: [PASSKEY_KS_MOST], ascending.
int passkey_last_ks(const struct passkey_map *map, int64_t *k);

#define PASSKEY_LENGTH_TEXT 24
// 4k, 1m, or the number itself.
void passkey_length_text(int64_t length, char text[PASSKEY_LENGTH_TEXT]);

#define PASSKEY_COUNT_TEXT 32
void passkey_count_text(int64_t count, char text[PASSKEY_COUNT_TEXT]); // 1,234,567

// A file of the folder, which is made if it is missing: all of `text`, under its name once it is
// complete. Errors: IO, NO_MEMORY.
enum status passkey_report_file(const char *folder, const char *name, struct bytes *text);

// Each appends one file's text. Errors: NO_MEMORY.
enum status passkey_report_json(const struct passkey_report *report, const struct passkey_map *map,
                                struct bytes *out);
enum status passkey_report_csv(const struct passkey_map *map, struct bytes *out);
enum status passkey_report_html(const struct passkey_report *report, const struct passkey_map *map,
                                struct bytes *out);
