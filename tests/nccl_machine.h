#pragma once
// A machine that plays NCCL and the streams of several devices, as tables for cuda/nccl_transport.h.
// Streams run one item after the other, in a random order among them. A send and a receive meet only
// when both have come to the front of their streams, in the order of calls between two ranks of a
// communicator; what is in one group does not wait for the rest of it. Nothing goes round a deadlock: it
// stands still, and the transport's own deadline ends it.

#include "cuda/nccl_transport.h"

// buffered: so many sends between two ranks are done before their receives come, as NCCL's are as long
// as its buffers have room; 0: none is.
struct machine *machine_open(int buffered, uint64_t seed);
void machine_close(struct machine *machine); // every device's place is closed

// A device's place for nccl_transport_open; its compute stream, closed with the machine.
struct nccl_place machine_place(struct machine *machine, int32_t rank);
void machine_id(struct transport_id *id, uint64_t number);
// Queued on the rank's compute stream. Calls of all ranks are made by one thread.
void machine_kernel(struct machine *machine, int32_t rank, void (*function)(void *),
                    void *argument);
// Waits until the compute stream is empty.
void machine_wait(struct machine *machine, int32_t rank);
// Receives of 8 bytes or more, in no group, that have come to the front on the rank. For kernels.
int64_t machine_receives(struct machine *machine, int32_t rank);
// The rank's calls after so many fail; -1: none does.
void machine_fail_after(struct machine *machine, int32_t rank, int64_t calls);
int64_t machine_aborts(struct machine *machine);
