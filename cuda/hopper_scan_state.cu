// The Hopper scan's second step: x convolved, and what a tile's rows add to the state,
//   added[p][n] = sum over rows i of 2^(s_end - s_i) dt_i x_i[p] B_i[n],
// for all its rows, and for those before each multiple of 128. In subtiles of 64 rows: the sum is
// scaled by a subtile's decay before the subtile's own is added.
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
//               if a chunk of 128 begins: added -> shared memory as bf16 -> work.chunk_states
//               added *= decay; added += (w x)^T B starts: 4 x m64n128k16, the rows of both are k
//
// A warp writes wx[t % 2] after barrier t - 1, before which all had waited for product t - 2, the
// last to read it. A warp's rows of the state leave from a place of its own: no barrier.

#include "cuda/cuda_check.h"
#include "cuda/hopper_scan_state_ring.cuh"
#include "cuda/overlap.cuh"

namespace {

using namespace ssd::state_ring;

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

// Thread: 8 channels x 4 rows of one head.
struct conv_place {
    int piece; // of 8 channels
    int row;   // the first of 4
};

// x of the subtile -> work.x and w x -> wx.
__device__ void convolve(const state_args &a, const shared_memory &s, const ssd::conv<8> &conv,
                         const stage_info &info, uint32_t stage, int group, conv_place place,
                         bool present, __nv_bfloat16 *wx) {
    const int64_t channel = (int64_t)(info.head + group) * 64 + place.piece * 8;
    const __nv_bfloat16 *raw = s.raw[stage][group] + place.row * 64 + place.piece * 8;
    const float4 weights = *reinterpret_cast<const float4 *>(s.decay[stage][group].w + place.row);
    const float weight[4] = {weights.x, weights.y, weights.z, weights.w};
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
    const int first = place.row * 64 + (place.piece ^ (place.row & 7)) * 8; // row is 4 x
    __nv_bfloat16 *out = a.x + panel_at(a.x_pitch, (int64_t)info.row + place.row, channel);
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
            __stcg(reinterpret_cast<uint4 *>(out + i * PANEL_COLUMNS), ssd::pack(x));
        }
#    pragma unroll
        for (int c = 0; c < 8; c++) {
            x[c] *= weight[i];
        }
        *reinterpret_cast<ssd::piece<8> *>(wx + (first ^ i * 8) + i * 64) = ssd::pack(x);
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
    ssd::product_begin();
#    pragma unroll
    for (int k = 0; k < 4; k++) {
        ssd::product_n128_both_turned(added, left + k * ssd::kNext16Rows,
                                      right + k * ssd::kNext16Rows, k > 0 || !first);
    }
    ssd::product_commit();
}

// The sum as bf16 to where the scan finds it: the warp's 16 rows of p, which are 2 KB of each panel.
__device__ void hand_out(const float (&added)[64], __nv_bfloat16 (&image)[2][kPanel], char *to,
                         int thread) {
    const int lane = thread % 32;
    const int warp = thread / 32;
    const uint32_t at = ssd::shared_address(image) + (uint32_t)(warp * 2048);
    const uint32_t matrices = at + (uint32_t)(lane % 16 * 128 + (lane / 16 ^ lane % 8) * 16);
    if (lane == 0) ssd::stores_read();
    __syncwarp();
#    pragma unroll
    for (int j = 0; j < 8; j++) { // 16 of n at a time
        uint32_t m[4];
#    pragma unroll
        for (int i = 0; i < 4; i++) {
            m[i] = ssd::pack(added[8 * j + 2 * i], added[8 * j + 2 * i + 1]);
        }
        ssd::store_matrices((matrices + j / 4 * (uint32_t)sizeof image[0]) ^ (j % 4 * 32), m);
    }
    ssd::store_fence();
    __syncwarp();
    if (lane == 0) {
        for (int panel = 0; panel < 2; panel++) {
            ssd::store_bytes(to + panel * sizeof image[0] + warp * 2048, image[panel] + warp * 1024,
                             2048);
        }
        ssd::stores_commit();
    }
    __syncwarp(); // the next product wants the warp as one
}

