// The Hopper scan's last step: y, the gate, and the squares for the norm. In a subtile of 64 rows,
// with s_i = log2 of the decay from the subtile's start to row i, and H[p][n] the state before it,
//   M_ij = C_i . B_j 2^(s_i - s_j) dt_j for j <= i, else 0
//   y_i  = 2^(s_i) C_i H^T + M_i X + D x_i
//   H    = 2^(s_last) H + (w x)^T B
//
// A persistent block takes tickets: (tile, pair of heads). Warp 8 brings subtiles, warpgroup g
// (warps 4g to 4g + 3) works on the pair's head g with the state in its registers:
//
//   full[stage]       B, C, x and decays have landed; 256 threads wait for it
//   empty[stage]      8 warps have done with them; the producer waits for it
//   z_full[slot]      z has landed; 256 threads wait
//   z_empty[slot]     both warpgroups' v, which took z's place, has left; the producer waits
//   named barrier 1 + g: the 128 threads of warpgroup g
//
//   subtile t:  scores = C B^T starts; when state product t - 1 is done, its stage is empty
//               H -> shared memory as bf16, barrier; carried = C H^T starts
//               w x -> registers; scores -> M in registers; inner = M X starts
//               H *= decay; H += (w x)^T B starts; when carried and inner are done:
//               y, v -> z's place, barrier, one thread starts the store
//
// H in shared memory is written after the barrier that ends subtile t - 1, before which every warp
// had waited for carried t - 1, the last to read it.

#include "cuda/cuda_check.h"
#include "cuda/hopper_scan_ring.cuh"
#include "cuda/overlap.cuh"

