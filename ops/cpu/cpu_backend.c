#define _GNU_SOURCE // madvise; before any header of the system

#include "ops/cpu/cpu_backend.h"

#include "ops/base/check.h"
#include "ops/base/room.h"
#include "ops/cpu/kernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define HUGE_PAGE          ((size_t)2 << 20)
#define WINDOW_TOKENS      512
#define THREADS_MOST       1024
#define WINDOW_TOKENS_MOST (1 << 20)

// Large blocks lie on huge pages where the system has them to give: the weights of one step are
// hundreds of megabytes read once in order.
enum status cpu_memory(size_t bytes, void **memory) {
    const size_t alignment = bytes >= 4 * HUGE_PAGE ? HUGE_PAGE : 64;
    if (bytes > SIZE_MAX - alignment) return FAIL(NO_MEMORY, "%zu bytes of memory", bytes);
    const size_t whole = (bytes + alignment - 1) / alignment * alignment;
    void *block = aligned_alloc(alignment, whole == 0 ? alignment : whole);
    if (block == NULL) return FAIL(NO_MEMORY, "%zu bytes of memory", bytes);
    if (alignment == HUGE_PAGE) (void)madvise(block, whole, MADV_HUGEPAGE);
    *memory = block;
    return STATUS_OK;
}

enum status cpu_scratch(struct cpu_backend *cpu, size_t bytes, void **memory) {
    if (bytes > cpu->scratch_bytes) {
        void *grown = NULL;
        TRY(cpu_memory(bytes, &grown));
        free(cpu->scratch);
        cpu->scratch = grown;
        cpu->scratch_bytes = bytes;
    }
    *memory = cpu->scratch;
    return STATUS_OK;
}

static enum status cpu_alloc(struct backend *backend, size_t bytes, void **memory) {
    (void)backend;
    TRY(cpu_memory(bytes, memory));
    memset(*memory, 0, bytes);
    return STATUS_OK;
}

static void cpu_release(struct backend *backend, void *memory) {
    if (!cpu_share_holds(cpu_backend_of(backend), memory)) free(memory);
}

static enum status cpu_keep(struct backend *backend, const void *values, size_t bytes,
                            void **memory) {
    struct cpu_backend *cpu = cpu_backend_of(backend);
    bool written = false;
    if (cpu->share.open) {
        TRY(cpu_share_place(cpu, bytes, memory, &written));
    } else {
        TRY(cpu_memory(bytes, memory));
    }
    if (!written && bytes > 0) memcpy(*memory, values, bytes);
    return STATUS_OK;
}

static enum status cpu_upload(struct backend *backend, void *to, const void *host, size_t bytes) {
    (void)backend;
    if (bytes > 0) memcpy(to, host, bytes);
    return STATUS_OK;
}

static enum status cpu_download(struct backend *backend, void *host, const void *from,
                                size_t bytes) {
    (void)backend;
    if (bytes > 0) memcpy(host, from, bytes);
    return STATUS_OK;
}

static enum status cpu_call(struct backend *backend, void (*function)(void *), void *argument) {
    (void)backend;
    function(argument);
    return STATUS_OK;
}

static enum status cpu_wait(struct backend *backend) {
    (void)backend;
    return STATUS_OK;
}

// What is queued is done at once, so every mark is reached.
static enum status cpu_mark(struct backend *backend, int32_t which) {
    (void)backend;
    (void)which;
    return STATUS_OK;
}

static enum status cpu_reached(struct backend *backend, int32_t which, bool *reached) {
    (void)backend;
    (void)which;
    *reached = true;
    return STATUS_OK;
}

static void cpu_close(struct backend *backend) {
    if (backend == NULL) return;
    struct cpu_backend *cpu = cpu_backend_of(backend);
    team_close(cpu->team);
    cpu_share_close(cpu);
    free(cpu->scratch);
    free(cpu);
}

static const struct backend_table cpu_table = {
    .name = "cpu",
    .host_memory = true,
    .alloc = cpu_alloc,
    .release = cpu_release,
    .keep = cpu_keep,
    .host_alloc = cpu_alloc,
    .host_release = cpu_release,
    .upload = cpu_upload,
    .download = cpu_download,
    .call = cpu_call,
    .wait = cpu_wait,
    .mark = cpu_mark,
    .reached = cpu_reached,
    .close = cpu_close,
    .pack = cpu_pack,
    .release_packed = cpu_release_packed,
    .embedding = cpu_embedding,
    .rms_norm = cpu_rms_norm,
    .linear = cpu_linear,
    .conv_tail = cpu_conv_tail,
    .causal_conv = cpu_causal_conv,
    .dt = cpu_dt,
    .chunk_cumsum = cpu_chunk_cumsum,
    .chunk_cb = cpu_chunk_cb,
    .chunk_state = cpu_chunk_state,
    .state_passing = cpu_state_passing,
    .chunk_scan = cpu_chunk_scan,
    .gated_norm = cpu_gated_norm,
    .head = cpu_head,
    .best = cpu_best,
    .ceilings = cpu_ceilings,
};

// Part of the numerics id: another word, other bits.
static const char *const arithmetic[] = {
    [CPU_F32] = "f32 v1 fma-chain",
    [CPU_BF16X3] = "bf16x3 v1 even-odd32",
    [CPU_BF16] = "bf16 v1 even-odd32",
};

const char *cpu_layout(const struct cpu_backend *cpu) {
    return cpu->parts == 0 ? "f32" : cpu->bf16->layout;
}

const char *cpu_backend_isa(struct backend *backend) {
    return cpu_backend_of(backend)->isa;
}

enum status cpu_backend_open(const struct cpu_backend_settings *settings, struct backend **opened) {
    enum status status = STATUS_OK;
    const int64_t window = settings->window_tokens == 0 ? WINDOW_TOKENS : settings->window_tokens;
    struct cpu_isa isa;
    TRY(cpu_isa_find(settings->isa, settings->dtype, &isa));
    if (settings->threads < 0 || settings->threads > THREADS_MOST) {
        return FAIL(USAGE, "--threads %lld: not in 0 to %d", (long long)settings->threads,
                    THREADS_MOST);
    }
    if (window < CPU_TILE_TOKENS || window > WINDOW_TOKENS_MOST || window % CPU_TILE_TOKENS != 0) {
        return FAIL(USAGE, "a window of %lld tokens: not a multiple of %d up to %d",
                    (long long)window, CPU_TILE_TOKENS, WINDOW_TOKENS_MOST);
    }
    struct cpu_backend *cpu = calloc(1, sizeof *cpu);
    if (cpu == NULL) return FAIL(NO_MEMORY, "cpu backend");
    cpu->base.table = &cpu_table;
    cpu->base.tile_tokens = CPU_TILE_TOKENS;
    cpu->base.window_tokens = window;
    cpu->isa = isa.name;
    cpu->kernels = isa.kernels;
    cpu->bf16 = isa.bf16;
    cpu->parts = settings->dtype == CPU_F32 ? 0 : settings->dtype == CPU_BF16 ? 1 : 2;
    // No word of instruction set or threads: their bits are the same.
    snprintf(cpu->base.numerics, sizeof cpu->base.numerics, "cpu %s tile%d head%d",
             arithmetic[settings->dtype], CPU_TILE_TOKENS, CPU_HEAD_BLOCK);
    TRY_OUT(status,
            team_open(settings->threads == 0 ? cpu_cores() : settings->threads, &cpu->team));
    *opened = &cpu->base;
    cpu = NULL; // the caller's now
out:
    if (cpu != NULL) cpu_close(&cpu->base);
    return status;
}
