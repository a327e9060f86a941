#include "pipeline/steps.h"

#include "ops/base/check.h"
#include "ops/base/clock.h"
#include "ops/base/room.h"

#include <stdlib.h>
#include <string.h>

enum status work_drop(struct work *work, uint64_t key, int32_t rank) {
    TRY(room_for((void **)&work->drops, &work->drop_room, work->drop_count + 1,
                 sizeof *work->drops));
    work->drops[work->drop_count++] = (struct state_drop){key, rank};
    return STATUS_OK;
}

enum status steps_open(const struct plan_settings *settings, int64_t slots, struct comm *comm,
                       struct work *work, struct steps *s) {
    *s = (struct steps){.settings = *settings, .slots = slots, .comm = comm, .work = work};
    enum status status = STATUS_OK;
    TRY_OUT(status, plan_pins_open(settings->ranks, &s->pins));
    for (int i = 0; i < STEPS_AHEAD; i++) {
        s->flights[i].answers = calloc((size_t)settings->ranks, sizeof *s->flights[i].answers);
        if (s->flights[i].answers == NULL) {
            status = FAIL(NO_MEMORY, "answers of %d ranks", settings->ranks);
            goto out;
        }
    }
out:
    if (status != STATUS_OK) steps_close(s);
    return status;
}

void steps_close(struct steps *s) {
    for (int i = 0; i < STEPS_AHEAD; i++) {
        struct steps_flight *flight = &s->flights[i];
        for (int32_t rank = 0; flight->answers != NULL && rank < s->settings.ranks; rank++) {
            free(flight->answers[rank].data);
        }
        free(flight->answers);
        free(flight->item);
        free(flight->asked);
        free(flight->spans);
    }
    plan_free(&s->plan);
    plan_pins_close(&s->pins);
    free(s->front.waiting);
    free(s->front.candidate);
    *s = (struct steps){0};
}

// What of the plan is the rank's: its spans begin at `at`, as they are by rank.
static void count_for_rank(const struct steps *s, int32_t rank, int64_t at, struct step *step) {
    for (; at < s->plan.span_count && s->plan.spans[at].rank == rank; at++) {
        step->span_count++;
        step->rows += s->plan.spans[at].count;
    }
    for (int64_t i = 0; i < s->plan.move_count; i++) {
        step->move_count += s->plan.moves[i].from == rank || s->plan.moves[i].to == rank;
    }
    for (size_t i = 0; i < s->work->drop_count; i++) {
        step->drop_count += s->work->drops[i].rank == rank;
    }
}

static void fill_moves(const struct steps *s, int32_t rank, struct step_move *moves) {
    for (int64_t i = 0; i < s->plan.move_count; i++) {
        const struct plan_move *move = &s->plan.moves[i];
        const struct candidate *candidate = &s->front.candidate[move->document];
        if (move->from != rank && move->to != rank) continue;
        *moves++ = (struct step_move){.key = candidate->key,
                                      .source = candidate->source,
                                      .peer = move->from == rank ? move->to : move->from,
                                      .out = move->from == rank,
                                      .stays = candidate->stays};
    }
}

static void fill_drops(const struct steps *s, int32_t rank, uint64_t *drops) {
    for (size_t i = 0; i < s->work->drop_count; i++) {
        if (s->work->drops[i].rank == rank) *drops++ = s->work->drops[i].key;
    }
}

// One rank's message, of the spans from *at on. Spans are in the plan by rank, in the order of rows, so
// an item's tokens are taken in the order of their positions.
static enum status send_to_rank(struct steps *s, int32_t rank, int64_t *at) {
    struct steps_flight *flight = &s->flights[s->sent % STEPS_AHEAD];
    struct step step = {.number = s->sent};
    struct step_arrays arrays;
    struct message message;
    int64_t row = 0;
    count_for_rank(s, rank, *at, &step);
    TRY(step_make(&step, &message, &arrays));
    fill_moves(s, rank, arrays.moves);
    fill_drops(s, rank, arrays.drops);
    for (int64_t i = *at; i < *at + step.span_count; i++) {
        const struct plan_span *span = &s->plan.spans[i];
        const struct candidate *candidate = &s->front.candidate[span->document];
        struct step_span *out = &arrays.spans[i - *at];
        *out = (struct step_span){.key = candidate->key,
                                  .source = candidate->source,
                                  .first = span->first,
                                  .count = span->count,
                                  .from = (int32_t)span->from,
                                  .to = (int32_t)span->to,
                                  .stays = span->from == FROM_SLOT && candidate->stays};
        s->work->table->take(s->work, candidate->item, span, out, arrays.token + row);
        flight->asked[i] = out->asked;
        row += span->count;
        s->counts.hand_overs += span->to == TO_RIGHT;
    }
    *at += step.span_count;
    message.peer = rank;
    return comm_send(s->comm, &message);
}

static enum status remember_flight(struct steps *s, struct steps_flight *flight) {
    const size_t spans = (size_t)s->plan.span_count;
    TRY(room_for((void **)&flight->item, &flight->item_room, spans, sizeof *flight->item));
    TRY(room_for((void **)&flight->asked, &flight->asked_room, spans, sizeof *flight->asked));
    TRY(room_for((void **)&flight->spans, &flight->spans_room, spans, sizeof *flight->spans));
    memcpy(flight->spans, s->plan.spans, spans * sizeof *flight->spans);
    for (size_t i = 0; i < spans; i++) {
        flight->item[i] = s->front.candidate[flight->spans[i].document].item;
    }
    flight->span_count = (int64_t)spans;
    flight->number = s->sent;
    flight->answered = 0;
    return STATUS_OK;
}

