// What becomes of documents that cannot be used: they die, what went out of them is taken back, a
// dead letter says why, and their id is remembered so that the rest of them is swallowed.
#include "ops/base/room.h"
#include "pipeline/documents_inner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOLD_MOST 10 // bad documents of a reason that the log tells of

const char *bad_reason_key(enum bad_reason reason) {
    static const char *const keys[BAD_REASONS] = {[BAD_RECORD] = "record",
                                                  [BAD_GAP] = "gap",
                                                  [BAD_TOKEN] = "token",
                                                  [BAD_NLL] = "nll",
                                                  [BAD_FILE] = "file"};
    return keys[reason];
}

enum status documents_withdraw(struct documents *d, const struct document *doc) {
    const struct tally *tally = &doc->tally;
    const int64_t origin = tally->first_scored < 0 ? 0 : tally->first_scored;
    const bool nlls = tally->nll_first > origin;
    if (tally->windows_out == 0 && !nlls) return STATUS_OK;
    struct withdrawal *added = malloc(sizeof *added + doc->id_bytes);
    if (added == NULL) return FAIL(NO_MEMORY, "a retraction");
    memcpy(added + 1, doc->id, doc->id_bytes);
    *added = (struct withdrawal){
        .next = d->withdrawn,
        .retraction = {.partition = doc->partition,
                       .id = (const char *)(added + 1),
                       .id_bytes = doc->id_bytes,
                       .windows_end = tally->windows_out,
                       .nll_origin = origin,
                       .nll_first = origin,
                       .nll_end = nlls ? tally->nll_first : origin}
    };
    d->withdrawn = added;
    return STATUS_OK;
}

enum status documents_kill(struct documents *d, struct document *doc) {
    bool closes = false;
    TRY(documents_withdraw(d, doc));
    d->ready_tokens -= document_ready(doc, &closes);
    documents_unqueue(d, doc);
    documents_untouch(d, doc);
    doc->dead = true;
    if (doc->listed) documents_unlist(d, doc);
    d->held_bytes -= tally_bytes(&doc->tally);
    tally_free(&doc->tally);
    document_free_tokens(doc);
    if (doc->holder >= 0) {
        TRY(work_drop(&d->work, doc->key, doc->holder));
        doc->holder = -1;
    }
    if (doc->answered == doc->planned) documents_forget(d, doc);
    return STATUS_OK;
}

static const char *origin(const struct documents *d, int32_t partition) {
    struct source *source = d->settings.source;
    return source == NULL ? NULL : source->table->origin(source, partition);
}

// Counts it, tells of the first few, and leaves a letter.
static enum status tell(struct documents *d, enum bad_reason reason,
                        const struct letter_facts *facts) {
    const int64_t count = ++d->counts.bad[reason];
    if (count <= TOLD_MOST) {
        char place[320] = "";
        if (!d->settings.ordered && facts->origin != NULL) { // files say the line themselves
            snprintf(place, sizeof place, "topic %s [%d] offset %lld, ", facts->origin,
                     (int)facts->partition, (long long)facts->offset);
        }
        LOG(WARN, "%s%s%.*s: %s", place, facts->id_bytes > 0 ? "document " : "no document",
            (int)facts->id_bytes, facts->id, facts->words);
        if (count == TOLD_MOST) LOG(WARN, "more that are bad like this are only counted");
    }
    return d->settings.letters ? letters_add(&d->letters, facts) : STATUS_OK;
}

// No more of this document is to be taken in.
static enum status remember_dead(struct partition_state *partition, uint64_t serial, const char *id,
                                 size_t id_bytes, uint64_t version) {
    if (serial != 0) {
        partition->dead_serial = serial;
        return STATUS_OK;
    }
    return closed_remember(&partition->closed, id, id_bytes, version, CLOSED_DEAD);
}

