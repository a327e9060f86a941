// The Hopper scan's second step: x convolved, and what each tile adds to the state,
//   added[p][n] = sum over rows i of 2^(s_last - s_i) dt_i x_i[p] B_i[n],
// in subtiles of 64 rows from the last to the first: the decay from a subtile's end to the tile's
// is known when it is reached and goes into w, so that the sum itself is never scaled.
//
// A persistent block takes tickets: (tile, pair of heads). One thread of warp 8 brings subtiles
// into a ring of kStages; warpgroup g (warps 4g to 4g + 3) works on the pair's head g:
//
//   full[stage]   the producer's copies have landed; all 256 threads wait for it
//   empty[stage]  both warpgroups have done with it; the producer waits for it
//   named barrier 1 + g: the 128 threads of warpgroup g
//
//   subtile t:  convolve x -> work.x, and w x -> wx[t % 2]   (while product t - 1 still runs)
//               wait for product t - 1, barrier: the stage of t - 1 is empty
//               added += (w x)^T B starts: 4 x m64n128k16, the rows of both operands are k
//
// A warp writes wx[t % 2] after barrier t - 1, before which all had waited for product t - 2, the
// last to read it.

#include "cuda/cuda_check.h"
#include "cuda/hopper_scan_conv.cuh"
#include "cuda/overlap.cuh"

