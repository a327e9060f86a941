// The thread's half of the control messages: out of the outbox over the link, and from the link, once
// checked, into the mailboxes.

#include "pipeline/comm_inner.h"

#include <stdlib.h>
#include <string.h>

bool mail_start(struct comm *comm, struct parcel_list *outbox) {
    struct link *link = comm->link;
    const bool any = outbox->first != NULL;
    for (struct parcel *p = parcel_pop(outbox); p != NULL; p = parcel_pop(outbox)) {
        parcel_push(&comm->sending, p);
        if (comm->link_broken) continue;
        if (link->table->send(link, LINK_CONTROL, p->peer, 0, p->data, p->bytes, &p->request) !=
            STATUS_OK) {
            comm_link_failed(comm, "sending a message");
        }
    }
    return any;
}

bool mail_test(struct comm *comm) {
    struct link *link = comm->link;
    struct parcel_list under_way = {0};
    int64_t done = 0;
    for (struct parcel *p = parcel_pop(&comm->sending); p != NULL; p = parcel_pop(&comm->sending)) {
        bool is_done = false;
        if (!comm->link_broken && link->table->test(link, &p->request, &is_done) != STATUS_OK) {
            is_done = false;
            comm_link_failed(comm, "sending a message");
        }
        if (is_done) {
            parcel_free(p);
            done++;
        } else {
            parcel_push(&under_way, p);
        }
    }
    comm->sending = under_way;
    if (done == 0) return false;
    pthread_mutex_lock(&comm->lock);
    comm->outgoing -= done;
    pthread_cond_broadcast(&comm->news);
    pthread_mutex_unlock(&comm->lock);
    return true;
}

static void lying_peer(struct comm *comm, int32_t peer, const char *what, uint64_t number) {
    LOG(ERROR, "rank %d sent a control message with %s %llu: is it the same build of longscan?",
        peer, what, (unsigned long long)number);
    comm_break(comm, COMM_LOST);
}

// Every control message that has begun to arrive gets memory and a receive.
bool mail_take(struct comm *comm) {
    struct link *link = comm->link;
    bool any = false;
    while (!comm->link_broken) {
        bool waiting = false;
        int32_t peer = -1;
        uint32_t tag = 0;
        size_t bytes = 0;
        if (link->table->probe(link, &waiting, &peer, &tag, &bytes) != STATUS_OK) {
            comm_link_failed(comm, "listening");
            return any;
        }
        if (!waiting) return any;
        any = true;
        comm->peer[peer].heard_ms = comm->listened_ms;
        if (bytes < sizeof(struct wire_header) || bytes > MESSAGE_MOST) {
            lying_peer(comm, peer, "a size of", bytes);
            comm_link_failed(comm, "listening");
            return any;
        }
        struct parcel *p = calloc(1, sizeof *p);
        if (p != NULL) p->data = malloc(bytes);
        if (p == NULL || p->data == NULL) {
            free(p);
            LOG(ERROR, "no memory for a message of %zu bytes from rank %d", bytes, peer);
            comm_link_failed(comm, "listening");
            return any;
        }
        p->peer = peer;
        p->bytes = bytes;
        parcel_push(&comm->arriving, p);
        if (link->table->receive(link, LINK_CONTROL, peer, tag, p->data, bytes, &p->request) !=
            STATUS_OK) {
            comm_link_failed(comm, "receiving a message");
        }
    }
    return any;
}

static void peer_failed(struct comm *comm, const struct parcel *parcel) {
    int32_t code = 0;
    if (parcel->bytes == sizeof code) memcpy(&code, parcel->data, sizeof code);
    if (code < 1 || code > 255) code = 1;
    if (!comm->peer[parcel->peer].gone) {
        LOG(ERROR, "rank %d has failed with exit code %d: its log says why", parcel->peer, code);
    }
    comm->peer[parcel->peer].gone = true;
    comm_break(comm, code);
}

// A whole message has come. Takes the parcel.
static void deliver(struct comm *comm, struct parcel *parcel) {
    struct wire_header header;
    memcpy(&header, parcel->data, sizeof header);
    const size_t bytes = parcel->bytes - sizeof header;
    if (header.magic != WIRE_MAGIC) {
        lying_peer(comm, parcel->peer, "a start of", header.magic);
    } else if (header.kind >= WIRE_KINDS) {
        lying_peer(comm, parcel->peer, "a kind of", header.kind);
    } else if (header.bytes != bytes) {
        lying_peer(comm, parcel->peer, "a length of", header.bytes);
    } else {
        memmove(parcel->data, parcel->data + sizeof header, bytes);
        parcel->bytes = bytes;
        if (header.kind == MESSAGE_FAILURE) {
            peer_failed(comm, parcel);
        } else if (header.kind == WIRE_FAREWELL) {
            comm->peer[parcel->peer].farewell = true;
        } else if (header.kind != WIRE_ALIVE) {
            pthread_mutex_lock(&comm->lock);
            parcel_push(&comm->mailbox[header.kind], parcel);
            pthread_cond_broadcast(&comm->news);
            pthread_mutex_unlock(&comm->lock);
            parcel = NULL; // the mailbox's now
        }
    }
    parcel_free(parcel);
}

// Messages of one peer are delivered in the order they were sent, so one that is complete waits for
// an earlier one that is not.
bool mail_deliver(struct comm *comm) {
    struct link *link = comm->link;
    struct parcel_list under_way = {0};
    bool any = false;
    for (struct parcel *p = parcel_pop(&comm->arriving); p != NULL;
         p = parcel_pop(&comm->arriving)) {
        if (!p->done && !comm->link_broken &&
            link->table->test(link, &p->request, &p->done) != STATUS_OK) {
            p->done = false;
            comm_link_failed(comm, "receiving a message");
        }
        const struct parcel *earlier = under_way.first;
        while (earlier != NULL && earlier->peer != p->peer) {
            earlier = earlier->next;
        }
        if (p->done && earlier == NULL) {
            comm->peer[p->peer].heard_ms = comm->listened_ms;
            deliver(comm, p);
            any = true;
        } else {
            parcel_push(&under_way, p);
        }
    }
    comm->arriving = under_way;
    return any;
}

void mail_send_all(struct comm *comm, uint32_t kind) {
    for (int32_t peer = 0; peer < comm->link->ranks; peer++) {
        if (peer == comm->link->rank || comm->peer[peer].gone) continue;
        struct parcel *parcel = parcel_make(peer, kind, NULL, 0);
        if (parcel == NULL) {
            LOG(ERROR, "no memory for a sign of life");
            comm_break(comm, 0);
            return;
        }
        pthread_mutex_lock(&comm->lock);
        parcel_push(&comm->outbox, parcel);
        comm->outgoing++;
        pthread_mutex_unlock(&comm->lock);
    }
}
