#pragma once
// The backend that runs on this machine's processor. Operators run at once, inside the call; a team
// of threads shares each one. Bits depend on neither threads nor instruction set.

#include "ops/backend.h"

// The longest tile of a scan; divides CHUNK_TOKENS.
#define CPU_TILE_TOKENS 64

// Of the products with weights; all else is f32. bf16x3: both operands as a sum of two bf16, three
// products; bf16: both rounded (ops/cpu/bf16_kernels.h).
enum cpu_dtype { CPU_F32, CPU_BF16X3, CPU_BF16 };

struct cpu_backend_settings {
    enum cpu_dtype dtype;
    int64_t threads;       // 0: the cores this process may use
    const char *isa;       // "auto" (NULL is the same), or a name of cpu_isa_list
    int64_t window_tokens; // 0: the default; else a multiple of CPU_TILE_TOKENS
};

// Owns:   the caller closes it through its table.
// Errors: USAGE (an instruction set this machine lacks, a window that is no whole number of
//         tiles), NO_MEMORY, UNEXPECTED (no thread could be started).
enum status cpu_backend_open(const struct cpu_backend_settings *settings, struct backend **opened);

// The instruction sets this machine can run, best first; the last is always "scalar". Writes up to
// `most` names and returns how many there are. What differs in bf16 only, as amx, takes the next
// best for the rest.
size_t cpu_isa_list(const char **names, size_t most);
#define CPU_ISAS_MOST 6
extern const char cpu_isas_built[]; // "avx512 avx2 scalar": whatever the machine can run
// The one that this backend's products run on.
const char *cpu_backend_isa(struct backend *backend);

// One copy of the weights for the ranks of a machine (cpu_share.c). In this order: every rank makes an
// offer, of them the machine's first one of memory; all get all offers, by rank; each begins, places
// its model, and ends. Between, what is packed or kept lies in the memory of the first that suits, and
// must be the same weights in the same order in all; until all have agreed on that, nothing may be
// computed. Where it cannot be had, a line says so and the rank has its own copy.
struct cpu_offer {
    uint64_t machine, device, inode;
    int32_t process, fd; // process 0: no memory is offered
    char layout[32];     // of packed weights
};
void cpu_share_offer(struct backend *backend, bool first, struct cpu_offer *offer);
// false: nothing is shared.
bool cpu_share_begin(struct backend *backend, const struct cpu_offer *offers, int32_t count,
                     int32_t own);
size_t cpu_share_end(struct backend *backend); // the bytes that are shared

// The cores this process may use: the affinity mask, cut to the cgroup's quota. At least 1.
int64_t cpu_cores(void);
int64_t cpu_cores_bound(void);   // of the affinity mask alone
int64_t cpu_cores_granted(void); // of the cgroup alone; 0: it sets no limit

// Which machine this is, as far as memory and cores are concerned; 0: cannot be told.
uint64_t cpu_machine_id(void);
// Where a process may run; crosses ranks as it is.
struct cpu_seat {
    uint64_t machine;   // 0: cannot be told
    uint64_t cores[16]; // bit i % 64 of word i / 64: core i
};
void cpu_seat_here(struct cpu_seat *seat);
// How many of these may run on a core of own's, which is one of them. 0: cannot be told.
int32_t cpu_seats_shared(const struct cpu_seat *seats, int32_t count, int32_t own);
// One rank's part of cpu_cores: `mask_ranks` share the affinity mask, `machine_ranks` the quota. At least 1.
int64_t cpu_cores_share(int64_t bound, int32_t mask_ranks, int64_t granted, int32_t machine_ranks);
