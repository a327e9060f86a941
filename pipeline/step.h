#pragma once
// What the leader tells one rank to do in one step, and what the rank answers, as messages.
// A message is one block: a header, then arrays. Both sides are this program, so numbers are in
// the machine's order; everything is still checked before it is used.

#include "pipeline/comm.h"
#include "pipeline/plan.h"

struct step_span {
    uint64_t key; // names the state that it ends with, see pipeline/slots.h, or that comes for it
    uint64_t source; // names the state in a slot here that it starts from
    int64_t first, count;
    int64_t asked;     // of its last rows: what would the model go on with?
    int32_t lookahead; // the token after the span, which its last row predicts; -1: none
    int32_t from, to;  // enum span_from, enum span_to
    int32_t stays;     // 1: the source stays under its name, others start from it too
};

struct step_move {
    uint64_t key;    // of the span that it is for
    uint64_t source; // names the state here that goes
    int32_t peer;    // rank in the group
    int32_t out;     // 1: from here to peer, 0: from peer to here
    int32_t stays;   // 1: it stays here too
    int32_t unused;
};

// A step for one rank. Encoded by the leader from its own arrays; decoded by pointing into the
// message, which must outlive it.
struct step {
    uint64_t number;
    bool stop; // nothing more comes; there are drops at most
    int64_t span_count, move_count, drop_count, rows;
    int64_t asked; // rows, of all spans
    const struct step_span *spans;
    const struct step_move *moves;
    const uint64_t *drops; // states nobody needs any more
    const int32_t *token;  // [rows], span after span
};

// Room for a step of these counts; the arrays inside are then filled through the pointers given
// back (they are not const to the builder). Owns: message->data is the caller's.
struct step_arrays {
    struct step_span *spans;
    struct step_move *moves;
    uint64_t *drops;
    int32_t *token;
};
enum status step_make(const struct step *counts, struct message *message,
                      struct step_arrays *arrays);
// Errors: PEER, naming what is wrong with the message.
enum status step_read(const struct message *message, struct step *step);

struct step_result {
    uint64_t number;
    int64_t rows, asked;
    const float *nll;              // [rows]
    const struct best_token *best; // [asked], of the rows asked, span after span
};
// Room for a result of these counts; its arrays are then filled through the pointers given back.
struct step_result_arrays {
    float *nll;
    struct best_token *best;
};
enum status step_result_make(const struct step_result *counts, struct message *message,
                             struct step_result_arrays *arrays);
enum status step_result_read(const struct message *message, struct step_result *result);
