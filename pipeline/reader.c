#include "pipeline/reader.h"

#include "ops/base/clock.h"

#include <pthread.h>
#include <stdlib.h>

#define POLL_MS 100 // how long a stop may go unseen while the source has nothing
// Bytes of messages kept with records, which may have no tokens that would count.
#define MESSAGES_MOST ((size_t)16 * 1024 * 1024)

struct queued {
    struct record *record;
    struct queued *next;
};

struct reader {
    struct source *source;
    struct reader_settings settings;
    int32_t rank;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct queued *first, *last;
    int64_t tokens, records;
    size_t message_bytes;
    bool stop;
    enum status status; // END or an error: nothing more comes
    bool at_once;       // nor does what is queued
};

static bool full(const struct reader *reader) {
    return reader->records > 0 && (reader->tokens >= reader->settings.tokens_most ||
                                   reader->records >= reader->settings.records_most ||
                                   reader->message_bytes >= MESSAGES_MOST);
}

static struct timespec deadline_after(int32_t timeout_ms) {
    const int64_t at = clock_ns() + (int64_t)timeout_ms * 1000000;
    return (struct timespec){.tv_sec = (time_t)(at / 1000000000),
                             .tv_nsec = (long)(at % 1000000000)};
}

// Under the lock, which it gives up while the source is tended.
static enum status wait_a_moment(struct reader *reader) {
    const struct timespec deadline = deadline_after(POLL_MS);
    struct source *source = reader->source;
    if (source->table->tend == NULL) {
        pthread_cond_wait(&reader->changed, &reader->lock);
        return STATUS_OK;
    }
    if (pthread_cond_timedwait(&reader->changed, &reader->lock, &deadline) == 0) return STATUS_OK;
    pthread_mutex_unlock(&reader->lock);
    const enum status status = source->table->tend(source);
    pthread_mutex_lock(&reader->lock);
    return status;
}

// END when told to stop, or what tending the source failed with.
static enum status wait_for_room(struct reader *reader) {
    enum status status = STATUS_OK;
    pthread_mutex_lock(&reader->lock);
    while (status == STATUS_OK && full(reader) && !reader->stop) {
        status = wait_a_moment(reader);
    }
    reader->at_once = status != STATUS_OK;
    if (status == STATUS_OK && reader->stop) status = STATUS_END;
    pthread_mutex_unlock(&reader->lock);
    return status;
}

static enum status put(struct reader *reader, struct record *record) {
    struct queued *entry = malloc(sizeof *entry);
    if (entry == NULL) {
        record_free(record);
        return FAIL(NO_MEMORY, "queue of records");
    }
    *entry = (struct queued){.record = record};
    pthread_mutex_lock(&reader->lock);
    if (reader->last != NULL) {
        reader->last->next = entry;
    } else {
        reader->first = entry;
    }
    reader->last = entry;
    reader->tokens += record->tokens;
    reader->message_bytes += record->message_bytes;
    reader->records++;
    pthread_cond_broadcast(&reader->changed);
    pthread_mutex_unlock(&reader->lock);
    return STATUS_OK;
}

static void *read_all(void *argument) {
    struct reader *reader = argument;
    enum status status = STATUS_OK;
    log_set_rank(reader->rank);
    while (status == STATUS_OK) {
        struct record *record = NULL;
        status = wait_for_room(reader);
        if (status == STATUS_OK) {
            status = reader->source->table->next(reader->source, POLL_MS, &record);
        }
        if (status == STATUS_OK) status = put(reader, record);
        if (status == STATUS_AGAIN) status = STATUS_OK;
    }
    pthread_mutex_lock(&reader->lock);
    reader->status = status;
    pthread_cond_broadcast(&reader->changed);
    pthread_mutex_unlock(&reader->lock);
    return NULL;
}

enum status reader_open(struct source *source, const struct reader_settings *settings,
                        struct reader **opened) {
    pthread_condattr_t monotonic;
    struct reader *reader = calloc(1, sizeof *reader);
    if (reader == NULL) return FAIL(NO_MEMORY, "reader");
    reader->source = source;
    reader->settings = *settings;
    reader->rank = log_rank();
    pthread_mutex_init(&reader->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&reader->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    if (pthread_create(&reader->thread, NULL, read_all, reader) != 0) {
        pthread_cond_destroy(&reader->changed);
        pthread_mutex_destroy(&reader->lock);
        free(reader);
        return FAIL(UNEXPECTED, "cannot start the reader thread");
    }
    *opened = reader;
    return STATUS_OK;
}

enum status reader_next(struct reader *reader, int32_t timeout_ms, struct record **record) {
    const struct timespec deadline = deadline_after(timeout_ms);
    enum status status = STATUS_AGAIN;
    pthread_mutex_lock(&reader->lock);
    while (reader->first == NULL && reader->status == STATUS_OK && timeout_ms > 0) {
        if (pthread_cond_timedwait(&reader->changed, &reader->lock, &deadline) != 0) break;
    }
    if (reader->first != NULL && !reader->at_once) {
        struct queued *entry = reader->first;
        reader->first = entry->next;
        if (reader->first == NULL) reader->last = NULL;
        *record = entry->record;
        reader->tokens -= entry->record->tokens;
        reader->message_bytes -= entry->record->message_bytes;
        reader->records--;
        free(entry);
        pthread_cond_broadcast(&reader->changed);
        status = STATUS_OK;
    } else if (reader->status != STATUS_OK) {
        status = reader->status;
    }
    pthread_mutex_unlock(&reader->lock);
    return status;
}

int64_t reader_waiting(struct reader *reader) {
    pthread_mutex_lock(&reader->lock);
    const int64_t tokens = reader->tokens;
    pthread_mutex_unlock(&reader->lock);
    return tokens;
}

void reader_stop(struct reader *reader) {
    pthread_mutex_lock(&reader->lock);
    reader->stop = true;
    pthread_cond_broadcast(&reader->changed);
    pthread_mutex_unlock(&reader->lock);
}

void reader_close(struct reader *reader) {
    if (reader == NULL) return;
    reader_stop(reader);
    pthread_join(reader->thread, NULL);
    while (reader->first != NULL) {
        struct queued *entry = reader->first;
        reader->first = entry->next;
        record_free(entry->record);
        free(entry);
    }
    pthread_cond_destroy(&reader->changed);
    pthread_mutex_destroy(&reader->lock);
    free(reader);
}