static enum status tell_record(struct documents *d, const struct document *doc,
                               const struct record *record, enum bad_reason reason,
                               const char *words) {
    const int64_t lead = d->settings.bos >= 0 ? 1 : 0;
    const struct letter_facts facts = {.key = bad_reason_key(reason),
                                       .words = words,
                                       .id = record->id,
                                       .id_bytes = record->id_bytes,
                                       .origin = origin(d, record->partition),
                                       .partition = record->partition,
                                       .offset = record->offset,
                                       .expected_first = doc == NULL ? 0 : doc->known - lead,
                                       .found_first = record->first,
                                       .message = record->message,
                                       .message_bytes = record->message_bytes};
    return tell(d, reason, &facts);
}

enum status documents_bad_record(struct documents *d, struct document *doc,
                                 const struct record *record, enum bad_reason reason,
                                 const char *words) {
    // Of a record that does not even say where it belongs, the document may yet come whole.
    const bool more = !record->last && (doc != NULL || record->first >= 0) &&
                      (record->serial != 0 || record->id_bytes > 0);
    TRY(tell_record(d, doc, record, reason, words));
    if (more) {
        struct partition_state *partition = NULL;
        const bool older = doc != NULL && doc->version > record->version; // it may not say
        TRY(documents_partition(d, record->partition, &partition));
        TRY(remember_dead(partition, record->serial, record->id, record->id_bytes,
                          older ? doc->version : record->version));
    }
    return doc == NULL ? STATUS_OK : documents_kill(d, doc);
}

enum status documents_bad_nll(struct documents *d, struct document *doc) {
    char words[128];
    const int64_t lead = d->settings.bos >= 0 ? 1 : 0;
    snprintf(
        words, sizeof words,
        "the model gives a number that is not finite before position %lld; the document is bad",
        (long long)(doc->answered - lead));
    const struct letter_facts facts = {.key = bad_reason_key(BAD_NLL),
                                       .words = words,
                                       .id = doc->id,
                                       .id_bytes = doc->id_bytes,
                                       .origin = origin(d, doc->partition),
                                       .partition = doc->partition,
                                       .offset = doc->last_offset,
                                       .expected_first = doc->known - lead,
                                       .found_first = doc->answered - lead};
    struct partition_state *partition = documents_partition_with(d, doc);
    TRY(tell(d, BAD_NLL, &facts));
    if (doc->closed) {
        TRY(documents_remember(d, doc)); // it would be no better the second time
    } else {
        TRY(remember_dead(partition, doc->serial, doc->id, doc->id_bytes, doc->version));
    }
    return documents_kill(d, doc);
}

// Of a document that is all known, or that a newer version has replaced? A record that cannot be
// read at all (first is -1) does not say its version.
static bool is_past(const struct partition_state *partition, const struct document *doc,
                    const struct record *record) {
    if (doc != NULL) {
        return (doc->closed && record->version <= doc->version) ||
               (record->first >= 0 && record->version < doc->version);
    }
    const struct closed_document *before =
        closed_find(&partition->closed, record->id, record->id_bytes);
    return record->first >= 0 && before != NULL && record->version <= before->version;
}

enum status documents_fault(struct documents *d, struct partition_state *partition,
                            const struct record *record) {
    const bool named = record->serial != 0 || record->id_bytes > 0;
    struct document *doc = named ? documents_find(d, record) : NULL;
    const enum bad_reason reason = record->serial != 0 && record->last ? BAD_FILE : BAD_RECORD;
    if (record->serial == 0 && named) {
        if (record->first >= 0 && documents_swallow(d, partition, record)) return STATUS_OK;
        if (is_past(partition, doc, record)) {
            return tell_record(d, NULL, record, reason, record->fault);
        }
    }
    return documents_bad_record(d, doc, record, reason, record->fault);
}

bool documents_swallow(struct documents *d, struct partition_state *partition,
                       const struct record *record) {
    if (record->serial != 0) {
        const bool dead = record->serial == partition->dead_serial;
        d->counts.swallowed += dead;
        return dead;
    }
    struct closed_document *before = closed_find(&partition->closed, record->id, record->id_bytes);
    if (before == NULL || before->tokens != CLOSED_DEAD || record->version > before->version) {
        return false;
    }
    d->counts.swallowed++;
    before->revived = record->last && record->version == before->version;
    return true;
}
