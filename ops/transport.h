#pragma once
// Moves states between ranks, from backend memory to backend memory, in the order of the
// backend's queue. The line (inside a step, from rank r to r + 1) and the moves (between steps,
// any to any) never share a stream or a communicator.

#include "ops/backend.h"

C_BEGIN

enum channel { CHANNEL_LINE, CHANNEL_MOVES, CHANNELS };

struct transport;
struct transfer; // one send or receive under way; the transport's until transport_finish

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
    // Queued: what is queued after this sees what was received.
    enum status (*order)(struct transport *transport, struct transfer *transfer);
    // The host waits until the transfer is done, then the handle is gone. Errors: PEER, when the
    // peer has given no sign of life for the deadline or the communicator failed.
    enum status (*finish)(struct transport *transport, struct transfer **transfer);
    // PEER as soon as any transfer has failed; a queued order() cannot say so itself, and what
    // was computed after it is void.
    enum status (*health)(struct transport *transport);
    void (*close)(struct transport *transport);
};

struct transport {
    const struct transport_table *table;
};

C_END
