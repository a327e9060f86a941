// The leader's cuts: how far each partition may be committed, what is committed with it, and what a
// run before this one has left.
#include "ops/base/check.h"
#include "ops/base/clock.h"
#include "ops/base/room.h"
#include "pipeline/leader_inner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// What a run before this one has committed: "in=OFFSET;MARK". All before OFFSET had been taken in: the
// records from the committed offset to there are read again, for the documents among them that
// were open; those of documents that began before them are of no use. MARK says what the scores
// were made with.
static enum status read_blob(const struct leader *l, int32_t partition, const char *blob,
                             int64_t *taken_in) {
    if (strncmp(blob, "in=", 3) != 0) return STATUS_OK; // another program's, or none
    const char *mark = strchr(blob, ';');
    *taken_in = strtoll(blob + 3, NULL, 10);
    if (mark == NULL || l->settings->mark == NULL || strcmp(mark + 1, l->settings->mark) == 0) {
        return STATUS_OK;
    }
    return FAIL(MISMATCH,
                "topic %s [%d]: this job has read it with another model or other settings (%s, now "
                "%s): its results would be of two kinds; start under another --job",
                l->source->table->origin(l->source, partition), (int)partition, mark + 1,
                l->settings->mark);
}

enum status leader_meet_partition(struct leader *l, int32_t partition) {
    int64_t offset = 0;
    int64_t taken_in = 0;
    const char *blob = NULL;
    if (l->source->table->resumed == NULL) return STATUS_OK;
    if (documents_know_partition(&l->documents, partition)) return STATUS_OK;
    if (!l->source->table->resumed(l->source, partition, &offset, &blob)) return STATUS_OK;
    TRY(read_blob(l, partition, blob, &taken_in));
    return documents_resume(&l->documents, partition, taken_in > offset ? taken_in : offset);
}

// Nothing but bad input so far: most likely another topic or --input-format was meant, so none of
// it counts as read.
static bool only_bad(const struct documents *d) {
    int64_t bad = 0;
    for (int i = 0; i < BAD_REASONS; i++) {
        bad += d->counts.bad[i];
    }
    return bad > 0 && d->counts.documents == 0 && d->counts.rows == 0;
}

void leader_tell_uncommitted(const struct leader *l) {
    if (l->source->table->commit == NULL || !only_bad(&l->documents)) return;
    LOG(WARN, "no document was good, so what was read is not committed: is it another topic or "
              "--input-format that is meant?");
}

// The place for a partition's next cut: of those that wait the first stays, and one more, so that a
// sink that confirms nothing before its end lets no list grow.
static enum status cut_of(struct leader *l, int32_t partition, struct pending_cut **cut) {
    bool waits = false;
    for (size_t i = 0; i < l->cut_count; i++) {
        if (l->cuts[i].partition != partition) continue;
        *cut = &l->cuts[i];
        if (waits) return STATUS_OK;
        waits = true;
    }
    TRY(room_for((void **)&l->cuts, &l->cut_room, l->cut_count + 1, sizeof *l->cuts));
    *cut = &l->cuts[l->cut_count++];
    return STATUS_OK;
}

// Note what could be committed now; it is once the results before it are safe.
enum status leader_note_cuts(struct leader *l) {
    if (only_bad(&l->documents)) return STATUS_OK;
    for (size_t i = l->documents.partition_turn; i < l->documents.partition_count; i++) {
        struct partition_state *partition = &l->documents.partitions[i];
        const int64_t offset = partition_safe_offset(partition);
        if (offset <= partition->committed_offset) continue;
        // A run before this one may have been further, and have settled tails up to there.
        const int64_t settled = partition->settled_offset;
        const int64_t taken_in =
            partition->next_offset > settled ? partition->next_offset : settled;
        struct pending_cut *cut = NULL;
        TRY(cut_of(l, partition->index, &cut));
        *cut = (struct pending_cut){.partition = partition->index,
                                    .offset = offset,
                                    .taken_in = taken_in,
                                    .results = l->documents.handed_over,
                                    .letters = l->letters_handed_over};
        partition->committed_offset = offset;
    }
    return STATUS_OK;
}

enum status leader_commit_cut(struct leader *l, const struct pending_cut *cut) {
    char blob[200];
    CHECK(l->source->table->commit != NULL); // or no cut would have been noted
    snprintf(blob, sizeof blob, "in=%lld;%s", (long long)cut->taken_in,
             l->settings->mark == NULL ? "" : l->settings->mark);
    return l->source->table->commit(l->source, cut->partition, cut->offset, blob);
}

static enum status commit_cuts(struct leader *l) {
    int64_t results = 0;
    int64_t letters = 0;
    size_t kept = 0;
    TRY(l->sink->table->confirmed(l->sink, &results));
    if (l->letters != NULL) TRY(l->letters->table->confirmed(l->letters, &letters));
    for (size_t i = 0; i < l->cut_count; i++) {
        if (l->cuts[i].results > results || l->cuts[i].letters > letters) {
            l->cuts[kept++] = l->cuts[i];
            continue;
        }
        TRY(leader_commit_cut(l, &l->cuts[i]));
    }
    l->cut_count = kept;
    return STATUS_OK;
}

// Each interval the sink is asked what is safe even if there is nothing to commit: then it writes
// what it has gathered, for those who wait for it.
enum status leader_keep_cuts(struct leader *l) {
    const int64_t now = clock_ms();
    const bool due = now >= l->next_commit_ms;
    if (due) l->next_commit_ms = now + l->settings->commit_interval_ms;
    if (due && l->source->table->commit != NULL) TRY(leader_note_cuts(l));
    return due || l->cut_count > 0 ? commit_cuts(l) : STATUS_OK;
}
