#pragma once
// Where the model runs: --backend cpu, cuda or auto.

#include "ops/backend.h"
#include "src/settings.h"

// auto takes the CUDA plug-in if it is there, has a device and can score, else the CPU.
// local_ranks: ranks that share this machine's cores. speaks: says what was chosen.
// Errors: USAGE (asked for what is not there), NO_MEMORY, PEER.
enum status device_open(const struct settings *settings, int32_t local_ranks, bool speaks,
                        struct backend **opened);
