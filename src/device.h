#pragma once
// Where the model runs: --backend cpu, cuda or auto.

#include "ops/backend.h"
#include "pipeline/link.h"
#include "src/settings.h"

// The ranks of the job on this machine, which share its cores and its devices, and which this is.
struct device_share {
    int32_t ranks, rank;
};

// auto takes the CUDA plug-in if it is there, has a device and can score, else the CPU. With several
// devices ranks take them in turn (of those that CUDA_VISIBLE_DEVICES leaves). Threads of a CPU: as many as
// the rank's part of the cores, which it has to itself where a launcher has bound each rank to its own.
// Collective over the world; NULL: there is none. speaks: says what was chosen. Errors: USAGE (asked for
// what is not there), NO_MEMORY, PEER.
enum status device_open(const struct settings *settings, const struct device_share *share,
                        struct link *world, bool speaks, struct backend **opened);

// Before and after the model is placed: the ranks of a machine place one copy of it, where they can;
// collective over the world. Nothing may be computed before pipeline_agree. speaks: says how much.
// Errors: PEER, NO_MEMORY.
enum status device_share_begin(struct backend *backend, struct link *world, int32_t local_rank);
void device_share_end(struct backend *backend, const struct device_share *share, bool speaks);

// What --dtype means on this backend: auto is bf16 on CUDA and f32 on the CPU.
const char *device_dtype(const struct settings *settings, const struct backend *backend);
// A rank's tokens a step where --step-tokens does not say.
int64_t device_step_tokens(const struct backend *backend);
