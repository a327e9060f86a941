#pragma once
// A backend that is late: everything queued is done by a thread of its own, after a random delay,
// long after the caller has gone on. Whoever takes a queued thing for done fails with it.

#include "ops/backend.h"

// inner: runs the operators and has the memory; it is the queue's from now on, close closes it.
// NULL: host memory, uploads, downloads and calls only (what the toy model needs).
// most_delay_us: every second thing queued waits a random time up to this; 0: none waits.
// The first failure of something queued is what every later wait returns; calls still run.
// Thread: one thread queues. Errors: NO_MEMORY, UNEXPECTED.
enum status queue_backend_open(struct backend *inner, uint64_t seed, int32_t most_delay_us,
                               struct backend **opened);
// The same with memory that only what is queued may touch, as a GPU's: whoever else does dies.
enum status device_backend_open(uint64_t seed, int32_t most_delay_us, struct backend **opened);
