// Which instruction sets this machine has, and which kernels are for them.

#define _GNU_SOURCE // syscall; before any header of the system

#include "ops/cpu/cpu_backend.h"
#include "ops/cpu/kernels.h"

#include <stdio.h>
#include <string.h>

#if defined(__x86_64__)

#    include <cpuid.h>
#    include <sys/syscall.h>
#    include <unistd.h>

static bool has_avx2(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("bmi2");
}

static bool has_avx512(void) {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

static bool has_avx512bf16(void) {
    return has_avx512() && __builtin_cpu_supports("avx512bf16");
}

#    define CPUID_OSXSAVE  (1U << 27)            // leaf 1, ecx
#    define CPUID_AMX      (1U << 22 | 1U << 24) // leaf 7, edx: AMX-BF16, AMX-TILE
#    define XCR0_TILES     (3U << 17)
#    define ASK_PERMISSION 0x1023 // arch_prctl's ARCH_REQ_XCOMP_PERM
#    define TILE_DATA      18

// The processor's word, the system's that it saves tiles, and its leave for this process, which a
// container may refuse.
static bool has_amx(void) {
    unsigned a = 0, b = 0, c = 0, d = 0, low = 0, high = 0;
    if (!has_avx512() || __get_cpuid(1, &a, &b, &c, &d) == 0 || (c & CPUID_OSXSAVE) == 0) {
        return false;
    }
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (d & CPUID_AMX) != CPUID_AMX) return false;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    if ((low & XCR0_TILES) != XCR0_TILES) return false;
    return syscall(SYS_arch_prctl, ASK_PERMISSION, TILE_DATA) == 0;
}

#endif

static bool has_always(void) {
    return true;
}

// Best first. own: the kernels of f32 are its own and not those of the next best.
static const struct place {
    struct cpu_isa isa;
    bool own;
    bool (*here)(void);
} places[] = {
#if defined(__x86_64__)
    {{"amx", &cpu_kernels_avx512, &bf16_kernels_amx},               false, has_amx       },
    {{"avx512bf16", &cpu_kernels_avx512, &bf16_kernels_avx512bf16}, false, has_avx512bf16},
    {{"avx512", &cpu_kernels_avx512, &bf16_kernels_avx512},         true,  has_avx512    },
    {{"avx2", &cpu_kernels_avx2, &bf16_kernels_avx2},               true,  has_avx2      },
#elif defined(__aarch64__)
    {{"neon", &cpu_kernels_neon, &bf16_kernels_neon}, true, has_always},
#endif
    {{"scalar", &cpu_kernels_scalar, &bf16_kernels_scalar},         true,  has_always    },
};

#define PLACES (sizeof places / sizeof places[0])

const char cpu_isas_built[] =
#if defined(__x86_64__)
    "amx avx512bf16 avx512 avx2 "
#elif defined(__aarch64__)
    "neon "
#endif
    "scalar";

size_t cpu_isa_list(const char **names, size_t most) {
    size_t count = 0;
    for (size_t i = 0; i < PLACES; i++) {
        if (!places[i].here()) continue;
        if (count < most) names[count] = places[i].isa.name;
        count++;
    }
    return count;
}

static bool is_auto(const char *name) {
    return name == NULL || strcmp(name, "auto") == 0;
}

static enum status no_such_isa(const char *name) {
    const char *names[PLACES];
    char list[64] = "auto";
    const size_t count = cpu_isa_list(names, PLACES);
    for (size_t i = 0; i < count; i++) {
        const size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, ", %s", names[i]);
    }
    return FAIL(USAGE, "--cpu-isa %s: this machine has %s", name, list);
}

enum status cpu_isa_find(const char *name, enum cpu_dtype dtype, struct cpu_isa *found) {
    const bool any = is_auto(name);
    for (size_t i = 0; i < PLACES; i++) {
        const struct place *place = &places[i];
        const bool wanted =
            any ? place->own || dtype != CPU_F32 : strcmp(name, place->isa.name) == 0;
        if (!wanted || !place->here()) continue;
        *found = place->isa;
        return STATUS_OK;
    }
    return no_such_isa(name);
}

const struct cpu_kernels *cpu_kernels_find(const char *isa) {
    for (size_t i = 0; i < PLACES; i++) {
        const bool wanted = is_auto(isa) || strcmp(isa, places[i].isa.name) == 0;
        if (wanted && places[i].here()) return places[i].isa.kernels;
    }
    return NULL;
}
