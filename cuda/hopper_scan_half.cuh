#pragma once
// The steps of a half of a chunk in hopper_scan.cu, which says who waits for whom. Compiled for sm_90a
// only.

#include "cuda/hopper_scan_bring.cuh"

namespace ssd {

struct warp_numbers {
    place me;
    int team;
    bool leads;
};

// The half's own scores -> score, those left of the upper half -> s.left.
template <int kHalf>
__device__ __forceinline__ void begin_unit(uint32_t (&score)[16], shared_memory &s, uint32_t u,
                                           const warp_numbers &w) {
    float sum[32];
    uint32_t packed[16];
    await(&s.b_full, u & 1);
    await(&s.c_full, u & 1);
    if (kHalf == 1) {
        product_begin();
        product_over_state(sum, s.c[1], operand_of(s.b[0]));
        product_commit();
        product_wait<0>();
        product_done(sum);
        pack_scores(packed, sum);
#pragma unroll
        for (int k = 0; k < 4; k++) {
            s.team[w.team].left[k][w.me.thread] =
                make_uint4(packed[4 * k], packed[4 * k + 1], packed[4 * k + 2], packed[4 * k + 3]);
        }
    }
    product_begin();
    product_over_state(sum, s.c[kHalf], operand_of(s.b[kHalf]));
    product_commit();
    product_wait<0>();
    product_done(sum);
    if (w.leads) arrive(&s.b_empty);
    pack_scores(score, sum);
}

// v, complete in shared memory, to memory: each warp its 16 rows, `rows` of the half at most.
__device__ __forceinline__ void store_v(const kernel_args &a, const scan_maps &maps, const panel &v,
                                        int64_t row, int rows, int head, const warp_numbers &w) {
    const int first = w.me.warp * SCAN_V_ROWS;
    if (rows >= first + SCAN_V_ROWS) {
        if (w.leads) store_box(&maps.v, v.element + first * 64, 0, (int32_t)row + first, head);
        return;
    }
    const int piece = w.me.thread % 8;
    for (int i = first + w.me.thread % 32 / 8; i < rows; i += 4) {
        __nv_bfloat16 *to = a.raw + panel_at(a.raw_pitch, row + i, head * 64 + piece * 8);
        *reinterpret_cast<uint4 *>(to) =
            *reinterpret_cast<const uint4 *>(v.element + i * 64 + (piece ^ (i & 7)) * 8);
    }
    __syncwarp(); // the next product wants the warp as one
}

// The state before the chunk: the lower warpgroup adds up its two parts, in place of the second.
__device__ __forceinline__ void make_state(team_memory &team, const unit_info &unit, uint32_t n,
                                           const warp_numbers &w) {
    const bool both = unit.chunk > 0 && (unit.flags & STATE) != 0;
    await(&team.tile_full, n & 1);
    await(&team.decay_full[n % kTurns], n / kTurns & 1);
    await(&team.state_full, n & 1);
    if (both) {
        const float fall = team.fall[n % kTurns][unit.chunk];
        add_state(team.state, pack(fall, fall), team.tile_state, w.me.thread);
        store_fence();
    }
    __syncwarp();
    if (w.leads) {
        arrive(&team.tile_empty);
        arrive(&team.state_ready);
    }
}

// M of the left (upper half) and of the own rows, and what y = C H^T is to be scaled by.
template <int kHalf>
__device__ __forceinline__ float2 make_masks(uint32_t (&left)[16], uint32_t (&m)[16],
                                             const uint32_t (&score)[16], const team_memory &team,
                                             uint32_t turn, float d, const warp_numbers &w) {
    const scan_decay &lower = team.decay[turn][0];
    const scan_decay &own = team.decay[turn][kHalf];
    float2 up = make_float2(exp2_fast(own.s[w.me.top]), exp2_fast(own.s[w.me.top + 8]));
    if (kHalf == 1) {
        mask_left(left, team.left[0] + w.me.thread, lower, up, w.me);
        const float f0 = exp2_fast(lower.s[SCAN_SUBTILE - 1]);
        up.x *= f0, up.y *= f0;
    }
    mask_own(m, score, own, d, w.me);
    return up;
}

// y's last products run: z and half the gate, then what they read is empty, then v -> z's place.
// Returns the sums of v^2 of the thread's rows.
template <int kHalf>
__device__ __forceinline__ float2 gate_half(float (&y)[32], team_memory &team, uint32_t n,
                                            const warp_numbers &w) {
    panel &place = team.z[kHalf];
    uint32_t z[16];
    float gate[16]; // there are registers for no more
    await(&team.z_full, n & 1);
    load_rows(z, place, w.me);
    open_gate(gate, z);
    product_done(gate);
    product_wait<0>();
    product_done(y);
    if (w.leads) {
        arrive(&team.x_empty);
        arrive(&team.decay_empty[n % kTurns]);
    }
    const uint32_t to = shared_address(&place) + w.me.matrices;
    float2 squares = make_float2(0.0f, 0.0f);
    gate_columns(squares, y, gate, team.norm_weight, to, 0, w.me);
    open_gate(gate, z + 8);
    gate_columns(squares, y + 16, gate, team.norm_weight, to, 32, w.me);
    return squares;
}

} // namespace ssd
