#pragma once
// A recurrent language model as the pipeline sees it: tokens and states in, NLLs and states out.
// ops/model/mamba2.c answers it; the pipeline's tests answer it with a checksum (tests/toy_model.c).

#include "ops/backend.h"
#include "ops/model/config.h"

C_BEGIN

struct model;

// Facts the pipeline plans with. hash: xxh3 of everything that makes the model what it is.
struct model_info {
    char name[64];
    int64_t parameters;
    int32_t vocab_size; // rows of the embedding; a token is in [0, vocab_size)
    int32_t bos_token;  // that begins a document if asked for; -1: the model names none
    int32_t layers;
    size_t layer_bytes; // of one layer's state, in a slot: SSM part, then convolution part
    size_t ssm_bytes;   // of that, the SSM part; it is also where the convolution part starts
    uint64_t hash;
};

// Parts of a layer's boundary. The convolution's is needed before the convolution and depends on
// nothing from the left; the SSM's is needed before state_passing and is a chain.
enum state_part { STATE_CONV, STATE_SSM, STATE_PARTS };

// The seam to the neighbours. Both are queued calls and may do nothing.
struct boundary {
    // What is queued after this sees the layer's part of every state that comes from elsewhere.
    enum status (*arrive)(struct boundary *boundary, int32_t layer, enum state_part part);
    // The layer's part of every span's state_out is ready when the queue comes here.
    enum status (*leave)(struct boundary *boundary, int32_t layer, enum state_part part);
};

// One rank's share of a step. Spans follow each other in the rows without holes.
struct model_span {
    int64_t rows; // > 0; any number, though only ends at chunk borders keep the document's bits
    const char *state_in; // a slot (layers * layer_bytes) in backend memory, or NULL: zero
    char *state_out;      // a slot, or NULL; never the same slot as state_in
};
struct model_step {
    int64_t rows;
    const int32_t *token;  // [rows], host
    const int32_t *target; // [rows], host; -1: no prediction here
    const struct model_span *spans;
    int64_t span_count;
    struct boundary *boundary; // NULL: nothing comes from or goes elsewhere
    float *nll;                // [rows], host; valid after backend wait; 0 where target is -1
    const int32_t *asked;      // [asked_count] rows, rising, host: what would the model go on with?
    int64_t asked_count;       // at most model_settings.asked_most
    struct best_token *best;   // [asked_count], host; valid after backend wait
};

struct model_settings {
    int64_t step_tokens; // most rows of a step
    int64_t asked_most;  // of those, rows that may be asked for their best token; 0: none
    enum gated_norm gated_norm;
};

// Opens the model in folder `dir` and places it on the backend. Reads and checks everything first.
// Errors: MISMATCH with the name of what does not fit, USAGE (no such folder), IO, NO_MEMORY.
enum status model_open(const char *dir, struct backend *backend,
                       const struct model_settings *settings, struct model **opened);
const struct model_info *model_info(const struct model *model);
// Queued. Errors: NO_MEMORY, PEER. A step too large or a token out of range is a bug.
enum status model_run(struct model *model, const struct model_step *step);
void model_close(struct model *model); // accepts NULL

C_END
