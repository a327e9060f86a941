// Open documents as the steps take them.
#include "ops/base/check.h"
#include "ops/base/room.h"
#include "pipeline/documents.h"

#define FETCH_AHEAD 16 // documents; a step may have thousands, which lie all over the memory

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

// What is asked for soon is on its way meanwhile.
static void fetch(const struct document *doc) {
    if (doc == NULL) return;
    __builtin_prefetch(&doc->token);
    __builtin_prefetch(&doc->queued);
}

static int64_t ready_tokens(const struct work *work) {
    return ((const struct documents *)work)->ready_tokens;
}

// The front of the ready queue. More than could possibly be served is not looked at.
static enum status gather(struct work *work, const struct plan_settings *settings,
                          struct front *front) {
    const struct documents *d = (const struct documents *)work;
    const int64_t room = least(d->ready_documents, settings->spans_most * settings->ranks);
    const int64_t most = 4 * settings->step_tokens * settings->ranks;
    int64_t tokens = 0, n = 0;
    TRY(room_for((void **)&front->waiting, &front->waiting_room, (size_t)room,
                 sizeof *front->waiting));
    TRY(room_for((void **)&front->candidate, &front->candidate_room, (size_t)room,
                 sizeof *front->candidate));
    for (; n < room && tokens < most; n++) {
        struct document *doc = documents_ready_at(d, n);
        bool closes = false;
        fetch(documents_ready_at(d, n + FETCH_AHEAD));
        const int64_t ready = document_ready(doc, &closes);
        front->candidate[n] = (struct candidate){.item = doc, .key = doc->key, .source = doc->key};
        front->waiting[n] = (struct plan_document){
            .first = doc->planned, .ready = ready, .closes = closes, .holder = doc->holder};
        tokens += least(ready, CHUNK_TOKENS); // each gets a chunk before more
    }
    front->count = n;
    return STATUS_OK;
}

static void take(struct work *work, void *item, const struct plan_span *span, struct step_span *out,
                 int32_t *token) {
    struct document *doc = item;
    CHECK(span->first == doc->planned);
    documents_take((struct documents *)work, doc, span->count, token, &out->lookahead);
    doc->holder = span->to == TO_NOWHERE ? -1 : span->rank;
}

static enum status taken(struct work *work, const struct front *front, const struct plan *plan) {
    struct documents *d = (struct documents *)work;
    size_t served = 0;
    TRY(room_for((void **)&d->served, &d->served_room, (size_t)plan->span_count,
                 sizeof(struct document *)));
    for (int64_t i = 0; i < plan->span_count; i++) {
        if (plan->spans[i].to == TO_RIGHT) continue; // once a document
        d->served[served++] = front->candidate[plan->spans[i].document].item;
    }
    documents_requeue(d, d->served, served);
    return STATUS_OK;
}

static enum status answer(struct work *work, void *item, const struct plan_span *span,
                          const struct span_answer *answer) {
    return documents_answer((struct documents *)work, item, span->first, answer->nll, span->count);
}

const struct work_table documents_work_table = {
    .ready_tokens = ready_tokens, .gather = gather, .take = take, .taken = taken, .answer = answer};
