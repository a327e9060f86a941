#pragma once
// What nccl_transport.c (the compute thread's calls), nccl_watch.c (the thread that sees failures),
// nccl_meet.c (how the ranks come together) and nccl_open.c share.

#include "cuda/nccl_transport.h"

#include <pthread.h>
#include <stdatomic.h>

C_BEGIN

// What was launched at once on a lane: a transfer of the line, or a batch of moves.
struct launch {
    struct launch *next; // in its lane, or among the spare ones
    struct launch *all;
    void *gate, *done; // events: it may begin; it has ended. Owned
    int32_t holders;   // transfers
    int64_t due_ns;    // the watch's: since when it has been under way; 0: not yet
};

struct transfer {
    struct transfer *next; // among those posted, or spare
    struct transfer *all;
    struct lane *lane;
    struct launch *launch; // NULL: only posted
    bool sending;
    int32_t peer;
    const void *out;
    void *in;
    size_t bytes;
};

// A communicator with its stream.
struct lane {
    const char *name;
    struct nccl_comm *comm; // NULL: this rank has no such lane, or it was given up
    void *stream;
    int32_t peer_base; // rank in the group of the communicator's rank 0
    // Under the transport's lock, since the watch reads it: launched and not finished, oldest first
    struct launch *first, *last;
    // Of the compute thread
    struct transfer *posted, *posted_last;
    int32_t ahead; // receives launched and not yet ordered
};

enum lane_name { LANE_LEFT, LANE_RIGHT, LANE_MOVES, LANES };

struct nccl_transport {
    struct transport base;
    struct nccl_place place;
    struct transport_settings settings; // without ids
    struct lane lane[LANES];
    // Of the compute thread; what is in use at the end of a failed job is in `all` alone
    struct transfer *spare, *all;
    struct launch *spare_launch, *all_launches;
    void *passed[TRANSPORT_BATCHES]; // events: the compute stream has written the batch
    atomic_bool failed;

    pthread_mutex_t calls;  // held by whoever calls NCCL with a communicator
    _Atomic(int) calling;   // the lane of the call under way, or LANES
    pthread_mutex_t lock;   // of the lanes' launches and what follows
    pthread_cond_t changed; // something of what follows
    pthread_t watch;
    bool watching, closing;
    int32_t leaving;            // threads that give a communicator back
    bool meeting, met;          // the thread that starts them is there; is done
    enum status meeting_status; // what with
    struct transport_id *ids;   // owned; that thread reads them
};

extern const struct transport_table nccl_table;
void nccl_close(struct transport *transport);

// Logs what failed, once; from now on every wait ends with PEER. Thread: any.
enum status nccl_fail(struct nccl_transport *self, const char *what);
// nccl_fail with NCCL's own words, if the result is none that is fine.
enum status nccl_check(struct nccl_transport *self, int result, const char *what);

// Signals are for the program's main thread: this one, and those that NCCL starts from it, have all of
// them blocked.
bool nccl_thread(pthread_t *thread, void *(*function)(void *), void *argument);

// The watch: peers that are lost, NCCL's own failures, transfers that stand still. After a failure it
// aborts all communicators, so that what is queued behind them ends.
enum status nccl_watch_start(struct nccl_transport *self);
void nccl_watch_stop(struct nccl_transport *self);

// All ranks come together: communicators and connections are made, in a thread of its own, so that a
// rank that does not come is no hang. Errors: PEER.
enum status nccl_meet(struct nccl_transport *self, const struct transport_id *ids);
// Gives back all communicators, each in a thread of its own; true if all were done in time.
bool nccl_leave(struct nccl_transport *self, bool abort);

C_END
