#pragma once
// One document's running result: NLLs come in, in position order, and sums, windows and arrays
// grow out of them. Per-token NLLs are fp32; the sums are double, added in position order, so a
// document's number does not depend on how it was cut.

#include "pipeline/record.h"
#include "pipeline/sink.h"

struct tally_settings {
    int64_t score_every; // tokens a window; 0: none
    bool windows_apart;  // each window goes out as soon as it is complete, not with the result
    bool token_nll;
};

struct tally {
    const struct tally_settings *settings; // borrowed
    int64_t scored;
    double nll;
    int64_t first_scored; // position of the first prediction; -1: none yet
    struct window_score *windows;
    size_t window_count, window_room;
    float *token_nll;
    size_t nll_count, nll_room;
    int64_t nll_first;   // position of token_nll[0]
    int64_t windows_out; // windows before this position went out in pieces
    bool in_pieces;      // arrays are too long to stand in one result
    bool finite;         // false: an NLL was infinite or not a number; the document is bad
};

void tally_begin(struct tally *tally, const struct tally_settings *settings);
// Predictions of positions first, first + 1, ...: nll[0 .. count). Errors: NO_MEMORY.
enum status tally_add(struct tally *tally, int64_t first, const float *nll, int64_t count);
// Is there a piece that can go out ahead of the result? Then it is the sink's next call for this
// document; tally_drop_piece forgets it. `ended`: the document has no more predictions.
bool tally_piece(const struct tally *tally, bool ended, struct document_piece *piece);
void tally_drop_piece(struct tally *tally, const struct document_piece *piece);
int64_t tally_bytes(const struct tally *tally); // of its arrays
void tally_free(struct tally *tally);
