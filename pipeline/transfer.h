#pragma once
// One state on its way between this rank's host memory and a peer, carried by the communication
// thread. For transports over it; everybody else uses ops/transport.h.

#include "pipeline/comm.h"

struct transfer;
struct staging;

// What a transfer carries, and where. Sends read `out`, receives write `in`.
struct transfer_order {
    bool sending;
    enum channel channel;
    int32_t peer;
    uint32_t tag;
    const void *out;
    void *in;
    size_t bytes;
    // The transport's own: where in backend memory this belongs, and what it is staged in.
    void *place;
    struct staging *staging;
};

// Not started yet. Counted: the caller holds it once. Thread: any, as for all below.
// Errors: NO_MEMORY.
enum status transfer_make(struct comm *comm, const struct transfer_order *order,
                          struct transfer **made);
const struct transfer_order *transfer_order(const struct transfer *transfer);
void transfer_start(struct transfer *transfer);
void transfer_hold(struct transfer *transfer);
void transfer_drop(struct transfer *transfer); // the last one to drop it releases it
// Until it is started and done. Errors: PEER.
enum status transfer_wait(struct transfer *transfer);
