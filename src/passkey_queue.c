// Samples from a topic and results into one, over a member of a consumer group and a producer.

#include "src/passkey_queue.h"

#include "src/kafka_options.h"

#ifdef LONGSCAN_WITH_KAFKA

#    include "ops/base/check.h"
#    include "ops/base/clock.h"
#    include "ops/base/room.h"
#    include "pipeline/kafka_member.h"
#    include "pipeline/kafka_producer.h"
#    include "pipeline/kafka_sink.h"
#    include "pipeline/letter_file.h"

#    include <inttypes.h>
#    include <stdio.h>
#    include <stdlib.h>
#    include <string.h>

#    define TOLD_MOST    10  // bad messages that are told one by one
#    define USELESS_MOST 100 // bad ones before the first good one, and it is another topic
#    define LETTER_WRONG 240

// Places in the order in which something was sent for them.
struct places {
    struct passkey_place *place; // [first, count)
    size_t room, first, count;
    int64_t settled; // how many were taken out in all
};

struct passkey_queue {
    const struct settings *settings;
    char *task;                      // an object
    struct kafka_member *member;     // NULL: samples come from elsewhere
    struct kafka_producer *producer; // NULL: results go elsewhere
    struct sink *letters;            // NULL: nobody wants them
    struct places sent, lettered;    // not acknowledged yet
    struct places held;              // bad ones before the first result
    struct passkey_queue_counts counts;
    int64_t answered; // results, whereever they went
    int64_t committed_ms;
};

static enum status places_add(struct places *places, const struct passkey_place *place) {
    void *all = places->place;
    TRY(room_for(&all, &places->room, places->count + 1, sizeof *places->place));
    places->place = all;
    places->place[places->count++] = *place;
    return STATUS_OK;
}

static const struct passkey_place *places_next(struct places *places) {
    const struct passkey_place *next = &places->place[places->first++];
    places->settled++;
    return next;
}

static bool places_any(const struct places *places) {
    return places->first < places->count;
}

// Once all are taken out the room is used again; until then a place is 24 bytes.
static void places_close_up(struct places *places) {
    if (places->first < places->count - places->first) return;
    places->count -= places->first;
    if (places->count > 0) {
        memmove(places->place, places->place + places->first,
                places->count * sizeof *places->place);
    }
    places->first = 0;
}

static enum status open_member(struct passkey_queue *queue) {
    const struct settings *settings = queue->settings;
    struct kafka_member_settings member = {
        .kafka = kafka_options_for(settings, "--input", kafka_options_topic(settings->input)),
        .group_id = settings->job,
        .value_most = PASSKEY_MESSAGE_MOST};
    TRY(kafka_options_until(settings->until, &member.follow, &member.idle_ms));
    return kafka_member_open(&member, &queue->member);
}

static enum status open_letters(struct passkey_queue *queue) {
    const struct settings *settings = queue->settings;
    const char *topic = kafka_options_topic(settings->dead_letters);
    if (settings->dead_letters == NULL) return STATUS_OK;
    if (topic == NULL) return letter_file_open(settings->dead_letters, &queue->letters);
    const struct kafka_settings kafka = kafka_options_for(settings, "--dead-letters", topic);
    return kafka_letters_open(&kafka, true, &queue->letters);
}

static enum status open_all(struct passkey_queue *queue, const char *task) {
    const struct settings *settings = queue->settings;
    const size_t bytes = strlen(task) + 3;
    queue->task = malloc(bytes);
    if (queue->task == NULL) return FAIL(NO_MEMORY, "a task of %zu bytes", bytes);
    snprintf(queue->task, bytes, "{%s}", task);
    queue->committed_ms = clock_ms();
    if (passkey_queue_output(settings)) {
        const struct kafka_settings kafka =
            kafka_options_for(settings, "--output", kafka_options_topic(settings->output));
        TRY(kafka_producer_open(&kafka, &queue->producer));
    }
    if (!passkey_queue_input(settings)) return STATUS_OK;
    TRY(open_letters(queue));
    return open_member(queue); // last: from here on the group counts on us
}

