// Transfers are counted: by the caller until it has waited, by each call queued on a backend, and
// by the communication thread while they are under way.

#include "pipeline/transfer.h"

#include "ops/base/check.h"
#include "pipeline/comm_inner.h"

#include <stdlib.h>

void transfer_push(struct transfer_list *list, struct transfer *transfer) {
    transfer->next = NULL;
    if (list->last != NULL) {
        list->last->next = transfer;
    } else {
        list->first = transfer;
    }
    list->last = transfer;
}

enum status transfer_make(struct comm *comm, const struct transfer_order *order,
                          struct transfer **made) {
    CHECK(order->peer >= 0 && order->peer < comm->link->ranks && order->peer != comm->link->rank);
    pthread_mutex_lock(&comm->lock);
    struct transfer *transfer = comm->spare;
    if (transfer != NULL) comm->spare = transfer->next;
    pthread_mutex_unlock(&comm->lock);
    if (transfer == NULL) transfer = malloc(sizeof *transfer);
    if (transfer == NULL) return FAIL(NO_MEMORY, "a transfer of %zu bytes", order->bytes);
    *transfer = (struct transfer){.comm = comm, .order = *order, .holders = 1};
    *made = transfer;
    return STATUS_OK;
}

const struct transfer_order *transfer_order(const struct transfer *transfer) {
    return &transfer->order;
}

void transfer_start(struct transfer *transfer) {
    struct comm *comm = transfer->comm;
    pthread_mutex_lock(&comm->lock);
    CHECK(transfer->step == TRANSFER_MADE);
    if (!comm->failed) {
        transfer->step = TRANSFER_STARTED;
        transfer->holders++;
        transfer_push(&comm->posted, transfer);
        pthread_cond_signal(&comm->work);
    }
    pthread_mutex_unlock(&comm->lock);
}

void transfer_hold(struct transfer *transfer) {
    pthread_mutex_lock(&transfer->comm->lock);
    transfer->holders++;
    pthread_mutex_unlock(&transfer->comm->lock);
}

void transfer_drop_locked(struct transfer *transfer) {
    CHECK(transfer->holders > 0);
    if (--transfer->holders > 0) return;
    transfer->next = transfer->comm->spare;
    transfer->comm->spare = transfer;
}

void transfer_drop(struct transfer *transfer) {
    struct comm *comm = transfer->comm;
    pthread_mutex_lock(&comm->lock);
    transfer_drop_locked(transfer);
    pthread_mutex_unlock(&comm->lock);
}

enum status transfer_wait(struct transfer *transfer) {
    struct comm *comm = transfer->comm;
    pthread_mutex_lock(&comm->lock);
    // The thread watches the peers: a transfer is done or the wait has failed by the deadline.
    while (transfer->step != TRANSFER_DONE && !comm->failed) {
        pthread_cond_wait(&comm->news, &comm->lock);
    }
    const enum status status = transfer->step == TRANSFER_DONE ? STATUS_OK : STATUS_PEER;
    pthread_mutex_unlock(&comm->lock);
    return status;
}
