// A plug-in as cuda/plugin.h describes them, that computes on the CPU and is wrong: every product is a
// thousandth too large. So that runs of the program can be seen to find out.

#include "cuda/plugin.h"
#include "ops/cpu/cpu_backend.h"

#include <stdio.h>

static const struct backend_table *right;
static struct backend_table wrong;

static enum status wrong_linear(struct backend *backend, const struct linear_args *args) {
    TRY(right->linear(backend, args));
    for (int64_t row = 0; row < args->out.rows && !args->add; row++) {
        for (int64_t i = 0; i < args->out.columns; i++) {
            args->out.data[row * args->out.stride + i] *= 1.001F;
        }
    }
    return STATUS_OK;
}

static enum status wrong_open(const struct plugin_settings *settings, struct backend **opened) {
    const struct cpu_backend_settings cpu = {.threads = 1};
    (void)settings;
    TRY(cpu_backend_open(&cpu, opened));
    right = (*opened)->table;
    wrong = *right;
    wrong.linear = wrong_linear;
    (*opened)->table = &wrong;
    return STATUS_OK;
}

static int32_t one_device(void) {
    return 1;
}

static enum status describe(int32_t device, char *text, size_t bytes) {
    snprintf(text, bytes, "wrong device %d", device);
    return STATUS_OK;
}

static int32_t libraries(struct library *library, int32_t most) {
    if (most > 0) *library = (struct library){.name = "wrong", .built = "2.0", .running = "1.0"};
    return most > 0;
}

static const struct plugin table = {
    .abi = PLUGIN_ABI,
    .device_count = one_device,
    .describe = describe,
    .open = wrong_open,
    .libraries = libraries,
};

__attribute__((visibility("default"))) plugin_entry longscan_cuda_plugin;

const struct plugin *longscan_cuda_plugin(const struct plugin_host *host) {
    (void)host;
    return &table;
}
