#include "src/device.h"

#include "ops/base/check.h"
#include "ops/cpu/cpu_backend.h"
#include "src/plugin_find.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

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

// What the CPU makes of a --dtype; false: it has no such.
static bool cpu_dtype_of(const char *name, enum cpu_dtype *dtype) {
    static const struct {
        const char *name;
        enum cpu_dtype dtype;
    } known[] = {
        {"auto",   CPU_F32   },
        {"f32",    CPU_F32   },
        {"bf16x3", CPU_BF16X3},
        {"bf16",   CPU_BF16  }
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strcmp(name, known[i].name) != 0) continue;
        *dtype = known[i].dtype;
        return true;
    }
    return false;
}

// A dtype that is slower than f32 and less exact is a mistake, unless numbers of another machine are
// to be met.
static void warn_of_slow(const char *isa, enum cpu_dtype dtype) {
    const bool half = strcmp(isa, "avx512bf16") == 0;
    if (dtype != CPU_BF16X3 || strcmp(isa, "amx") == 0) return;
    LOG(WARN, "--dtype bf16x3 without AMX: its products take %s times as long as those of f32",
        half ? "1.6" : "3");
}

static enum status open_cpu(const struct settings *settings, int64_t share, bool speaks,
                            struct backend **opened) {
    struct cpu_backend_settings cpu = {
        .threads = settings->threads > 0 ? settings->threads : share,
        .isa = settings->cpu_isa,
    };
    CHECK(cpu_dtype_of(settings->dtype, &cpu.dtype));
    TRY(cpu_backend_open(&cpu, opened));
    if (speaks) {
        const char *isa = cpu_backend_isa(*opened);
        LOG(INFO, "backend: cpu, %s, %" PRId64 " thread%s a rank, %s", isa, cpu.threads,
            cpu.threads == 1 ? "" : "s", (*opened)->numerics);
        warn_of_slow(isa, cpu.dtype);
    }
    return STATUS_OK;
}

static enum plugin_dtype plugin_dtype(const struct settings *settings) {
    if (strcmp(settings->dtype, "f32") == 0) return PLUGIN_F32;
    if (strcmp(settings->dtype, "tf32") == 0) return PLUGIN_TF32;
    if (strcmp(settings->dtype, "f16") == 0) return PLUGIN_F16;
    return PLUGIN_BF16;
}

static enum status open_cuda(const struct settings *settings, const struct plugin_found *found,
                             int32_t local_rank, bool speaks, struct backend **opened) {
    char text[128];
    const struct plugin_settings cuda = {.device = local_rank % found->devices,
                                         .dtype = plugin_dtype(settings)};
    TRY(found->plugin->open(&cuda, opened));
    TRY(found->plugin->describe(cuda.device, text, sizeof text));
    LOG(DEBUG, "rank %d of this machine has device %d of %d: %s", local_rank, cuda.device,
        found->devices, text);
    if (speaks) LOG(INFO, "backend: cuda, %s, %s", text, (*opened)->numerics);
    return STATUS_OK;
}

#define GATHER_MS 600000 // a rank may still be looking through its inputs

static enum status share_of_cores(const struct device_share *share, struct link *world,
                                  int64_t *cores) {
    int32_t mask_ranks = 0;
    if (world != NULL && world->ranks > 1) {
        struct cpu_seat mine;
        cpu_seat_here(&mine);
        struct cpu_seat *all = calloc((size_t)world->ranks, sizeof *all);
        if (all == NULL) return FAIL(NO_MEMORY, "seats of %d ranks", world->ranks);
        const enum status status = world->table->gather(world, &mine, sizeof mine, all, GATHER_MS);
        if (status == STATUS_OK) mask_ranks = cpu_seats_shared(all, world->ranks, world->rank);
        free(all);
        TRY(status);
    }
    *cores = cpu_cores_share(cpu_cores_bound(), mask_ranks > 0 ? mask_ranks : share->ranks,
                             cpu_cores_granted(), share->ranks);
    return STATUS_OK;
}

enum status device_open(const struct settings *settings, const struct device_share *share,
                        struct link *world, bool speaks, struct backend **opened) {
    struct plugin_found found;
    int64_t cores = 1;
    enum cpu_dtype dtype;
    const bool demanded = strcmp(settings->backend, "cuda") == 0;
    const bool cpu_can = cpu_dtype_of(settings->dtype, &dtype);
    const bool cuda_can = !cpu_can || dtype != CPU_BF16X3;
    TRY(share_of_cores(share, world, &cores));
    if (strcmp(settings->backend, "cpu") == 0 || (!demanded && !cuda_can)) {
        if (cpu_can) return open_cpu(settings, cores, speaks, opened);
        return FAIL(USAGE,
                    "--dtype %s: the CPU has f32, bf16x3 and bf16; use one of them, or "
                    "--backend cuda",
                    settings->dtype);
    }
    if (!cuda_can) return FAIL(USAGE, "--dtype bf16x3: CPUs only; use --backend cpu");
    plugin_find(&found);
    if (found.devices > 0) return open_cuda(settings, &found, share->rank, speaks, opened);
    if (demanded) return FAIL(USAGE, "--backend cuda: %s; use --backend cpu", found.why);
    if (!cpu_can) {
        return FAIL(USAGE,
                    "--dtype %s: not on cuda, since %s, and the CPU has f32, bf16x3 and bf16 only",
                    settings->dtype, found.why);
    }
    LOG(DEBUG, "backend: not cuda, since %s", found.why);
    return open_cpu(settings, cores, speaks, opened);
}

enum status device_share_begin(struct backend *backend, struct link *world, int32_t local_rank) {
    struct cpu_offer mine = {0};
    enum status status = STATUS_OK;
    if (world->ranks == 1) return STATUS_OK;
    struct cpu_offer *all = calloc((size_t)world->ranks, sizeof *all);
    if (all == NULL) return FAIL(NO_MEMORY, "offers of %d ranks", world->ranks);
    if (!runs_on_cuda(backend)) cpu_share_offer(backend, local_rank == 0, &mine);
    status = world->table->gather(world, &mine, sizeof mine, all, GATHER_MS);
    if (status == STATUS_OK && !runs_on_cuda(backend)) {
        (void)cpu_share_begin(backend, all, world->ranks, world->rank);
    }
    free(all);
    return status;
}

void device_share_end(struct backend *backend, const struct device_share *share, bool speaks) {
    if (runs_on_cuda(backend)) return;
    const size_t bytes = cpu_share_end(backend);
    if (speaks && bytes > 0) {
        LOG(INFO, "weights: one copy of %zu MiB for the %d ranks of this machine", bytes >> 20,
            share->ranks);
    }
}
