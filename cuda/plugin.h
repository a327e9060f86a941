#pragma once
// The one thing the CUDA plug-in shows: a C function that gives a table. No CUDA type crosses, so
// the program starts, and says why it goes on without, on machines that have no driver.

#include "ops/backend.h"
#include "ops/base/library.h"
#include "ops/base/log.h"

C_BEGIN

// Raised with every change of this file, ops/backend.h, ops/transport.h, ops/base/status.h,
// ops/base/library.h or ops/base/log.h.
#define PLUGIN_ABI    10
#define PLUGIN_FILE   "liblongscan_cuda.so"
#define PLUGIN_SYMBOL "longscan_cuda_plugin"

// What the plug-in takes from the program, so that there is one log and one way to stop.
struct plugin_host {
    bool (*log_on)(enum log_level level);
    void (*log_write)(enum log_level level, const char *file, int line, const char *format, ...)
        PRINTF_LIKE(4, 5);
    __attribute__((noreturn)) void (*check_failed)(const char *file, int line, const char *what);
};

// What rows and weights of the products are rounded to; all else is f32.
enum plugin_dtype { PLUGIN_F32, PLUGIN_TF32, PLUGIN_BF16, PLUGIN_F16 };

struct plugin_settings {
    int32_t device; // index among the devices this process sees
    enum plugin_dtype dtype;
    int64_t window_tokens; // rows the model works at a time; 0: the default
};

struct plugin {
    uint32_t abi; // PLUGIN_ABI of the build
    // How many devices there are that are new enough; 0 without a driver. Never fails.
    int32_t (*device_count)(void);
    // "NVIDIA H200, 140 GiB, compute capability 9.0". Errors: PEER.
    enum status (*describe)(int32_t device, char *text, size_t bytes);
    // Errors: PEER, NO_MEMORY.
    enum status (*open)(const struct plugin_settings *settings, struct backend **opened);
    // CUDA's runtime and driver, cuBLASLt, NCCL. Writes up to `most` and returns how many there are.
    // Starts nothing on a device. Never fails.
    int32_t (*libraries)(struct library *library, int32_t most);
};

// Borrows the host's table for good. Never fails.
typedef const struct plugin *plugin_entry(const struct plugin_host *host);

C_END
