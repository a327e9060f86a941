#pragma once
// What the leader's files share: leader.c, the loop from records to results, and leader_cuts.c, what is
// committed.

#include "pipeline/leader.h"

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

    struct steps steps;
    struct pending_cut *cuts;
    size_t cut_count, cut_room;
    bool input_ended, stopped;
    int64_t next_commit_ms, next_progress_ms;
};

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