namespace {

using namespace ssd;

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

// Its norm weights -> shared memory, the state before the tile -> h. Returns D.
__device__ float load_head(const kernel_args &a, const stage_info &info, int group, int thread,
                           float *norm_weight, float (&h)[64]) {
    const int64_t number = info.head + group;
    const bool present = number < a.heads;
    if (thread < 64) norm_weight[thread] = a.norm_weight[(present ? number : 0) * 64 + thread];
    const float d = a.d[present ? number : 0];
    const float4 *state = reinterpret_cast<const float4 *>(a.states) +
                          (info.tile * a.heads + number) * (SCAN_STATE / 4) + thread;
    if (!present || (info.flags & ZERO) != 0) {
#    pragma unroll
        for (int i = 0; i < 64; i++) {
            h[i] = 0.0f;
        }
        return d;
    }
#    pragma unroll
    for (int j = 0; j < 16; j++) {
        const float4 piece = state[j * 128];
        h[4 * j] = piece.x;
        h[4 * j + 1] = piece.y;
        h[4 * j + 2] = piece.z;
        h[4 * j + 3] = piece.w;
    }
    return d;
}

// v, complete in shared memory, to memory; of a short subtile only the rows that are this span's.
__device__ void store_v(const kernel_args &a, const scan_maps &maps, const panel &v,
                        const stage_info &info, int head, int thread) {
    if (info.rows >= SCAN_SUBTILE) {
        if (thread == 0) store_box(&maps.z, v.element, 0, info.row, head);
        return;
    }
    const int piece = thread % 8;
    for (int row = thread / 8; row < info.rows; row += 16) {
        __nv_bfloat16 *to = a.raw + (info.row + row) * a.raw_pitch + head * 64 + piece * 8;
        *reinterpret_cast<uint4 *>(to) =
            *reinterpret_cast<const uint4 *>(v.element + row * 64 + (piece ^ (row & 7)) * 8);
    }
    __syncwarp(); // the next product wants the warp as one
}

__device__ void consume(const kernel_args &a, const scan_maps &maps, shared_memory &s) {
    const int group = (int)threadIdx.x / 128;
    const place me = place_of((int)threadIdx.x % 128);
    const bool leads_warp = threadIdx.x % 32 == 0;
    float d = 0.0f;
    float h[64] = {};
    ring r = {0, 0};
    ring slot = {0, 0};
    for (uint32_t t = 0;; t++) {
        wait(&s.full[r.at], r.parity);
        const stage_info info = s.info[r.at];
        if ((info.flags & STOP) != 0) break;
        auto &stage = s.stage[r.at];
        const panel &x = stage.x[group];
        const float4 *decay = s.decay[r.at][group];
        float score[32], carried[32], inner[32];
        products_begin();
        product_over_state(score, stage.c, stage.b);
        products_commit();
        products_wait<1>();
        pin(h);
        if (t > 0 && leads_warp) arrive(&s.empty[(r.at + kStages - 1) % kStages]);
        if ((info.flags & FIRST) != 0) {
            d = load_head(a, info, group, me.thread, s.norm_weight[group], h);
        }
        if (info.rows < SCAN_SUBTILE) clear_rows(stage.x[group], info.rows, me.thread);
        store_state(h, s.h[group], me);
        fence_async();
        warpgroup_sync(1 + group);
        if (t > 0 && me.thread == 0) {
            stores_read();
            arrive(&s.z_empty[(slot.at + kSlots - 1) % kSlots]);
        }
        products_begin();
        product_over_state(carried, stage.c, s.h[group]);
        products_commit();

        uint32_t wx[16], m[16]; // while scores and carried run: all that does not need them
        float factor[32], gate[32];
        const float fall = decay[SCAN_SUBTILE - 1].w;
#    pragma unroll
        for (int i = 0; i < 64; i++) {
            h[i] *= fall;
        }
        weigh_x(wx, x, decay, me);
        factors(factor, decay, me);
        products_wait<1>();
        pin(score);
        mask_scores(m, score, factor, me);
        products_begin();
        product_over_rows(inner, m, x);
        products_commit();
        add_product_over_rows(h, wx, stage.b);
        products_commit();

        panel &z = s.z[slot.at][group];
        wait(&s.z_full[slot.at], slot.parity);
        load_gate(gate, z, me);
        const float2 rise = make_float2(decay[me.top].w, decay[me.top + 8].w);
        products_wait<1>();
        pin(carried);
        pin(inner);
        const float2 squares =
            store_gated(carried, inner, gate, rise, d, s.norm_weight[group], x, z, me);
        const int number = info.head + group;
        if (number < a.heads) {
            store_squares(a.sq + (int64_t)info.row * a.heads + number, a.heads, info.rows, squares,
                          me);
        }
        fence_async();
        warpgroup_sync(1 + group);
        if (number < a.heads) store_v(a, maps, z, info, number, me.thread);
        next<kStages>(r);
        next<kSlots>(slot);
    }
    stores_read();
    products_wait<0>();
    pin(h);
}

#endif

// Grid: (multiprocessors, at most the tickets)  Block: (kThreads)  Shared: 218 KB, 1 block a
// multiprocessor. A consumer holds 64 of the state, 3 x 32 of the products, 32 of their operands.
__global__ void __launch_bounds__(kThreads, 1)
    scan_kernel(const kernel_args a, const __grid_constant__ scan_maps maps) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    extern __shared__ char memory[];
    shared_memory &s = *reinterpret_cast<shared_memory *>(
        memory + ((1024u - shared_address(memory) % 1024u) % 1024u));
    if (threadIdx.x == 0) {
        for (int i = 0; i < kStages; i++) {
            barrier_init(&s.full[i], 1);
            barrier_init(&s.empty[i], kConsumers / 32);
        }
        for (int i = 0; i < kSlots; i++) {
            barrier_init(&s.z_full[i], 1);
            barrier_init(&s.z_empty[i], 2);
        }
        barrier_init_done();
        prefetch_map(&maps.bc);
        prefetch_map(&maps.x);
        prefetch_map(&maps.z);
    }
    take_turn();
    __syncthreads();
    if (threadIdx.x < kConsumers) {
        more_registers<240>();
        consume(a, maps, s);
    } else {
        fewer_registers<24>();
        if (threadIdx.x == kConsumers) produce(a, maps, s);
    }
#endif
}

} // namespace

enum status hopper_scan(const struct hopper_scan_args *args, cudaStream_t stream) {
    const int64_t pairs = scan_pairs(args);
    const int64_t tickets = pairs * args->batch.tiles;
    const int64_t grid = tickets < args->multiprocessors ? tickets : args->multiprocessors;
    const int bytes = (int)sizeof(shared_memory) + 1024;
    const kernel_args launch = {args->batch,
                                static_cast<__nv_bfloat16 *>(args->raw),
                                args->raw_pitch,
                                args->shape.heads,
                                args->shape.groups,
                                pairs,
                                tickets,
                                args->work.decay,
                                scan_decay_pitch(args->batch.rows),
                                args->work.states,
                                args->d,
                                args->norm_weight,
                                args->sq,
                                args->work.order,
                                args->work.ticket + 1};
    struct scan_maps maps;
    if (tickets == 0) return STATUS_OK;
    TRY(scan_maps_make(&maps, args));
    CUDA_TRY(cudaFuncSetAttribute(scan_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
    CUDA_TRY(launch_overlapped(scan_kernel, dim3((unsigned)grid), kThreads, (size_t)bytes, stream,
                               launch, maps));
    return STATUS_OK;
}