// What a warpgroup has summed up of a tile; `at`: tile and head.
__device__ void store(const state_args &a, int64_t at, const float (&added)[64], float log_carry,
                      int thread) {
    float4 *out = reinterpret_cast<float4 *>(a.states + at * SCAN_STATE) + thread;
#    pragma unroll
    for (int j = 0; j < 16; j++) {
        out[j * 128] =
            make_float4(added[4 * j], added[4 * j + 1], added[4 * j + 2], added[4 * j + 3]);
    }
    if (thread == 0) a.carry[at] = ssd::exp2_fast(log_carry);
}

// Products run for rows that no state needs, too: a branch around them would make the compiler
// wait for each. Nobody looks at what comes out.
__device__ void consume(const state_args &a, shared_memory &s) {
    const int group = (int)threadIdx.x / 128;
    const int thread = (int)threadIdx.x % 128;
    const conv_place place = {thread % 8, thread / 8 * 4};
    ssd::conv<8> conv;
    float added[64] = {};
    float log_fall = 0.0f; // of the decay from the tile's first row on
    int64_t ended = -1;    // tile and head whose sum the product before completes
    uint32_t stage = 0;
    uint32_t parity = 0;
    for (uint32_t t = 0;; t++) {
        ssd::wait(&s.full[stage], parity);
        const stage_info info = s.info[stage];
        if ((info.flags & STOP) != 0) break;
        const int head = info.head + group;
        const bool present = head < a.heads;
        const int64_t number = info.tile * a.heads + head;
        __nv_bfloat16 *wx = s.wx[group][t % 2];
        if (info.at == 0) {
            ssd::conv_load(conv, a.conv_weight, a.conv_bias,
                           (present ? head : 0) * 64 + place.piece * 8, a.d_conv);
        }
        convolve(a, s, conv, info, stage, group, place, present, wx);
        if (info.rows < SCAN_SUBTILE) clear_rows(s, stage, info.rows, thread, place, wx);
        ssd::store_fence();
        ssd::product_wait<0>();
        ssd::product_done(added);
        ssd::warpgroup_sync(1 + group);
        if (t > 0 && thread == 0) ssd::arrive(&s.empty[(stage + kStages - 1) % kStages]);
        if (ended >= 0) store(a, ended, added, log_fall, thread);
        if (info.at == 0) log_fall = 0.0f;
        if (info.at % SCAN_CHUNK == 0 && present) {
            const int chunk = info.at / SCAN_CHUNK;
            if (thread == 0) {
                a.fall[number * SCAN_TILE_CHUNKS + chunk] = ssd::exp2_fast(log_fall);
            }
            if (chunk > 0) {
                const int64_t image = info.row / SCAN_CHUNK * a.heads + head;
                hand_out(added, s.state[group], a.chunk_states + image * (SCAN_STATE * 2), thread);
            }
        }
        const float log_last = s.decay[stage][group].s[min(info.rows, SCAN_SUBTILE) - 1];
        const float last = ssd::exp2_fast(log_last);
#    pragma unroll
        for (int i = 0; i < 64; i++) {
            added[i] *= last;
        }
        log_fall += log_last;
        multiply(added, wx, s.b[stage][0], info.at == 0);
        const bool ends = info.rows <= SCAN_SUBTILE && (info.flags & SUM) != 0 && present;
        ended = ends ? number : -1;
        if (++stage == kStages) stage = 0, parity ^= 1;
    }
    ssd::product_wait<0>();
    ssd::product_done(added);
    if (ended >= 0) store(a, ended, added, log_fall, thread);
    if (thread % 32 == 0) ssd::stores_read();
}

#endif

// Grid: (multiprocessors, at most the tickets)  Block: (kThreads)  Shared: 200 KB, 1 block a
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
        ssd::registers_take<232>();
        consume(a, s);
    } else {
        ssd::registers_give<40>();
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
                                    args->work.pitch,
                                    args->conv_weight,
                                    args->conv_bias,
                                    args->work.decay,
                                    scan_subtiles(args->batch.rows, args->batch.tiles),
                                    args->work.states,
                                    args->work.carry,
                                    args->work.fall,
                                    static_cast<char *>(args->work.chunk_states),
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
