#pragma once
// The loop of a group's rank 0: records in, plans out to all ranks, NLLs back, results out, cuts
// committed. It never waits for a broker, and never for all ranks.
// Thread: the leader's own, beside the rank's compute and communication threads.

#include "pipeline/comm.h"
#include "pipeline/documents.h"
#include "pipeline/plan.h"
#include "pipeline/reader.h"

struct leader_settings {
    struct plan_settings plan;
    struct documents_settings documents;
    int64_t queue_tokens; // ready tokens above which no record is taken in
    int64_t slots;        // of every rank, which steps must do with
    int64_t commit_interval_ms;
    const char
        *mark;       // goes with every commit, printable, at most 150 bytes: what scores depend on;
                     // a run that finds another one refuses. NULL: nothing
    bool close_open; // what is open when the input ends is scored as it is
    // Told about once a second and at the end; may be NULL.
    void (*progress)(void *listener, const struct documents_counts *counts,
                     const struct source_progress *source);
    void *listener;
};

struct leader_counts {
    struct documents_counts documents;
    int64_t steps, moves, hand_overs;
    int64_t ingest_ns; // taking records in
    int64_t plan_ns;   // building plans and their messages
    int64_t emit_ns;   // landing answers and giving results away
    int64_t commit_ns; // asking what is safe, and committing
    int64_t run_ns;    // from the first step sent to the last answer
};

// Until the source has ended, everything is answered, handed to the sink and committed; then tells
// all ranks to stop. A stop that comm hears of ends the input: no new step, what is done is
// committed. Borrows all but the sinks, which it closes; letters may be NULL.
// Errors: STOPPED (after the same, or at once where a sink waited for its broker: what it had not
// confirmed is not committed), the source's, the sinks', PEER.
enum status leader_run(const struct leader_settings *settings, struct comm *comm,
                       struct source *source, struct sink *sink, struct sink *letters,
                       struct leader_counts *counts);
