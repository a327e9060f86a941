// The Hopper scan's last step: y, the gate, and the squares for the norm. Nothing is carried from row
// to row: prepare and pass have left the state before every chunk of 128 rows in two parts, Ht, the
// state before its tile, and Hl, what the tile's rows before the chunk add to it. In a chunk, with s, w
// and dt of a half's 64 rows (hopper_scan_shared.h) and f0 the decay over the lower half:
//
//   H   = fall Ht + Hl
//   y_i = 2^(s_i) C_i H^T + M_i X0                                             i in half 0
//   y_i = 2^(s_i) f0 C_i H^T + (2^(s_i) w_j C_i . B0_j)_j X0 + M_i X1          i in half 1
//   M_ij = C_i . B_j 2^(s_i - s_j) dt_j for j <= i, both of one half, else 0; and D more for j = i
//
// No factor is above 1, but for dt. A persistent block takes tickets: units of a chunk and some heads of
// a group, which share C, B and the scores C B^T. Warpgroup 2 t + u of the four is half u of team t, and
// the teams take the unit's heads in turn. One thread each of the warps 16 + t brings what team t needs,
// one of warp 18 what both do.
//
// Barriers in shared memory, each with a full and an empty one:
//   unit[2]        what to do next                                    empty: 16 warps, 2 that bring
//   b, c           of a unit                                          empty: 16 warps
//   tile           of each team, of a head: Ht                        empty: the 4 lower warps
//   state          Hl, or Ht in a tile's first chunk                  empty: 8 warps
//   state_ready    H is in its place: 4 arrivals, the lower warps; 8 wait
//   decay[2]       of the rows, and fall                              empty: 8 warps
//   x; z           x; z and norm weights                              empty: 8 warps
//
//   unit:  scores, rounded to bf16, stay with the thread that needs them: a half's own in registers,
//          those left of the upper half in `left`; B is empty
//   head:  the lower warpgroup makes H, a fence: Ht is empty, H is ready
//          C H^T starts; M of the left and of the own rows; waited for: H is empty, after the last head
//          C, too
//          y scaled; M X starts; half the gate; waited for: x and decays are empty
//          v -> z's place, a fence; each warp starts the copy of its 16 rows, and when that has read them
//          z is empty
//
// A team's warpgroups meet at H only. A short half's rows are cleared by its own warpgroup. Where there is
// no state the product is with zeros: around a branch the compiler would make products wait.

#include "cuda/cuda_check.h"
#include "cuda/hopper_scan_half.cuh"
#include "cuda/overlap.cuh"

