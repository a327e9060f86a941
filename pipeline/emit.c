// What leaves the leader: pieces of long results as they arise, results when their document is
// done. Ordered (files): partition after partition, document after document, as they came in.
// Otherwise (streams): whoever is done.

#include "pipeline/documents_inner.h"

#include <stdlib.h>

static enum status emit_withdrawals(struct documents *d, struct sink *sink) {
    while (d->withdrawn != NULL) {
        struct withdrawal *first = d->withdrawn;
        TRY(sink->table->retract(sink, &first->retraction));
        d->handed_over++;
        d->withdrawn = first->next;
        free(first);
    }
    return STATUS_OK;
}

// An older version that was longer left windows and pieces behind the end of this one. Its pieces
// before that end stand too where this one's arrays are in its result, which comes behind this.
static enum status retract_older(struct documents *d, const struct document *doc,
                                 const struct document_score *score, struct sink *sink) {
    const struct tally_settings *settings = &d->settings.tally;
    const bool windows = settings->score_every > 0;
    const int64_t origin = d->settings.bos >= 0 ? 0 : 1;
    if (doc->serial != 0 || doc->version == 0) return STATUS_OK;
    if (!windows && !settings->token_nll) return STATUS_OK;
    const int64_t older =
        closed_length(&documents_partition_with(d, doc)->closed, doc->id, doc->id_bytes);
    if (older <= score->tokens) return STATUS_OK;
    const int64_t end = score->scored > 0 ? score->tokens : 0;
    const bool in_pieces = doc->tally.in_pieces;
    const struct retraction left = {
        .partition = doc->partition,
        .id = doc->id,
        .id_bytes = doc->id_bytes,
        .older = true,
        .windows_first = windows && (in_pieces || settings->windows_apart) ? end : 0,
        .windows_end = windows ? older : 0,
        .nll_origin = origin,
        .nll_first = settings->token_nll && in_pieces ? end : origin,
        .nll_end = settings->token_nll ? older : origin,
    };
    TRY(sink->table->retract(sink, &left));
    d->handed_over++;
    return STATUS_OK;
}

static enum status emit_pieces(struct documents *d, struct document *doc, struct sink *sink) {
    struct document_piece piece;
    while (tally_piece(&doc->tally, document_done(doc), &piece)) {
        piece.partition = doc->partition;
        piece.id = doc->id;
        piece.id_bytes = doc->id_bytes;
        piece.version = doc->version;
        piece.time_ms = doc->time_ms;
        TRY(sink->table->piece(sink, &piece));
        d->handed_over++;
        tally_drop_piece(&doc->tally, &piece);
    }
    return STATUS_OK;
}

static enum status emit_score(struct documents *d, const struct document *doc, struct sink *sink) {
    const int64_t lead = d->settings.bos >= 0 ? 1 : 0;
    const struct tally *tally = &doc->tally;
    const bool windows =
        d->settings.tally.score_every > 0 && !tally->in_pieces && !d->settings.tally.windows_apart;
    const bool token_nll = d->settings.tally.token_nll && !tally->in_pieces;
    static const struct window_score no_window;
    static const float no_nll;
    const struct document_score score = {
        .partition = doc->partition,
        .id = doc->id,
        .id_bytes = doc->id_bytes,
        .version = doc->version,
        .tokens = doc->known - lead,
        .scored = tally->scored,
        .nll = tally->nll,
        .text_bytes = doc->text_bytes,
        .time_ms = doc->time_ms,
        .attributes = doc->id + doc->id_bytes,
        .attributes_bytes = doc->attributes_bytes,
        .windows = !windows                 ? NULL
                   : tally->windows != NULL ? tally->windows
                                            : &no_window,
        .window_count = windows ? (int64_t)tally->window_count : 0,
        .token_nll_first = tally->nll_first > 0 ? tally->nll_first : 1 - lead,
        .token_nll = !token_nll                 ? NULL
                     : tally->token_nll != NULL ? tally->token_nll
                                                : &no_nll,
        .token_nll_count = token_nll ? (int64_t)tally->nll_count : 0,
        .truncated = doc->truncated,
    };
    TRY(retract_older(d, doc, &score, sink));
    TRY(sink->table->score(sink, &score));
    d->handed_over++;
    d->counts.documents++;
    d->counts.tokens += score.tokens;
    d->counts.scored += score.scored;
    d->counts.nll += score.nll;
    if (score.text_bytes > 0) {
        d->counts.text_bytes += score.text_bytes;
        d->counts.text_nll += score.nll;
    }
    return STATUS_OK;
}

static enum status emit_document(struct documents *d, struct document *doc, struct sink *sink) {
    TRY(emit_pieces(d, doc, sink));
    if (!document_done(doc)) return STATUS_OK;
    TRY(emit_score(d, doc, sink));
    TRY(documents_remember(d, doc));
    documents_forget(d, doc);
    return STATUS_OK;
}

static enum status finish_partition(struct partition_state *partition, struct sink *sink) {
    if (!partition->ended || partition->finished || partition->first != NULL) return STATUS_OK;
    partition->finished = true;
    return sink->table->finish(sink, partition->index);
}

static enum status emit_in_order(struct documents *d, struct sink *sink) {
    while (d->partition_turn < d->partition_count) {
        struct partition_state *partition = &d->partitions[d->partition_turn];
        while (partition->first != NULL && document_done(partition->first)) {
            TRY(emit_document(d, partition->first, sink));
        }
        if (partition->first != NULL) return emit_pieces(d, partition->first, sink);
        TRY(finish_partition(partition, sink));
        if (!partition->finished) return STATUS_OK;
        d->partition_turn++;
    }
    return STATUS_OK;
}

enum status documents_emit(struct documents *d, struct sink *sink) {
    TRY(emit_withdrawals(d, sink));
    if (d->settings.ordered) return emit_in_order(d, sink);
    while (d->touched != NULL) {
        struct document *doc = d->touched;
        d->touched = doc->next_touched;
        doc->touched = false;
        TRY(emit_document(d, doc, sink));
    }
    for (size_t i = 0; i < d->partition_count; i++) {
        TRY(finish_partition(&d->partitions[i], sink));
    }
    return STATUS_OK;
}