enum status passkey_queue_open(const struct settings *settings, const char *task,
                               struct passkey_queue **opened) {
    struct passkey_queue *queue = calloc(1, sizeof *queue);
    if (queue == NULL) return FAIL(NO_MEMORY, "a queue of samples");
    queue->settings = settings;
    const enum status status = open_all(queue, task);
    if (status != STATUS_OK) {
        (void)!passkey_queue_close(queue, false);
        return status;
    }
    *opened = queue;
    return STATUS_OK;
}

static void answer(struct passkey_queue *queue, const struct passkey_place *place) {
    if (place->term == 0) return;
    if (!kafka_member_answer(queue->member, place->partition, place->offset, place->term)) {
        queue->counts.again++;
    }
}

// What is acknowledged is answered. Bad messages are so only once there has been a result: a job with
// the wrong topic, or the wrong task, must not take messages from those who share it.
static enum status settle(struct passkey_queue *queue) {
    int64_t results = 0, letters = 0;
    if (queue->producer != NULL) TRY(kafka_producer_confirmed(queue->producer, &results));
    while (places_any(&queue->sent) && queue->sent.settled < results) {
        answer(queue, places_next(&queue->sent));
    }
    if (places_any(&queue->lettered)) {
        TRY(queue->letters->table->confirmed(queue->letters, &letters));
    }
    while (places_any(&queue->lettered) && queue->lettered.settled < letters) {
        TRY(places_add(&queue->held, places_next(&queue->lettered)));
    }
    while (queue->answered > 0 && places_any(&queue->held)) {
        answer(queue, places_next(&queue->held));
    }
    places_close_up(&queue->sent);
    places_close_up(&queue->lettered);
    places_close_up(&queue->held);
    return STATUS_OK;
}

static enum status write_letter(struct passkey_queue *queue, const struct passkey_place *place,
                                const char *id, const char *wrong, const void *value,
                                size_t value_bytes) {
    char reason[LETTER_WRONG];
    CHECK(place != NULL);
    snprintf(reason, sizeof reason, "description: %s", wrong);
    const struct dead_letter letter = {.id = id,
                                       .id_bytes = id == NULL ? 0 : strlen(id),
                                       .reason = reason,
                                       .topic = kafka_options_topic(queue->settings->input),
                                       .partition = place->partition,
                                       .offset = place->offset,
                                       .record = value,
                                       .record_bytes = value == NULL ? 0 : value_bytes,
                                       .message_bytes = (int64_t)value_bytes};
    TRY(queue->letters->table->letter(queue->letters, &letter));
    return places_add(&queue->lettered, place);
}

static enum status take_bad(struct passkey_queue *queue, const struct passkey_place *place,
                            const char *id, const char *wrong, const void *value,
                            size_t value_bytes) {
    const char *topic = kafka_options_topic(queue->settings->input);
    queue->counts.bad++;
    if (queue->counts.bad <= TOLD_MOST) {
        LOG(WARN, "topic %s [%" PRId32 "] offset %" PRId64 " is left out: %s%s", topic,
            place->partition, place->offset, wrong,
            queue->counts.bad == TOLD_MOST ? "; more of the kind are only counted" : "");
    }
    TRY(queue->letters == NULL ? places_add(&queue->held, place)
                               : write_letter(queue, place, id, wrong, value, value_bytes));
    if (queue->counts.bad == queue->counts.taken && queue->counts.bad >= USELESS_MOST) {
        return FAIL(BAD_INPUT,
                    "topic %s: the first %d messages are no samples of this task, the last one "
                    "because %s; nothing of them is committed: was another topic or another task "
                    "meant?",
                    topic, USELESS_MOST, wrong);
    }
    return STATUS_OK;
}

// *taken: it is a description.
static enum status take_message(struct passkey_queue *queue,
                                const struct kafka_member_message *message,
                                struct passkey_description *description, bool *taken) {
    struct passkey_wrong wrong = {"there is no value"};
    description->place = (struct passkey_place){
        .partition = message->partition, .offset = message->offset, .term = message->term};
    queue->counts.taken++;
    if (message->value_bytes > PASSKEY_MESSAGE_MOST) {
        snprintf(wrong.text, sizeof wrong.text, "%zu bytes are too many", message->value_bytes);
    }
    *taken = message->value != NULL &&
             passkey_description_read(message->value, message->value_bytes, queue->task,
                                      (uint64_t)queue->settings->seed, description, &wrong);
    if (*taken) return STATUS_OK;
    return take_bad(queue, &description->place, NULL, wrong.text, message->value,
                    message->value_bytes);
}

