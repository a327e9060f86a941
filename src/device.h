#pragma once
// Where the model runs: --backend cpu, cuda or auto.

#include "ops/backend.h"
#include "src/settings.h"

// The ranks of the job on this machine, which share its cores and its devices, and which this is.
struct device_share {
    int32_t ranks, rank;
};

// auto takes the CUDA plug-in if it is there, has a device and can score, else the CPU. With several
// devices ranks take them in turn (of those that CUDA_VISIBLE_DEVICES leaves). speaks: says what was
// chosen. Errors: USAGE (asked for what is not there), NO_MEMORY, PEER.
enum status device_open(const struct settings *settings, const struct device_share *share,
                        bool speaks, struct backend **opened);

// What --dtype means on this backend: auto is bf16 on CUDA and f32 on the CPU.
const char *device_dtype(const struct settings *settings, const struct backend *backend);
// A rank's tokens a step where --step-tokens does not say.
int64_t device_step_tokens(const struct backend *backend);
