#pragma once
// Messages between ranks, at the lowest level: nothing here blocks, everything is called from one
// thread a rank (its communication thread), but for open, gather, abort and close.

#include "ops/transport.h"

// LINK_CONTROL carries the messages of pipeline/comm.h; the other two are the state channels.
enum link_channel {
    LINK_LINE = CHANNEL_LINE,
    LINK_MOVES = CHANNEL_MOVES,
    LINK_CONTROL,
    LINK_CHANNELS
};

struct link;
struct link_request;

struct link_table {
    const char *name;
    // data stays as it is until the request is done. Receives match sends of the same channel,
    // peer and tag in order; sizes must agree.
    enum status (*send)(struct link *link, enum link_channel channel, int32_t peer, uint32_t tag,
                        const void *data, size_t bytes, struct link_request **request);
    enum status (*receive)(struct link *link, enum link_channel channel, int32_t peer, uint32_t tag,
                           void *data, size_t bytes, struct link_request **request);
    // Is a LINK_CONTROL message waiting, from whom, how large?
    enum status (*probe)(struct link *link, bool *waiting, int32_t *peer, uint32_t *tag,
                         size_t *bytes);
    // Done requests are released and *request becomes NULL.
    enum status (*test)(struct link *link, struct link_request **request, bool *done);
    // For the end of a failed job: the request is given up and *request becomes NULL. true: its
    // data is not touched any more; false: it may be until the link is closed, so it must stay.
    bool (*cancel)(struct link *link, struct link_request **request);
    // Collective over the link's ranks, blocking, at start and end only: everyone's `bytes` into
    // all[ranks * bytes], by rank. Errors: PEER after timeout_ms.
    enum status (*gather)(struct link *link, const void *mine, size_t bytes, void *all,
                          int32_t timeout_ms);
    // Has any rank of the job, in whatever group, been asked to stop? Passes on that this one has.
    // NULL: the ranks are one process, and a signal reaches all of them.
    enum status (*share_stop)(struct link *link, bool *asked);
    // Stops every rank of the job at once with this exit code. Returns only for loopback, where
    // every later call of any rank fails with PEER. Thread: any.
    void (*abort)(struct link *link, int exit_code);
    void (*close)(struct link *link);
};

struct link {
    const struct link_table *table;
    int32_t rank, ranks;
};

// Ranks as threads of this process. links[ranks] are filled, each to be used by its own thread.
// rendezvous: a send is done only once its receive has taken it; delay_us: every message is late
// by a random time up to this (tests). Errors: NO_MEMORY.
struct loopback_settings {
    bool rendezvous;
    int32_t delay_us;
    uint64_t seed;
};
enum status loopback_links_open(int32_t ranks, const struct loopback_settings *settings,
                                struct link **links);
