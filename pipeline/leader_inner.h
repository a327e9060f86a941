#pragma once
// What the leader's files share: leader.c, the loop from records to results, leader_steps.c, the steps
// between, and leader_cuts.c, what is committed.

#include "pipeline/leader.h"

// A step on its way: which documents its rows belong to, and what has come back.
struct flight {
    uint64_t number;
    struct document **documents; // [span_count], as the plan's spans
    struct plan_span *spans;
    int64_t span_count;
    size_t documents_room, spans_room;
    struct message *answers; // [ranks]
    int32_t answered;
};

// An offset that may be committed once so many results and letters are safe. What lay before
// `taken_in` was taken in by then.
struct pending_cut {
    int32_t partition;
    int64_t offset, taken_in;
    int64_t results, letters;
};

struct leader {
    const struct leader_settings *settings;
    struct comm *comm;
    struct source *source;
    struct sink *sink, *letters; // letters: NULL: nobody wants them
    int64_t letters_handed_over;
    struct reader *reader;
    struct documents documents;
    struct leader_counts *counts;

    struct plan plan;
    struct plan_pins pins;
    struct plan_document *waiting; // the front of the ready queue, as the planner sees it
    struct document **candidates;  // the same, as documents
    size_t waiting_room, candidates_room;
    struct document **served;
    size_t served_room;

    struct flight flights[STEPS_AHEAD];
    uint64_t sent, landed; // steps
    struct pending_cut *cuts;
    size_t cut_count, cut_room;
    bool input_ended, stopped;
    int64_t next_commit_ms, next_progress_ms, first_step_ns;
};

// Plan and send the next step, if there is one to send. Sets *busy when it did.
enum status leader_send_next(struct leader *leader, bool *busy);
// Its two halves: what waits becomes leader->plan, and the plan a message to each rank.
enum status leader_plan_step(struct leader *leader);
enum status leader_send_step(struct leader *leader);
// Take the ranks' answers, waiting so long for the first; steps all answered land: their NLLs go to
// the documents. Sets *busy when there were any.
enum status leader_take_answers(struct leader *leader, int32_t timeout_ms, bool *busy);

// Before a partition's first record: what a run before this one has committed of it.
// Errors: MISMATCH (it was of another model or other settings), NO_MEMORY.
enum status leader_meet_partition(struct leader *leader, int32_t partition);
// Note what could be committed now; it is once the results before it are safe.
enum status leader_note_cuts(struct leader *leader);
enum status leader_commit_cut(struct leader *leader, const struct pending_cut *cut);
// Says so at the end if nothing is committed because nothing was of use.
void leader_tell_uncommitted(const struct leader *leader);
// Each interval: note, ask the sinks what is safe, commit.
enum status leader_keep_cuts(struct leader *leader);