enum status steps_plan(struct steps *s) {
    TRY(s->work->table->gather(s->work, &s->settings, &s->front));
    TRY(plan_build_in_slots(s->front.waiting, s->front.count, &s->settings, s->slots, &s->pins,
                            &s->plan));
    if (s->plan.span_count > 0) return STATUS_OK;
    return FAIL(UNEXPECTED, "%lld are ready and none can be planned", (long long)s->front.count);
}

enum status steps_send(struct steps *s) {
    TRY(remember_flight(s, &s->flights[s->sent % STEPS_AHEAD]));
    int64_t at = 0;
    for (int32_t rank = 0; rank < s->settings.ranks; rank++) {
        TRY(send_to_rank(s, rank, &at));
    }
    CHECK(at == s->plan.span_count);
    s->work->drop_count = 0;
    TRY(s->work->table->taken(s->work, &s->front, &s->plan));
    s->sent++;
    s->counts.steps++;
    s->counts.moves += s->plan.move_count;
    return STATUS_OK;
}

// While a step runs the next one is only sent when it is full: what arrives meanwhile makes it fuller.
enum status steps_send_next(struct steps *s, bool *busy) {
    const uint64_t ahead = s->sent - s->landed;
    if (ahead >= STEPS_AHEAD) return STATUS_OK;
    const int64_t full = s->settings.step_tokens * s->settings.ranks;
    if (s->work->table->ready_tokens(s->work) < (ahead > 0 ? full : 1)) return STATUS_OK;

    const int64_t begin_ns = clock_ns();
    if (s->sent == 0) s->first_step_ns = begin_ns;
    TRY(steps_plan(s));
    TRY(steps_send(s));
    s->counts.plan_ns += clock_ns() - begin_ns;
    *busy = true;
    return STATUS_OK;
}

static enum status short_answer(const struct steps_flight *flight, int32_t rank,
                                const struct step_result *result) {
    return FAIL(PEER, "rank %d answered %lld rows, %lld of them asked, to step %llu", rank,
                (long long)result->rows, (long long)result->asked,
                (unsigned long long)flight->number);
}

// Hand the step's answers out, in the order of the plan, which is each item's of positions.
static enum status land(struct steps *s, struct steps_flight *flight) {
    int64_t i = 0;
    for (int32_t rank = 0; rank < s->settings.ranks; rank++) {
        struct step_result result;
        int64_t row = 0, asked = 0;
        TRY(step_result_read(&flight->answers[rank], &result));
        for (; i < flight->span_count && flight->spans[i].rank == rank; i++) {
            const struct plan_span *span = &flight->spans[i];
            const struct span_answer answer = {
                .nll = result.nll + row, .best = result.best + asked, .asked = flight->asked[i]};
            if (span->count > result.rows - row || answer.asked > result.asked - asked) {
                return short_answer(flight, rank, &result);
            }
            TRY(s->work->table->answer(s->work, flight->item[i], span, &answer));
            row += span->count;
            asked += answer.asked;
        }
        free(flight->answers[rank].data);
        flight->answers[rank] = (struct message){0};
    }
    s->landed++;
    s->counts.run_ns = clock_ns() - s->first_step_ns;
    return STATUS_OK;
}

enum status steps_take_answers(struct steps *s, int32_t timeout_ms, bool *busy) {
    while (s->landed < s->sent) {
        struct message message = {.kind = MESSAGE_RESULT};
        struct step_result result;
        enum status status = comm_next(s->comm, MESSAGE_RESULT, timeout_ms, &message);
        if (status == STATUS_AGAIN) return STATUS_OK;
        if (status != STATUS_OK) return status;
        *busy = true;
        timeout_ms = 0;
        status = step_result_read(&message, &result);
        struct steps_flight *flight = &s->flights[result.number % STEPS_AHEAD];
        if (status != STATUS_OK || result.number < s->landed || result.number >= s->sent ||
            message.peer < 0 || message.peer >= s->settings.ranks ||
            flight->answers[message.peer].data != NULL) {
            free(message.data);
            return FAIL(PEER, "rank %d sent an answer nobody asked for", message.peer);
        }
        flight->answers[message.peer] = message;
        flight->answered++;
        flight = &s->flights[s->landed % STEPS_AHEAD];
        while (s->landed < s->sent && flight->answered == s->settings.ranks) {
            TRY(land(s, flight));
            flight = &s->flights[s->landed % STEPS_AHEAD];
        }
    }
    return STATUS_OK;
}

int64_t steps_under_way(const struct steps *s) {
    int64_t tokens = 0;
    for (uint64_t number = s->landed; number < s->sent; number++) {
        const struct steps_flight *flight = &s->flights[number % STEPS_AHEAD];
        for (int64_t i = 0; i < flight->span_count; i++) {
            tokens += flight->spans[i].count;
        }
    }
    return tokens;
}

enum status steps_stop(struct steps *s) {
    s->plan.span_count = s->plan.move_count = 0;
    for (int32_t rank = 0; rank < s->settings.ranks; rank++) {
        struct step stop = {.number = s->sent, .stop = true};
        struct step_arrays arrays;
        struct message message;
        count_for_rank(s, rank, 0, &stop);
        TRY(step_make(&stop, &message, &arrays));
        fill_drops(s, rank, arrays.drops);
        message.peer = rank;
        TRY(comm_send(s->comm, &message));
    }
    return STATUS_OK;
}
