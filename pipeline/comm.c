// What others call: they leave work with the communication thread under one lock and wait for news
// from it. comm_thread.c is the other side.

#include "pipeline/comm.h"

#include "ops/base/check.h"
#include "ops/base/clock.h"
#include "pipeline/comm_inner.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

struct parcel *parcel_make(int32_t peer, uint32_t kind, const void *payload, size_t bytes) {
    const struct wire_header header = {.magic = WIRE_MAGIC, .kind = kind, .bytes = bytes};
    struct parcel *parcel = calloc(1, sizeof *parcel);
    if (parcel == NULL) return NULL;
    parcel->peer = peer;
    parcel->bytes = sizeof header + bytes;
    parcel->data = malloc(parcel->bytes);
    if (parcel->data == NULL) {
        free(parcel);
        return NULL;
    }
    memcpy(parcel->data, &header, sizeof header);
    if (bytes > 0) memcpy(parcel->data + sizeof header, payload, bytes);
    return parcel;
}

void parcel_free(struct parcel *parcel) {
    if (parcel == NULL) return;
    free(parcel->data);
    free(parcel);
}

void parcel_push(struct parcel_list *list, struct parcel *parcel) {
    parcel->next = NULL;
    if (list->last != NULL) {
        list->last->next = parcel;
    } else {
        list->first = parcel;
    }
    list->last = parcel;
}

struct parcel *parcel_pop(struct parcel_list *list) {
    struct parcel *parcel = list->first;
    if (parcel == NULL) return NULL;
    list->first = parcel->next;
    if (list->first == NULL) list->last = NULL;
    parcel->next = NULL;
    return parcel;
}

void comm_break(struct comm *comm, int failure) {
    pthread_mutex_lock(&comm->lock);
    comm->failed = true;
    if (comm->failure == 0) comm->failure = failure;
    pthread_cond_broadcast(&comm->news);
    pthread_mutex_unlock(&comm->lock);
}

static enum status sync_open(struct comm *comm) {
    pthread_condattr_t monotonic;
    if (pthread_condattr_init(&monotonic) != 0) return FAIL(NO_MEMORY, "communication thread");
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&comm->lock, NULL);
    pthread_cond_init(&comm->work, &monotonic);
    pthread_cond_init(&comm->news, &monotonic);
    pthread_condattr_destroy(&monotonic);
    return STATUS_OK;
}

static void comm_free(struct comm *comm) {
    struct parcel_list *const lists[] = {&comm->outbox, &comm->sending, &comm->arriving};
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        while (lists[i]->first != NULL) {
            parcel_free(parcel_pop(lists[i]));
        }
    }
    for (int kind = 0; kind < MESSAGE_KINDS; kind++) {
        while (comm->mailbox[kind].first != NULL) {
            parcel_free(parcel_pop(&comm->mailbox[kind]));
        }
    }
    while (comm->spare != NULL) {
        struct transfer *transfer = comm->spare;
        comm->spare = transfer->next;
        free(transfer);
    }
    pthread_cond_destroy(&comm->news);
    pthread_cond_destroy(&comm->work);
    pthread_mutex_destroy(&comm->lock);
    free(comm->peer);
    free(comm);
}

enum status comm_open(struct link *link, const struct comm_settings *settings,
                      struct comm **opened) {
    sigset_t all, before;
    struct comm *comm = calloc(1, sizeof *comm);
    if (comm == NULL) return FAIL(NO_MEMORY, "communication thread");
    if (sync_open(comm) != STATUS_OK) {
        free(comm);
        return STATUS_NO_MEMORY;
    }
    comm->link = link;
    comm->settings = *settings;
    comm->log_rank = log_rank();
    comm->listened_ns = clock_ns();
    comm->peer = calloc((size_t)link->ranks, sizeof *comm->peer);
    if (comm->peer == NULL) {
        comm_free(comm);
        return FAIL(NO_MEMORY, "communication thread of %d ranks", link->ranks);
    }
    // Signals are for the main thread: this one is born with all of them blocked.
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int error = pthread_create(&comm->thread, NULL, comm_thread_run, comm);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0) {
        comm_free(comm);
        return FAIL(UNEXPECTED, "cannot start the communication thread: %s", strerror(error));
    }
    *opened = comm;
    return STATUS_OK;
}

// Under the lock.
static void post_parcel(struct comm *comm, struct parcel *parcel) {
    parcel_push(&comm->outbox, parcel);
    comm->outgoing++;
    pthread_cond_signal(&comm->work);
}

enum status comm_send(struct comm *comm, struct message *message) {
    void *payload = message->data;
    const bool to_self = message->peer == comm->link->rank;
    enum status status = STATUS_OK;
    struct parcel *parcel = NULL;
    CHECK(message->peer >= 0 && message->peer < comm->link->ranks);
    CHECK(message->kind == MESSAGE_STEP || message->kind == MESSAGE_RESULT);
    message->data = NULL;
    if (message->bytes > MESSAGE_MOST - sizeof(struct wire_header)) {
        free(payload);
        return FAIL(USAGE,
                    "a message of %zu bytes to rank %d is over the limit of %zu: lower "
                    "--step-tokens",
                    message->bytes, message->peer, MESSAGE_MOST);
    }
    if (to_self) {
        parcel = calloc(1, sizeof *parcel);
    } else {
        parcel = parcel_make(message->peer, (uint32_t)message->kind, payload, message->bytes);
    }
    if (parcel == NULL) {
        free(payload);
        return FAIL(NO_MEMORY, "a message of %zu bytes", message->bytes);
    }
    if (to_self) {
        parcel->peer = message->peer;
        parcel->data = payload;
        parcel->bytes = message->bytes;
        payload = NULL; // the parcel's now
    }
    free(payload);
    pthread_mutex_lock(&comm->lock);
    if (comm->failed) {
        status = STATUS_PEER;
    } else if (to_self) {
        parcel_push(&comm->mailbox[message->kind], parcel);
        pthread_cond_broadcast(&comm->news);
        parcel = NULL; // the mailbox's now
    } else {
        post_parcel(comm, parcel);
        parcel = NULL; // the outbox's now
    }
    pthread_mutex_unlock(&comm->lock);
    parcel_free(parcel);
    return status;
}

