#pragma once
// States from GPU to GPU. Each edge of the line has a communicator of two ranks and the moves have one
// of all ranks, each with a stream of its own, so what waits on one holds up none of the others. NCCL
// has no tags: between two ranks of a communicator sends and receives match in the order of calls.
//
// NCCL and the streams come as tables: on a GPU they are libnccl and CUDA (cuda_transport.c), in the
// test they are a machine that looks for deadlocks.

#include "cuda/nccl_api.h"
#include "ops/transport.h"

C_BEGIN

// Streams and events of one device. Thread: any.
struct stream_api {
    enum status (*enter)(void *device); // a thread that goes on to call says so first
    enum status (*stream_open)(void *device, void **stream); // served before others
    void (*stream_close)(void *stream);
    enum status (*event_open)(void **event);
    void (*event_close)(void *event);
    enum status (*record)(void *event, void *stream);
    enum status (*wait)(void *stream, void *event); // what is queued after this, not the host
    enum status (*query)(void *event, bool *done);  // true if it was never recorded
    void (*close)(void *device); // the transport is closed and needs its place no more
};

struct nccl_place {
    const struct nccl_api *nccl;
    const struct stream_api *streams;
    void *device;  // what the streams' table wants to know of it
    void *compute; // the stream that states are computed on
    char *scratch; // [NCCL_SCRATCH * ranks] bytes of the device, until the transport is closed
};
enum { NCCL_SCRATCH = 16 };

// Collective. The place is copied, its device the transport's from now on. ids[r].key[0]: the id of the edge from rank r to the next;
// ids[0].key[1]: that of the moves. Errors: PEER, NO_MEMORY.
enum status nccl_transport_open(const struct nccl_place *place,
                                const struct transport_settings *settings,
                                struct transport **opened);

C_END