enum status passkey_queue_take(struct passkey_queue *queue, int64_t most, int32_t timeout_ms,
                               struct passkey_description *taken, int64_t *count) {
    const int64_t until_ms = clock_ms() + timeout_ms;
    struct kafka_member_message message;
    *count = 0;
    if (queue->member == NULL) return STATUS_END;
    while (*count < most) {
        const int64_t left_ms = until_ms - clock_ms();
        bool good = false;
        const enum status status = kafka_member_next(
            queue->member, *count > 0 || left_ms < 0 ? 0 : (int32_t)left_ms, &message);
        if (status != STATUS_OK) {
            // a failure comes again with the next call
            return *count > 0 && (status == STATUS_AGAIN || status == STATUS_END) ? STATUS_OK
                                                                                  : status;
        }
        TRY(take_message(queue, &message, &taken[*count], &good));
        if (good) ++*count;
    }
    return STATUS_OK;
}

enum status passkey_queue_result(struct passkey_queue *queue, const struct passkey_place *place,
                                 const char *id, const char *line, size_t bytes) {
    const struct passkey_place nowhere = {0};
    if (place == NULL) place = &nowhere;
    queue->answered++;
    if (queue->producer == NULL) {
        answer(queue, place);
        return STATUS_OK;
    }
    const struct kafka_outgoing message = {.key = id,
                                           .key_bytes = strlen(id),
                                           .value = line,
                                           .value_bytes = bytes,
                                           .type = KAFKA_UNKNOWN,
                                           .source_time_ms = -1,
                                           .ends_unit = true};
    TRY(kafka_producer_send(queue->producer, &message));
    queue->counts.results++;
    return places_add(&queue->sent, place);
}

enum status passkey_queue_bad(struct passkey_queue *queue,
                              const struct passkey_description *description, const char *wrong) {
    return take_bad(queue, &description->place, description->id, wrong, NULL, 0);
}

enum status passkey_queue_commit(struct passkey_queue *queue) {
    TRY(settle(queue));
    if (queue->member == NULL ||
        clock_ms() - queue->committed_ms < queue->settings->commit_interval_ms) {
        return STATUS_OK;
    }
    queue->committed_ms = clock_ms();
    return kafka_member_commit(queue->member);
}

void passkey_queue_counts(const struct passkey_queue *queue, struct passkey_queue_counts *counts) {
    *counts = queue->counts;
}

// A file of letters is confirmed once it has its name.
static enum status finish_letters(struct passkey_queue *queue, bool complete) {
    if (queue->letters == NULL) return STATUS_OK;
    const enum status status = queue->letters->table->close(queue->letters, complete);
    queue->letters = NULL;
    while (status == STATUS_OK && places_any(&queue->lettered)) {
        TRY(places_add(&queue->held, places_next(&queue->lettered)));
    }
    return status;
}

static enum status finish(struct passkey_queue *queue) {
    if (queue->producer != NULL) TRY(kafka_producer_flush(queue->producer));
    TRY(finish_letters(queue, true));
    TRY(settle(queue));
    if (queue->member != NULL) TRY(kafka_member_commit_wait(queue->member));
    const struct passkey_queue_counts *counts = &queue->counts;
    if ((double)counts->bad > queue->settings->max_bad * (double)counts->taken) {
        return FAIL(BAD_INPUT,
                    "topic %s: %" PRId64 " of %" PRId64 " messages are no samples of this task, "
                    "more than --max-bad %g%%",
                    kafka_options_topic(queue->settings->input), counts->bad, counts->taken,
                    100.0 * queue->settings->max_bad);
    }
    return STATUS_OK;
}

enum status passkey_queue_close(struct passkey_queue *queue, bool complete) {
    if (queue == NULL) return STATUS_OK;
    const enum status status = complete ? finish(queue) : STATUS_OK;
    (void)!finish_letters(queue, false);
    kafka_member_close(queue->member);
    kafka_producer_close(queue->producer);
    free(queue->sent.place);
    free(queue->lettered.place);
    free(queue->held.place);
    free(queue->task);
    free(queue);
    return status;
}

#endif