static struct timespec after_ms(int32_t timeout_ms) {
    const int64_t at = clock_ns() + (int64_t)timeout_ms * 1000000;
    return (struct timespec){.tv_sec = (time_t)(at / 1000000000),
                             .tv_nsec = (long)(at % 1000000000)};
}

enum status comm_next(struct comm *comm, enum message_kind kind, int32_t timeout_ms,
                      struct message *message) {
    const struct timespec until = after_ms(timeout_ms);
    struct parcel *parcel = NULL;
    enum status status = STATUS_OK;
    CHECK(kind == MESSAGE_STEP || kind == MESSAGE_RESULT);
    pthread_mutex_lock(&comm->lock);
    bool late = timeout_ms <= 0;
    while (!comm->failed && comm->mailbox[kind].first == NULL && !late) {
        late = pthread_cond_timedwait(&comm->news, &comm->lock, &until) == ETIMEDOUT;
    }
    if (comm->failed) {
        status = STATUS_PEER;
    } else {
        parcel = parcel_pop(&comm->mailbox[kind]);
        if (parcel == NULL) status = STATUS_AGAIN;
    }
    pthread_mutex_unlock(&comm->lock);
    if (parcel != NULL) {
        *message = (struct message){
            .kind = kind, .peer = parcel->peer, .bytes = parcel->bytes, .data = parcel->data};
        parcel->data = NULL; // the caller's now
        parcel_free(parcel);
    }
    return status;
}

enum status comm_health(struct comm *comm) {
    pthread_mutex_lock(&comm->lock);
    const enum status status = comm->failed ? STATUS_PEER : STATUS_OK;
    pthread_mutex_unlock(&comm->lock);
    return status;
}

bool comm_stop_asked(struct comm *comm) {
    pthread_mutex_lock(&comm->lock);
    const bool asked = comm->stop_asked;
    pthread_mutex_unlock(&comm->lock);
    return asked || (comm->settings.stop != NULL && comm->settings.stop());
}

int comm_failure(struct comm *comm) {
    pthread_mutex_lock(&comm->lock);
    const int failure = comm->failure;
    pthread_mutex_unlock(&comm->lock);
    return failure;
}

void comm_fail(struct comm *comm, int exit_code) {
    const int32_t code = exit_code;
    const struct timespec until = after_ms(1000);
    for (int32_t peer = 0; peer < comm->link->ranks; peer++) {
        if (peer == comm->link->rank) continue;
        struct parcel *parcel = parcel_make(peer, MESSAGE_FAILURE, &code, sizeof code);
        if (parcel == NULL) break; // best effort: the others find this rank silent
        pthread_mutex_lock(&comm->lock);
        post_parcel(comm, parcel);
        pthread_mutex_unlock(&comm->lock);
    }
    comm_break(comm, 0);
    pthread_mutex_lock(&comm->lock);
    bool late = false;
    while (comm->outgoing > 0 && !late && !comm->link_broken) {
        late = pthread_cond_timedwait(&comm->news, &comm->lock, &until) == ETIMEDOUT;
    }
    pthread_mutex_unlock(&comm->lock);
}

// The thread has ended: what it had under way is taken back from the link. Memory that the link
// may still touch is left behind; the process is about to end with a failure.
static void give_up(struct comm *comm) {
    struct parcel_list *const lists[] = {&comm->sending, &comm->arriving};
    struct link *link = comm->link;
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        for (struct parcel *parcel = parcel_pop(lists[i]); parcel != NULL;
             parcel = parcel_pop(lists[i])) {
            if (parcel->request != NULL && !link->table->cancel(link, &parcel->request)) {
                parcel->data = NULL;
            }
            parcel_free(parcel);
        }
    }
    pthread_mutex_lock(&comm->lock);
    struct transfer_list *const transfers[] = {&comm->active, &comm->posted};
    for (size_t i = 0; i < sizeof transfers / sizeof transfers[0]; i++) {
        while (transfers[i]->first != NULL) {
            struct transfer *transfer = transfers[i]->first;
            transfers[i]->first = transfer->next;
            if (transfer->request != NULL) (void)link->table->cancel(link, &transfer->request);
            transfer_drop_locked(transfer);
        }
        transfers[i]->last = NULL;
    }
    pthread_mutex_unlock(&comm->lock);
}

void comm_close(struct comm *comm, bool failed) {
    if (comm == NULL) return;
    pthread_mutex_lock(&comm->lock);
    comm->closing = true;
    comm->leave = failed;
    pthread_cond_signal(&comm->work);
    pthread_mutex_unlock(&comm->lock);
    pthread_join(comm->thread, NULL);
    give_up(comm);
    comm_free(comm);
}
