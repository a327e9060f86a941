// The plug-in's door: the exported function, its table, and the log handed through to the program.

#include "cuda/plugin.h"

#include "cuda/cuda_backend.h"
#include "cuda/cuda_libraries.h"
#include "ops/base/check.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define OLDEST_MAJOR 8 // compute capability that the kernels are built for, and newer ones

static _Atomic(const struct plugin_host *) plugin_host;

bool log_on(enum log_level level) {
    const struct plugin_host *host = atomic_load(&plugin_host);
    return host != NULL && host->log_on(level);
}

void log_write(enum log_level level, const char *file, int line, const char *format, ...) {
    const struct plugin_host *host = atomic_load(&plugin_host);
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (host != NULL) host->log_write(level, file, line, "%s", text);
}

void check_failed(const char *file, int line, const char *what) {
    atomic_load(&plugin_host)->check_failed(file, line, what);
}

// Without a driver the runtime answers with an error, which here means: none. The fastest devices come
// first, and behind one that is too old nothing is looked for.
static int32_t device_count(void) {
    int count = 0, able = 0, major = 0;
    if (cudaGetDeviceCount(&count) != cudaSuccess) return 0;
    while (able < count &&
           cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, able) == cudaSuccess) {
        if (major < OLDEST_MAJOR) break;
        able++;
    }
    return able;
}

static enum status describe(int32_t device, char *text, size_t bytes) {
    struct cudaDeviceProp properties;
    CUDA_TRY(cudaGetDeviceProperties(&properties, device));
    snprintf(text, bytes, "%s, %zu GiB, compute capability %d.%d", properties.name,
             properties.totalGlobalMem >> 30, properties.major, properties.minor);
    return STATUS_OK;
}

static const struct plugin plugin_table = {
    .abi = PLUGIN_ABI,
    .device_count = device_count,
    .describe = describe,
    .open = cuda_backend_open,
    .libraries = cuda_libraries,
};

__attribute__((visibility("default"))) plugin_entry longscan_cuda_plugin;

// Before the driver starts: with its default of 8, streams that have nothing to do with each other
// share a way to the device, and one that waits for a peer would hold up one that computes.
static void prepare_driver(void) {
    (void)setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0);
}

const struct plugin *longscan_cuda_plugin(const struct plugin_host *host) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, prepare_driver);
    atomic_store(&plugin_host, host);
    return &plugin_table;
}
