#pragma once
// The steps: what waits becomes a plan and a message to each rank, answers come back to what they
// belong to. What waits is documents (pipeline/documents.h) or branches (pipeline/branches.h): here it
// is work, made of items. Thread: the leader's.

#include "pipeline/comm.h"
#include "pipeline/plan.h"
#include "pipeline/step.h"

// Steps sent to the ranks and not yet answered: one runs, one is there when it ends.
#define STEPS_AHEAD 2

struct candidate {
    void *item;
    uint64_t key;    // names its state on the ranks
    uint64_t source; // names the one that it goes on from
    bool stays;      // which others go on from too
};

// What could be in the next step; who stands first is served first. The arrays are kept.
struct front {
    struct plan_document *waiting; // [count] as the planner sees it
    struct candidate *candidate;   // [count] the same, for the messages
    int64_t count;
    size_t waiting_room, candidate_room;
};

struct span_answer {
    const float *nll;              // [span->count]
    const struct best_token *best; // [asked] of its last rows
    int64_t asked;
};

struct work;
struct work_table {
    int64_t (*ready_tokens)(const struct work *work); // that could be in a plan
    // Fills in the front, of which a step of these settings could serve somebody.
    enum status (*gather)(struct work *work, const struct plan_settings *settings,
                          struct front *front);
    // The span is in a plan now. In the order of an item's positions. Fills in the lookahead, what is
    // asked, and the tokens [span->count].
    void (*take)(struct work *work, void *item, const struct plan_span *span, struct step_span *out,
                 int32_t *token);
    // All spans of the plan are taken.
    enum status (*taken)(struct work *work, const struct front *front, const struct plan *plan);
    // The span has run. In the order of an item's positions.
    enum status (*answer)(struct work *work, void *item, const struct plan_span *span,
                          const struct span_answer *answer);
};

struct state_drop { // a state that nobody needs any more lies there
    uint64_t key;
    int32_t rank;
};

struct work { // an implementation's struct begins with this
    const struct work_table *table;
    struct state_drop *drops; // [drop_count] which the ranks have not been told of
    size_t drop_count, drop_room;
};

enum status work_drop(struct work *work, uint64_t key, int32_t rank);

// A step on its way: whom its rows belong to, and what has come back.
struct steps_flight {
    uint64_t number;
    void **item;    // [span_count], of the plan's spans
    int64_t *asked; // [span_count], of their last rows
    struct plan_span *spans;
    int64_t span_count;
    size_t item_room, asked_room, spans_room;
    struct message *answers; // [ranks]
    int32_t answered;
};

struct steps_counts {
    int64_t steps, moves, hand_overs;
    int64_t plan_ns; // building plans and their messages
    int64_t run_ns;  // from the first step sent to the last answer
};

struct steps {
    struct plan_settings settings;
    int64_t slots; // of every rank, which steps must do with
    struct comm *comm;
    struct work *work;
    struct steps_counts counts;

    struct plan plan;
    struct plan_pins pins;
    struct front front;
    struct steps_flight flights[STEPS_AHEAD];
    uint64_t sent, landed; // steps
    int64_t first_step_ns;
};

// Borrows comm and work. Errors: NO_MEMORY.
enum status steps_open(const struct plan_settings *settings, int64_t slots, struct comm *comm,
                       struct work *work, struct steps *steps);
// Plan and send the next step, if there is one to send. Sets *busy when it did.
enum status steps_send_next(struct steps *steps, bool *busy);
// Its two halves: what waits becomes steps->plan, and the plan a message to each rank.
enum status steps_plan(struct steps *steps);
enum status steps_send(struct steps *steps);
// Take the ranks' answers, waiting so long for the first; steps all answered land: what came out goes
// to the work. Sets *busy when there were any.
enum status steps_take_answers(struct steps *steps, int32_t timeout_ms, bool *busy);
// Tokens on the ranks.
int64_t steps_under_way(const struct steps *steps);
// Tell all ranks that nothing more comes, and what is still to be dropped.
enum status steps_stop(struct steps *steps);
void steps_close(struct steps *steps);