namespace {

constexpr int kConsumers = 256;
constexpr int kThreads = kConsumers + 128; // registers move between whole warpgroups
constexpr int kStages = 4;
constexpr int kRows = SCAN_SUBTILE + SCAN_HALO;
constexpr int kPanel = SCAN_SUBTILE * 64; // elements of a swizzled panel, 8 KB

enum { FIRST = 1, LAST = 2, SPAN_START = 4, STATE = 8, STOP = 16 }; // in the order of the walk

struct stage_info {
    int64_t row;
    int32_t rows, head, tile, span, flags;
};

struct shared_memory {
    __nv_bfloat16 b[kStages][2][kPanel]; // swizzled; panels of 64 of n
    __nv_bfloat16 wx[2][2][kPanel];      // [warpgroup][t % 2], swizzled
    __nv_bfloat16 raw[kStages][2][kRows * 64];
    float4 decay[kStages][2][SCAN_SUBTILE];
    stage_info info[kStages];
    uint64_t full[kStages], empty[kStages];
};

struct state_args {
    scan_batch batch;
    __nv_bfloat16 *x;
    const float *conv_weight, *conv_bias;
    const float4 *decay;
    int64_t decay_pitch;
    float *states, *carry;
    const int32_t *order;
    int32_t *ticket;
    int64_t heads, groups, pairs, tickets, conv_width;
    int d_conv;
};

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

__device__ void produce(const state_args &a, const scan_maps &maps, shared_memory &s) {
    const uint64_t once = ssd::policy_first();
    const uint64_t again = ssd::policy_last();
    uint32_t stage = 0;
    uint32_t parity = 1;
    for (;;) {
        const int64_t ticket = atomicAdd(a.ticket, 1);
        if (ticket >= a.tickets) break;
        const int32_t index = a.order[ticket / a.pairs];
        const int32_t head = (int32_t)(ticket % a.pairs) * 2;
        const scan_tile tile = a.batch.tile[index];
        const scan_span span = a.batch.span[tile.span];
        const bool ends = tile.row + tile.rows == span.row + span.rows;
        const bool state = !ends || span.state_out != nullptr;
        const int32_t panel = (int32_t)(head * a.groups / a.heads) * 2;
        const int top = (tile.rows - 1) / SCAN_SUBTILE * SCAN_SUBTILE;
        for (int at = top; at >= 0; at -= SCAN_SUBTILE) {
            ssd::wait(&s.empty[stage], parity);
            const int32_t row = (int32_t)tile.row + at;
            const int left = tile.rows - at;
            const int flags = (at == top ? FIRST : 0) | (at == 0 ? LAST : 0) |
                              (row == span.row ? SPAN_START : 0) | (state ? STATE : 0);
            s.info[stage] = {row, left, head, index, tile.span, flags};
            ssd::arrive_expect(&s.full[stage],
                               sizeof s.raw[0] + sizeof s.decay[0] + (state ? sizeof s.b[0] : 0));
            ssd::load_box(s.raw[stage], &maps.raw_x, 0, row - SCAN_HALO, head, &s.full[stage],
                          once);
            for (int h = 0; h < 2; h++) { // an absent head's are of the last one: never used
                ssd::load_bytes(s.decay[stage][h],
                                a.decay + min((int64_t)head + h, a.heads - 1) * a.decay_pitch + row,
                                sizeof s.decay[0][0], &s.full[stage]);
            }
            if (state) {
                ssd::load_box(s.b[stage], &maps.bc, 0, row, panel, &s.full[stage], again);
            }
            if (++stage == kStages) stage = 0, parity ^= 1;
        }
    }
    ssd::wait(&s.empty[stage], parity);
    s.info[stage].flags = STOP;
    ssd::arrive(&s.full[stage]);
}

// Thread: 8 channels x 4 rows of one head.
struct conv_place {
    int piece; // of 8 channels
    int row;   // the first of 4
};

// x of the subtile -> work.x and w x -> wx; `after`: the decay from the subtile's end to the tile's.
__device__ void convolve(const state_args &a, const shared_memory &s, const ssd::conv<8> &conv,
                         const stage_info &info, uint32_t stage, int group, conv_place place,
                         bool present, float after, __nv_bfloat16 *wx) {
    const int64_t channel = (int64_t)(info.head + group) * 64 + place.piece * 8;
    const __nv_bfloat16 *raw = s.raw[stage][group] + place.row * 64 + place.piece * 8;
    const float4 *decay = s.decay[stage][group] + place.row;
    float window[4][8];
#    pragma unroll
    for (int i = 0; i < 3; i++) {
        ssd::unpack(window[i], *reinterpret_cast<const ssd::piece<8> *>(raw + i * 64));
    }
    if ((info.flags & SPAN_START) != 0 && place.row == 0 && present) {
        const float *state = ssd::conv_state(a.batch, a.batch.span[info.span]);
#    pragma unroll
        for (int i = 0; i < 3; i++) {
            ssd::halo(window[i], state, a.conv_width, channel, a.d_conv, 3 - i);
        }
    }
    __nv_bfloat16 *out = a.x + (info.row + place.row) * (a.heads * 64) + channel;
#    pragma unroll
    for (int i = 0; i < 4; i++) {
        float x[8];
        const int row = place.row + i;
        const bool valid = row < info.rows;
        ssd::unpack(window[(i + 3) % 4],
                    *reinterpret_cast<const ssd::piece<8> *>(raw + (i + 3) * 64));
        ssd::conv_row(x, conv, window[i % 4], window[(i + 1) % 4], window[(i + 2) % 4],
                      window[(i + 3) % 4]);
        if (valid && present) {
            __stcs(reinterpret_cast<uint4 *>(out + i * (a.heads * 64)), ssd::pack(x));
        }
        const float weight = decay[i].z * after;
#    pragma unroll
        for (int c = 0; c < 8; c++) {
            x[c] *= weight;
        }
        *reinterpret_cast<ssd::piece<8> *>(wx + row * 64 + ((place.piece ^ (row & 7)) * 8)) =
            ssd::pack(x);
    }
}

// Rows from `rows` on are the next span's and may be NaN: zeros in both operands of the product.
// Both warpgroups write the same zeros to B; a thread clears the wx it has written.
__device__ void clear_rows(shared_memory &s, uint32_t stage, int rows, int thread, conv_place place,
                           __nv_bfloat16 *wx) {
    for (int row = max(rows, place.row); row < place.row + 4; row++) {
        *reinterpret_cast<uint4 *>(wx + row * 64 + ((place.piece ^ (row & 7)) * 8)) =
            make_uint4(0, 0, 0, 0);
    }
    for (int i = rows * 8 + thread; i < SCAN_SUBTILE * 8; i += 128) {
        reinterpret_cast<uint4 *>(s.b[stage][0])[i] = make_uint4(0, 0, 0, 0);
        reinterpret_cast<uint4 *>(s.b[stage][1])[i] = make_uint4(0, 0, 0, 0);
    }
    __syncwarp(); // the next product wants the warp as one
}

__device__ void multiply(float (&added)[64], const __nv_bfloat16 *wx, const __nv_bfloat16 *b,
                         bool first) {
    const uint64_t left = ssd::descriptor(wx, 0);
    const uint64_t right = ssd::descriptor(b, kPanel * 2);
    ssd::products_begin();
#    pragma unroll
    for (int k = 0; k < 4; k++) {
        ssd::product_n128_both_turned(added, left + k * ssd::kNext16Rows,
                                      right + k * ssd::kNext16Rows, k > 0 || !first);
    }
    ssd::products_commit();
}

// What warpgroup `group` has summed up of the tile that ends with `info`.
__device__ void store(const state_args &a, const stage_info &info, const float (&added)[64],
                      float log_carry, int group, int thread) {
    const int64_t head = info.head + group;
    const int64_t at = info.tile * a.heads + head;
    if ((info.flags & STATE) == 0 || head >= a.heads) return;
    float4 *out = reinterpret_cast<float4 *>(a.states + at * SCAN_STATE) + thread;
#    pragma unroll
    for (int j = 0; j < 16; j++) {
        out[j * 128] =
            make_float4(added[4 * j], added[4 * j + 1], added[4 * j + 2], added[4 * j + 3]);
    }
    if (thread == 0) a.carry[at] = ssd::exp2_fast(log_carry);
}

// Products run for tiles that need no state, too: a branch around them would make the compiler
// wait for each. Nobody looks at what comes out.
__device__ void consume(const state_args &a, shared_memory &s) {
    const int group = (int)threadIdx.x / 128;
    const int thread = (int)threadIdx.x % 128;
    const conv_place place = {thread % 8, thread / 8 * 4};
    ssd::conv<8> conv;
    float added[64] = {};
    float log_after = 0.0f; // of the decay from the subtile's end to the tile's
    uint32_t stage = 0;
    uint32_t parity = 0;
    stage_info before = {};
    for (uint32_t t = 0;; t++) {
        ssd::wait(&s.full[stage], parity);
        const stage_info info = s.info[stage];
        if ((info.flags & STOP) != 0) break;
        const bool present = info.head + group < a.heads;
        const bool first = (info.flags & FIRST) != 0;
        __nv_bfloat16 *wx = s.wx[group][t % 2];
        if (first) {
            ssd::conv_load(conv, a.conv_weight, a.conv_bias,
                           (present ? info.head + group : 0) * 64 + place.piece * 8, a.d_conv);
        }
        const float after = first ? 1.0f : ssd::exp2_fast(log_after);
        convolve(a, s, conv, info, stage, group, place, present, after, wx);
        if (info.rows < SCAN_SUBTILE) clear_rows(s, stage, info.rows, thread, place, wx);
        ssd::fence_async();
        ssd::products_wait<0>();
        ssd::pin(added);
        ssd::warpgroup_sync(1 + group);
        if (t > 0 && thread == 0) ssd::arrive(&s.empty[(stage + kStages - 1) % kStages]);
        if ((before.flags & LAST) != 0) store(a, before, added, log_after, group, thread);
        multiply(added, wx, s.b[stage][0], first);
        const int last = min(info.rows, SCAN_SUBTILE) - 1;
        log_after = (first ? 0.0f : log_after) + s.decay[stage][group][last].x;
        before = info;
        if (++stage == kStages) stage = 0, parity ^= 1;
    }
    ssd::products_wait<0>();
    ssd::pin(added);
    if ((before.flags & LAST) != 0) store(a, before, added, log_after, group, thread);
}

#endif

// Grid: (multiprocessors, at most the tickets)  Block: (kThreads)  Shared: 174 KB, 1 block a
// multiprocessor. A consumer holds 64 sums, 40 weights and a window of 32.
__global__ void __launch_bounds__(kThreads, 1)
    state_kernel(const state_args a, const __grid_constant__ scan_maps maps) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    extern __shared__ char memory[];
    shared_memory &s = *reinterpret_cast<shared_memory *>(
        memory + ((1024u - ssd::shared_address(memory) % 1024u) % 1024u));
    if (threadIdx.x == 0) {
        for (int i = 0; i < kStages; i++) {
            ssd::barrier_init(&s.full[i], 1);
            ssd::barrier_init(&s.empty[i], 2);
        }
        ssd::barrier_init_done();
        ssd::prefetch_map(&maps.raw_x);
        ssd::prefetch_map(&maps.bc);
    }
    take_turn();
    __syncthreads();
    if (threadIdx.x < kConsumers) {
        ssd::more_registers<232>();
        consume(a, s);
    } else {
        ssd::fewer_registers<40>();
        if (threadIdx.x == kConsumers) produce(a, maps, s);
    }
#endif
}

} // namespace

enum status scan_state_launch(const struct hopper_scan_args *args, cudaStream_t stream) {
    const int64_t pairs = scan_pairs(args);
    const int64_t tickets = pairs * args->batch.tiles;
    const int64_t grid = tickets < args->multiprocessors ? tickets : args->multiprocessors;
    const int size = (int)sizeof(shared_memory) + 1024;
    const state_args kernel_args = {args->batch,
                                    static_cast<__nv_bfloat16 *>(args->work.x),
                                    args->conv_weight,
                                    args->conv_bias,
                                    args->work.decay,
                                    scan_decay_pitch(args->batch.rows),
                                    args->work.states,
                                    args->work.carry,
                                    args->work.order,
                                    args->work.ticket,
                                    args->shape.heads,
                                    args->shape.groups,
                                    pairs,
                                    tickets,
                                    scan_conv_width(args),
                                    (int)args->d_conv};
    struct scan_maps maps;
    TRY(scan_maps_make(&maps, args));
    CUDA_TRY(cudaFuncSetAttribute(state_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, size));
    CUDA_TRY(launch_overlapped(state_kernel, dim3((unsigned)grid), kThreads, (size_t)size, stream,
                               kernel_args, maps));
    return STATUS_OK;
}