namespace {

using namespace ssd;

constexpr int kMostHeads = 8; // of a unit

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

template <int kHalf>
__device__ __forceinline__ void do_head(const kernel_args &a, const scan_maps &maps,
                                        shared_memory &s, const unit_info &unit, int head,
                                        uint32_t n, const uint32_t (&score)[16],
                                        const warp_numbers &w) {
    team_memory &team = s.team[w.team];
    const uint32_t turn = n % kTurns;
    const uint32_t full = n & 1;
    const bool stateless = __shfl_sync(~0u, unit.chunk == 0 && (unit.flags & STATE) == 0, 0) != 0;
    const float d = a.d[head];
    float y[32];
    uint32_t left[16], m[16];
    if (kHalf == 0) make_state(team, unit, n, w);
    await(&team.state_ready, full);
    product_begin();
    product_over_state(y, s.c[kHalf],
                       stateless ? operand_of_zeros(s.zeros) : operand_of(team.state));
    product_commit();
    if (kHalf == 1) await(&team.decay_full[turn], n / kTurns & 1);
    const float2 up = make_masks<kHalf>(left, m, score, team, turn, d, w);
    product_wait<0>();
    product_done(y);
    if (w.leads) {
        arrive(&team.state_empty);
        if (head + kTeams >= unit.end) arrive(&s.c_empty);
    }
    await(&team.x_full, full);
    const int rows = unit.rows - kHalf * SCAN_SUBTILE;
    if (rows < SCAN_SUBTILE) {
        clear_rows(team.x[kHalf], rows, w.me.thread);
        store_fence();
        warpgroup_sync(1 + 2 * w.team + kHalf);
    }
    scale_rows(y, up);
    product_begin();
    if (kHalf == 1) add_rows(y, left, team.x[0]);
    add_rows(y, m, team.x[kHalf]);
    product_commit();
    const float2 squares = gate_half<kHalf>(y, team, n, w);
    store_fence(); // waits for stores to memory, too: before there are any
    __syncwarp();
    const int64_t row = unit.row + kHalf * SCAN_SUBTILE;
    store_v(a, maps, team.z[kHalf], row, rows, head, w);
    store_squares(a.sq + row * a.heads + head, a.heads, rows, squares, w.me);
    if (w.leads) {
        stores_read();
        arrive(&team.z_empty);
    }
    __syncwarp();
}

// A head of an upper half that is not there.
__device__ __forceinline__ void skip_head(shared_memory &s, const unit_info &unit, int head,
                                          uint32_t n, const warp_numbers &w) {
    team_memory &team = s.team[w.team];
    const uint32_t full = n & 1;
    await(&team.state_ready, full);
    await(&team.x_full, full);
    await(&team.decay_full[n % kTurns], n / kTurns & 1);
    await(&team.z_full, full);
    if (w.leads) {
        arrive(&team.z_empty);
        arrive(&team.state_empty);
        arrive(&team.x_empty);
        arrive(&team.decay_empty[n % kTurns]);
        if (head + kTeams >= unit.end) arrive(&s.c_empty);
    }
    __syncwarp();
}

template <int kHalf>
__device__ __forceinline__ void consume(const kernel_args &a, const scan_maps &maps,
                                        shared_memory &s, int team) {
    const warp_numbers w = {place_of((int)threadIdx.x % 128), team, threadIdx.x % 32 == 0};
    uint32_t n = 0;
    for (uint32_t u = 0;; u++) {
        uint32_t score[16];
        await(&s.unit_full[u % kUnits], u / kUnits & 1);
        const unit_info &unit = s.unit[u % kUnits];
        if ((unit.flags & STOP) != 0) break;
        begin_unit<kHalf>(score, s, u, w);
        int head = unit.head + team;
        if (w.leads && head >= unit.end) arrive(&s.c_empty);
        for (; head < unit.end; head += kTeams, n++) {
            if (kHalf == 0 || unit.rows > SCAN_SUBTILE) {
                do_head<kHalf>(a, maps, s, unit, head, n, score, w);
            } else {
                skip_head(s, unit, head, n, w);
            }
        }
        __syncwarp();
        if (w.leads) arrive(&s.unit_empty[u % kUnits]);
    }
}

__device__ void begin_barriers(shared_memory &s) {
    for (int i = 0; i < kUnits; i++) {
        barrier_init(&s.unit_full[i], 1);
        barrier_init(&s.unit_empty[i], kConsumers / 32 + kTeams);
    }
    barrier_init(&s.b_full, 1);
    barrier_init(&s.b_empty, kConsumers / 32);
    barrier_init(&s.c_full, 1);
    barrier_init(&s.c_empty, kConsumers / 32);
    constexpr int kTeamWarps = kConsumers / kTeams / 32;
    for (team_memory &team : s.team) {
        barrier_init(&team.tile_full, 1);
        barrier_init(&team.tile_empty, 4);
        barrier_init(&team.state_full, 1);
        barrier_init(&team.state_ready, 4);
        barrier_init(&team.state_empty, kTeamWarps);
        barrier_init(&team.x_full, 1);
        barrier_init(&team.x_empty, kTeamWarps);
        barrier_init(&team.z_full, 1);
        barrier_init(&team.z_empty, kTeamWarps);
        for (int i = 0; i < kTurns; i++) {
            barrier_init(&team.decay_full[i], 1);
            barrier_init(&team.decay_empty[i], kTeamWarps);
        }
    }
    barrier_init_done();
}

#endif

// Grid: (multiprocessors, at most the units)  Block: (kThreads)  Shared: 221 KB, 1 block a
// multiprocessor. A consumer holds 32 sums, 16 scores and 16 of M, an upper one 32 of M; 96 registers
// a thread are launched with, 5 x 96 = 480 = 2 x 104 + 2 x 120 + 32.
__global__ void __launch_bounds__(kThreads, 1)
    scan_kernel(const kernel_args a, const __grid_constant__ scan_maps maps) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    extern __shared__ char memory[];
    shared_memory &s = *reinterpret_cast<shared_memory *>(
        memory + ((1024u - shared_address(memory) % 1024u) % 1024u));
    if (threadIdx.x == 0) {
        begin_barriers(s);
        prefetch_map(&maps.bc);
        prefetch_map(&maps.x);
        prefetch_map(&maps.z);
        prefetch_map(&maps.v);
    }
    if (threadIdx.x < 64) s.zeros[threadIdx.x] = make_uint4(0, 0, 0, 0);
    store_fence();
    take_turn();
    __syncthreads();
    if (threadIdx.x >= kConsumers) {
        registers_give<32>();
        const int warp = ((int)threadIdx.x - kConsumers) / 32;
        if (threadIdx.x % 32 != 0) return;
        if (warp < kTeams) bring_heads(a, maps, s, warp);
        if (warp == kTeams) bring_units(a, maps, s);
        return;
    }
    const int group = __shfl_sync(~0u, (int)threadIdx.x / 128, 0); // one number a warp
    if (group % 2 == 0) {
        registers_take<104>();
        consume<0>(a, maps, s, group / 2);
    } else {
        registers_take<120>();
        consume<1>(a, maps, s, group / 2);
    }
#endif
}

