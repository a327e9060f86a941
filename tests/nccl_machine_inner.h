#pragma once
// The parts of the machine that plays NCCL: nccl_machine.c runs the streams and lets sends and receives
// meet, nccl_machine_calls.c answers NCCL's calls.

#include "tests/nccl_machine.h"

#include <pthread.h>

enum { RANKS_MOST = 8, MEETINGS_MOST = 32, STREAMS_MOST = 64, BUFFERED_MOST = 16 };
enum item_kind { ITEM_RECORD, ITEM_WAIT, ITEM_GROUP, ITEM_KERNEL };

struct op {
    struct op *next; // in its item
    struct op *pair; // in its pair's queue
    struct nccl_comm *comm;
    bool sending, done;
    int peer;
    const char *out;
    char *in;
    size_t bytes;
};

struct event {
    uint64_t recorded, reached;
    struct event *all;
};

struct item {
    struct item *next;
    enum item_kind kind;
    struct event *event;
    uint64_t generation;
    struct op *ops; // of a group
    bool at_front;
    void (*function)(void *);
    void *argument;
};

struct stream {
    struct item *first, *last;
    int32_t rank;
};

struct queue {
    struct op *first, *last;
};

struct pair { // from one rank of a communicator to another
    struct queue sends, receives;
    char *buffer[BUFFERED_MOST]; // oldest first
    size_t buffer_bytes[BUFFERED_MOST];
    int buffered;
};

struct meeting { // a communicator, seen from all its ranks
    struct nccl_unique_id id;
    int ranks, joined;
    struct pair pair[RANKS_MOST][RANKS_MOST];
};

struct nccl_comm {
    struct machine *machine;
    struct meeting *meeting;
    int rank;
    int32_t device;
    bool aborted;
    struct nccl_comm *all;
};

struct machine {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t thread;
    bool closing;
    int most_buffered;
    uint64_t random;
    struct stream *streams[STREAMS_MOST];
    int stream_count;
    struct stream *compute[RANKS_MOST];
    struct meeting *meetings[MEETINGS_MOST];
    int meeting_count;
    struct nccl_comm *comms;
    struct event *events;
    int64_t receives[RANKS_MOST];
    int64_t calls_left[RANKS_MOST];
    int64_t aborts;
};

struct device {
    struct machine *machine;
    int32_t rank;
};

extern struct machine *machine_now;          // one at a time: NCCL's calls name none
extern _Thread_local int32_t machine_caller; // the device that this thread has entered
extern const struct nccl_api machine_nccl;   // NCCL's calls

// Owns: the item, and its ops, are the stream's.
void machine_push(struct stream *stream, struct item *item);
struct item *machine_item(enum item_kind kind);
void machine_free_ops(struct op *op); // the list from here on
