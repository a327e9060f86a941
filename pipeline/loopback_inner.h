#pragma once
// The hub of ranks that are threads: shared by loopback_link.c and loopback_gather.c.

#include "pipeline/link.h"

#include <pthread.h>

struct letter { // sent, not yet taken
    enum link_channel channel;
    int32_t from, to;
    uint32_t tag;
    const void *data;
    void *copy; // what data points to, if sends are not rendezvous; owned
    size_t bytes;
    int64_t due_ns;
    struct link_request *sender;   // rendezvous: told when the letter is taken
    struct link_request *receiver; // the receive it is paired with
    struct letter *next;
};

struct link_request {
    bool sending, done;
    enum link_channel channel;
    int32_t peer;
    uint32_t tag;
    void *data; // receives
    size_t bytes;
    struct letter *letter; // receives: what they are paired with
    struct link_request *next;
};

struct loopback_link {
    struct link base;
    struct hub *hub;
    struct letter *letters;        // to this rank, in the order sent
    struct link_request *requests; // of this rank, in the order made; owned
    int64_t *control_due_ns; // [ranks] of the last control letter from each, so none overtakes
    bool arrived;            // at the gather
};

struct hub {
    pthread_mutex_t lock;
    pthread_cond_t turn; // a gather is complete, or the hub failed
    struct loopback_settings settings;
    int32_t ranks, open;
    bool failed;
    uint64_t random;
    struct loopback_link *link; // [ranks]
    int64_t gathers;            // complete ones
    int32_t arrived;            // ranks at the gather under way
    size_t gather_bytes;
    char *gathering, *gathered; // [ranks * bytes] of the gather under way and of the last one
};

// loopback_gather.c
enum status loopback_gather(struct link *link, const void *mine, size_t bytes, void *all,
                            int32_t timeout_ms);
void loopback_fail(struct hub *hub); // under the lock: every call of every rank fails from now on