// In how many units a chunk's heads of a group go: at most kMostHeads a unit, fewer if the units
// would not fill the multiprocessors four times.
int32_t parts_of(const struct hopper_scan_args *args, int64_t chunks) {
    const int64_t heads = args->shape.heads / args->shape.groups;
    int64_t parts = (heads + kMostHeads - 1) / kMostHeads;
    while (chunks * args->shape.groups * parts < 4 * (int64_t)args->multiprocessors &&
           parts * 2 * kTeams <= heads) {
        parts *= 2;
    }
    return (int32_t)parts;
}

} // namespace

enum status hopper_scan(const struct hopper_scan_args *args, cudaStream_t stream) {
    const int64_t chunks = args->batch.rows / SCAN_CHUNK + args->batch.tiles; // at most
    const int32_t parts = parts_of(args, chunks);
    const int64_t units = chunks * args->shape.groups * parts;
    const int64_t grid = units < args->multiprocessors ? units : args->multiprocessors;
    const int bytes = (int)sizeof(shared_memory) + 1024;
    const kernel_args launch = {args->batch,
                                static_cast<__nv_bfloat16 *>(args->raw),
                                args->raw_pitch,
                                (int32_t)args->shape.heads,
                                (int32_t)args->shape.groups,
                                parts,
                                args->work.decay,
                                scan_subtiles(args->batch.rows, args->batch.tiles),
                                static_cast<const __nv_bfloat16 *>(args->work.tile_states),
                                static_cast<const __nv_bfloat16 *>(args->work.chunk_states),
                                args->work.fall,
                                args->d,
                                args->norm_weight,
                                args->sq,
                                args->work.chunk_list,
                                args->work.chunk_count,
                                args->work.ticket + 1};
    struct scan_maps maps;
    if (args->batch.tiles == 0) return STATUS_OK;
    TRY(scan_maps_make(&maps, args));
    CUDA_TRY(cudaFuncSetAttribute(scan_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
    CUDA_TRY(launch_overlapped(scan_kernel, dim3((unsigned)grid), kThreads, (size_t)bytes, stream,
                               launch, maps));
    return STATUS_OK;
}
