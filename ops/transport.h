#pragma once
// Moves states between ranks, from backend memory to backend memory, in the order of the
// backend's queue. The line (inside a step, from rank r to r + 1) and the moves (between steps,
// any to any) never share a stream or a communicator.
//
// Between two ranks the transfers of a channel are sent and received in one order: transports
// without tags match by it. Thread: the one that queues on the backend, but for health.

#include "ops/backend.h" // whose table has transport_identify and transport_open

C_BEGIN

enum channel { CHANNEL_LINE, CHANNEL_MOVES, CHANNELS };

struct transport;
struct transfer; // one send or receive under way; the transport's until transport_finish

#define TRANSPORT_BATCHES 4 // into which a model's layers are cut, in order

struct transport_table {
    const char *name;
    // Queued on the backend: when the queue comes here, send `bytes` at `data` to rank `peer`.
    // data stays as it is until the transfer is finished. tag: what this is, equal on both sides
    // (a receive takes only what was sent under its tag). Tags under way between two ranks at once
    // differ in their lowest 20 bits: some MPIs see no more of them.
    enum status (*send)(struct transport *transport, enum channel channel, int32_t peer,
                        uint32_t tag, const void *data, size_t bytes, struct transfer **transfer);
    // At once, not queued: nothing queued before may use `data`. So a receive can be posted early.
    enum status (*receive)(struct transport *transport, enum channel channel, int32_t peer,
                           uint32_t tag, void *data, size_t bytes, struct transfer **transfer);
    // Queued: the step has written this batch of the layers of its states.
    enum status (*passed)(struct transport *transport, int32_t batch);
    // All moves of this batch of layers are posted; none need start before. What they send was there
    // when the queue last came to passed() of the batch, so they may start then, while the rest of
    // that step still runs. Sends and receives of a batch do not wait for each other, so moves in a
    // circle pass.
    enum status (*flush)(struct transport *transport, int32_t batch);
    // Queued, once for each receive, those of the line in the order in which they were posted: what
    // is queued after this sees what was received. May wait on the host for the peer.
    enum status (*order)(struct transport *transport, struct transfer *transfer);
    // The host waits until the transfer is done, then the handle is gone. A receive is finished when
    // the queue has passed its order(). Errors: PEER, when the peer has given no sign of life for
    // the deadline or the communicator failed.
    enum status (*finish)(struct transport *transport, struct transfer **transfer);
    // PEER as soon as any transfer has failed; a queued order() cannot say so itself, and what
    // was computed after it is void.
    enum status (*health)(struct transport *transport);
    void (*close)(struct transport *transport);
};

struct transport {
    const struct transport_table *table;
};

// A transport that a backend brings, from device to device without the host (cuda: NCCL). Ranks first
// exchange what each is, and all use it if it serves all of them.
struct transport_id {
    char device[128];  // machine and device; ranks with equal text share one
    char why_not[128]; // this rank cannot; empty: it can
    unsigned char key[2][128];
};

struct transport_settings {
    int32_t rank, ranks;
    const struct transport_id *ids; // [ranks], by rank; borrowed until open is back
    int32_t peer_timeout_ms;        // a transfer that is due may take as long
    bool (*lost)(void *context);    // a peer was lost: nothing more will come. Thread: any
    void *context;
};

C_END
