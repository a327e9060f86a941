#include "src/device.h"

#include "cuda/plugin.h"
#include "ops/base/check.h"
#include "ops/cpu/cpu_backend.h"

#include <dlfcn.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct plugin_host host = {
    .log_on = log_on, .log_write = log_write, .check_failed = check_failed};

#define CPU_STEP_TOKENS  4096  // 4 chunks, a few seconds on a core
#define CUDA_STEP_TOKENS 32768 // enough to keep a large GPU busy, and a state's way short beside it

static bool runs_on_cuda(const struct backend *backend) {
    return strcmp(backend->table->name, "cuda") == 0;
}

const char *device_dtype(const struct settings *settings, const struct backend *backend) {
    if (strcmp(settings->dtype, "auto") != 0) return settings->dtype;
    return runs_on_cuda(backend) ? "bf16" : "f32";
}

int64_t device_step_tokens(const struct backend *backend) {
    return runs_on_cuda(backend) ? CUDA_STEP_TOKENS : CPU_STEP_TOKENS;
}

static enum status open_cpu(const struct settings *settings, int32_t local_ranks, bool speaks,
                            struct backend **opened) {
    const int64_t share = cpu_cores() / (local_ranks > 0 ? local_ranks : 1);
    const struct cpu_backend_settings cpu = {
        .threads = settings->threads > 0 ? settings->threads
                   : share > 0           ? share
                                         : 1,
        .isa = settings->cpu_isa,
    };
    TRY(cpu_backend_open(&cpu, opened));
    if (speaks) {
        const char *isa = settings->cpu_isa;
        if (strcmp(isa, "auto") == 0) cpu_isa_list(&isa, 1);
        LOG(INFO, "backend: cpu, %s, %" PRId64 " thread%s a rank, %s", isa, cpu.threads,
            cpu.threads == 1 ? "" : "s", (*opened)->numerics);
    }
    return STATUS_OK;
}

// LONGSCAN_PLUGIN, or beside the executable, or where installation puts it.
static void *load_plugin(char *why, size_t why_bytes) {
    static const char *const places[] = {"", "../lib/longscan/", "../lib/"};
    const char *named = getenv("LONGSCAN_PLUGIN");
    char folder[3072];
    char path[4096];
    void *library = NULL;
    if (named != NULL && *named != '\0') {
        library = dlopen(named, RTLD_NOW | RTLD_LOCAL);
        if (library == NULL) snprintf(why, why_bytes, "%s", dlerror());
        return library;
    }
    const ssize_t bytes = readlink("/proc/self/exe", folder, sizeof folder - 1);
    if (bytes <= 0) {
        snprintf(why, why_bytes, "/proc/self/exe cannot be read");
        return NULL;
    }
    folder[bytes] = '\0';
    *(strrchr(folder, '/') + 1) = '\0';
    snprintf(why, why_bytes, "%s is not beside the program", PLUGIN_FILE);
    for (size_t i = 0; library == NULL && i < sizeof places / sizeof places[0]; i++) {
        snprintf(path, sizeof path, "%s%s%s", folder, places[i], PLUGIN_FILE);
        if (access(path, F_OK) != 0) continue;
        library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        if (library == NULL) snprintf(why, why_bytes, "%s", dlerror());
    }
    return library;
}

// The library stays loaded until the program ends. NULL: `why` says why not.
static const struct plugin *find_plugin(char *why, size_t why_bytes) {
    plugin_entry *entry = NULL;
    void *library = load_plugin(why, why_bytes);
    if (library == NULL) return NULL;
    void *symbol = dlsym(library, PLUGIN_SYMBOL);
    if (symbol == NULL) {
        snprintf(why, why_bytes, "%s is no plug-in of this program", PLUGIN_FILE);
        return NULL;
    }
    memcpy(&entry, &symbol, sizeof entry); // POSIX's way from an object pointer to a function's
    const struct plugin *plugin = entry(&host);
    if (plugin == NULL || plugin->abi != PLUGIN_ABI) {
        snprintf(why, why_bytes, "%s belongs to another version of the program", PLUGIN_FILE);
        return NULL;
    }
    if (plugin->device_count() <= 0) {
        snprintf(why, why_bytes,
                 "no CUDA driver, or no device since compute capability 8.0, was found");
        return NULL;
    }
    return plugin;
}

static enum plugin_dtype plugin_dtype(const struct settings *settings) {
    if (strcmp(settings->dtype, "f32") == 0) return PLUGIN_F32;
    if (strcmp(settings->dtype, "tf32") == 0) return PLUGIN_TF32;
    if (strcmp(settings->dtype, "f16") == 0) return PLUGIN_F16;
    return PLUGIN_BF16;
}

static enum status open_cuda(const struct settings *settings, const struct plugin *plugin,
                             int32_t local_rank, bool speaks, struct backend **opened) {
    char text[128];
    const int32_t devices = plugin->device_count();
    const struct plugin_settings cuda = {.device = local_rank % devices,
                                         .dtype = plugin_dtype(settings)};
    TRY(plugin->open(&cuda, opened));
    TRY(plugin->describe(cuda.device, text, sizeof text));
    LOG(DEBUG, "rank %d of this machine has device %d of %d: %s", local_rank, cuda.device, devices,
        text);
    if (speaks) LOG(INFO, "backend: cuda, %s, %s", text, (*opened)->numerics);
    return STATUS_OK;
}

enum status device_open(const struct settings *settings, const struct device_share *share,
                        bool speaks, struct backend **opened) {
    char why[512] = "";
    const bool demanded = strcmp(settings->backend, "cuda") == 0;
    const bool cpu_can =
        strcmp(settings->dtype, "auto") == 0 || strcmp(settings->dtype, "f32") == 0;
    if (strcmp(settings->backend, "cpu") == 0) {
        if (cpu_can) return open_cpu(settings, share->ranks, speaks, opened);
        return FAIL(USAGE,
                    "--dtype %s: the CPU computes in f32; use --dtype f32, or --backend cuda",
                    settings->dtype);
    }
    const struct plugin *plugin = find_plugin(why, sizeof why);
    if (plugin != NULL) return open_cuda(settings, plugin, share->rank, speaks, opened);
    if (demanded) return FAIL(USAGE, "--backend cuda: %s; use --backend cpu", why);
    if (!cpu_can) {
        return FAIL(USAGE,
                    "--dtype %s: the CPU computes in f32, and not cuda, since %s; use --dtype f32",
                    settings->dtype, why);
    }
    LOG(DEBUG, "backend: not cuda, since %s", why);
    return open_cpu(settings, share->ranks, speaks, opened);
}
