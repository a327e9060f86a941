// Where samples come from: the task's grid, or the messages of a topic.
#include "src/passkey_feed.h"

#include "ops/base/room.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define TAKEN_MOST 4096 // messages of a batch

static struct passkey_job *job_of(const struct passkey_listing *listing) {
    return (struct passkey_job *)(void *)(uintptr_t)listing; // its first member
}

static void sample_of_grid(const struct passkey_listing *listing, int64_t index,
                           struct passkey_sample *sample) {
    passkey_task_sample(listing->task, index, sample);
}

static void sample_of_queue(const struct passkey_listing *listing, int64_t index,
                            struct passkey_sample *sample) {
    *sample = job_of(listing)->described[index].sample;
}

void passkey_feed_listing(struct passkey_job *job) {
    const bool queue = passkey_queue_input(job->settings);
    job->listing = (struct passkey_listing){.task = job->task,
                                            .sample = queue ? sample_of_queue : sample_of_grid};
}

// Samples that no run before this one has answered.
static enum status list_samples(struct passkey_job *job) {
    const int64_t count = passkey_task_count(job->task);
    int64_t known = 0;
    job->index = calloc(count > 0 ? (size_t)count : 1, sizeof *job->index);
    if (job->index == NULL) return FAIL(NO_MEMORY, "%" PRId64 " samples", count);
    for (int64_t i = 0; i < count; i++) {
        struct passkey_sample sample;
        const struct passkey_result *found = NULL;
        passkey_task_sample(job->task, i, &sample);
        if (job->store != NULL) found = passkey_store_find(job->store, sample.id);
        if (found == NULL) {
            job->index[job->samples++] = i;
        } else if (strcmp(found->sample.key, sample.key) != 0 ||
                   found->sample.position != sample.position ||
                   found->sample.length != sample.length) {
            return FAIL(MISMATCH,
                        "--resume: sample %s was of another grid: the same --lengths, "
                        "--depths and --samples go on with it",
                        sample.id);
        } else {
            known++;
        }
    }
    if (job->store != NULL && known != passkey_store_found(job->store)) {
        return FAIL(MISMATCH, "--resume: %" PRId64 " of the samples there are not in this grid",
                    passkey_store_found(job->store) - known);
    }
    if (rank_speaks(job->place)) {
        if (known > 0) LOG(INFO, "--resume: %" PRId64 " samples are answered already", known);
        LOG(INFO, "%" PRId64 " samples to answer", job->samples);
    }
    return STATUS_OK;
}

enum status passkey_feed_open(struct passkey_job *job) {
    if (passkey_queue_wanted(job->settings)) {
        TRY(passkey_queue_open(job->settings, job->run.task, &job->queue));
    }
    if (!passkey_queue_input(job->settings)) return list_samples(job);
    job->described_free = -1;
    job->index = calloc(TAKEN_MOST, sizeof *job->index);
    job->taken = calloc(TAKEN_MOST, sizeof *job->taken);
    if (job->index == NULL || job->taken == NULL) return FAIL(NO_MEMORY, "messages");
    return STATUS_OK;
}

// Room for one more sample that is under way: one that another has left, or a new one.
static enum status described_room(struct passkey_job *job, int64_t *at) {
    if (job->described_free >= 0) {
        *at = job->described_free;
        job->described_free = job->described[*at].next_free;
        return STATUS_OK;
    }
    TRY(room_for((void **)&job->described, &job->described_room, job->described_count + 1,
                 sizeof *job->described));
    *at = (int64_t)job->described_count++;
    return STATUS_OK;
}

static enum status describe(struct passkey_job *job, const struct passkey_description *message,
                            int64_t *index, int64_t *count) {
    struct passkey_sample sample;
    const char *wrong = NULL;
    const struct passkey_wish wish = {.id = message->id,
                                      .length = message->length,
                                      .depth = message->depth,
                                      .key = message->key[0] != '\0' ? message->key : NULL,
                                      .seed = message->seed};
    const enum status status = passkey_task_describe(job->task, &wish, &sample, &wrong);
    if (status == STATUS_BAD_INPUT) return passkey_queue_bad(job->queue, message, wrong);
    TRY(status);
    TRY(described_room(job, &index[*count]));
    job->described[index[*count]] =
        (struct passkey_described){.sample = sample, .place = message->place};
    *count += 1;
    return STATUS_OK;
}

enum status passkey_feed_commit(struct passkey_job *job) {
    if (job->queue == NULL) return STATUS_OK;
    if (job->store != NULL) TRY(passkey_store_sync(job->store));
    return passkey_queue_commit(job->queue);
}

static enum status take_messages(struct passkey_job *job, struct passkey_batch *batch) {
    int64_t taken = 0;
    const enum status status = passkey_queue_take(job->queue, TAKEN_MOST, 0, job->taken, &taken);
    batch->ended = status == STATUS_END;
    // a stop is heard of by all ranks: the steps under way are finished first
    if (status != STATUS_OK && status != STATUS_AGAIN && status != STATUS_END &&
        status != STATUS_STOPPED) {
        return status;
    }
    for (int64_t i = 0; i < taken; i++) {
        TRY(describe(job, &job->taken[i], job->index, &batch->count));
    }
    batch->index = job->index;
    return passkey_feed_commit(job);
}

enum status passkey_feed_batch(void *listener, struct passkey_batch *batch) {
    struct passkey_job *job = listener;
    *batch = (struct passkey_batch){.ended = true};
    if (passkey_queue_input(job->settings)) return take_messages(job, batch);
    if (job->given) return STATUS_OK;
    job->given = true;
    batch->index = job->index;
    batch->count = job->samples;
    return STATUS_OK;
}

enum status passkey_feed_answered(struct passkey_job *job, int64_t index,
                                  const struct passkey_result *result) {
    const struct passkey_place *place = NULL;
    if (job->queue == NULL) return STATUS_OK;
    if (passkey_queue_input(job->settings)) {
        struct passkey_described *described = &job->described[index];
        place = &described->place;
        described->next_free = job->described_free;
        job->described_free = index;
    }
    return passkey_queue_result(job->queue, place, result->sample.id, job->line.data,
                                job->line.count - 1); // without the line's end
}

enum status passkey_feed_close(struct passkey_job *job, bool complete) {
    enum status status = STATUS_OK;
    if (job->queue != NULL && complete && job->store != NULL) TRY(passkey_store_sync(job->store));
    if (job->queue != NULL && complete) passkey_queue_counts(job->queue, &job->queued);
    if (job->queue != NULL) status = passkey_queue_close(job->queue, complete);
    job->queue = NULL;
    free(job->described);
    free(job->taken);
    free(job->index);
    job->described = NULL;
    job->taken = NULL;
    job->index = NULL;
    return status;
}
