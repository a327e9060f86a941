#pragma once
// What comm.c and transfer.c (called by everybody) and comm_thread.c and comm_mail.c (the thread
// itself) share.

#include "pipeline/transfer.h"

#include <pthread.h>

// What a control message begins with. A peer of another build or byte order fails the magic.
#define WIRE_MAGIC 0x4c534331u // LSC1
enum { WIRE_ALIVE = MESSAGE_KINDS, WIRE_FAREWELL, WIRE_KINDS };
enum { COMM_LOST = 142 }; // the exit code a silent peer or a broken link is given
struct wire_header {
    uint32_t magic, kind;
    uint64_t bytes; // that follow
};

// A control message: queued, on its way out, on its way in, or in a mailbox.
struct parcel {
    struct parcel *next;
    int32_t peer;
    char *data;   // header and payload; in a mailbox the payload only. Owned
    size_t bytes; // of data
    struct link_request *request;
    bool done;
};

struct parcel_list {
    struct parcel *first, *last;
};

enum transfer_step { TRANSFER_MADE, TRANSFER_STARTED, TRANSFER_DONE };

struct transfer {
    struct transfer *next; // in the one list it is in
    struct comm *comm;
    struct transfer_order order;
    enum transfer_step step; // under the lock, as the holders
    int holders;
    struct link_request *request; // the thread's
};

struct transfer_list {
    struct transfer *first, *last;
};

struct peer {
    int64_t heard_ms; // on the listening clock
    bool farewell;    // it ends well, nothing more comes
    bool gone;        // lost or failed, logged
};

struct comm {
    struct link *link; // borrowed
    struct comm_settings settings;
    int32_t log_rank;
    pthread_t thread;

    pthread_mutex_t lock;
    pthread_cond_t work; // for the thread: something was posted
    pthread_cond_t news; // for the others: something came, is done, or failed
    // Under the lock:
    struct parcel_list outbox;
    struct transfer_list posted;
    struct transfer *spare; // released ones, to be used again
    struct parcel_list mailbox[MESSAGE_KINDS];
    int64_t outgoing; // parcels in the outbox or on their way out
    bool failed, leave, closing;
    bool stop_asked;
    bool link_broken; // the link itself failed: it is not called any more
    int failure;

    // The thread's own:
    struct parcel_list sending, arriving;
    struct transfer_list active;
    struct peer *peer; // [ranks]
    bool said_farewell;
    int64_t beat_ms; // when the last sign of life was sent, on the listening clock
    int64_t stop_ms; // when a stop was last looked for
    // The listening clock stands still while the thread does: what waited unread meanwhile is no
    // silence of the peer.
    int64_t listened_ms, listened_ns;
};

// A parcel of this kind around a copy of payload. NULL: no memory.
struct parcel *parcel_make(int32_t peer, uint32_t kind, const void *payload, size_t bytes);
void parcel_free(struct parcel *parcel);
void parcel_push(struct parcel_list *list, struct parcel *parcel);
struct parcel *parcel_pop(struct parcel_list *list);

// Under the lock.
void transfer_push(struct transfer_list *list, struct transfer *transfer);
void transfer_drop_locked(struct transfer *transfer);

// All waits end with PEER. failure: the exit code a peer is to blame for, or 0.
void comm_break(struct comm *comm, int failure);

// comm_thread.c
void *comm_thread_run(void *argument);                      // the struct comm
void comm_link_failed(struct comm *comm, const char *what); // logs what

// comm_mail.c: the control messages. True if anything moved.
bool mail_start(struct comm *comm, struct parcel_list *outbox);
bool mail_test(struct comm *comm);
bool mail_take(struct comm *comm);
bool mail_deliver(struct comm *comm);
void mail_send_all(struct comm *comm, uint32_t kind); // an empty message to all who are there
