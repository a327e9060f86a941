// The Hopper scan's first steps: the convolution's tail of each span, and what all later kernels
// read: convolved B and C, dt and the decays, the order in which tiles are worked on.

#include "cuda/cuda_check.h"
#include "cuda/hopper_scan_conv.cuh"
#include "cuda/overlap.cuh"

namespace {

constexpr int kThreads = 256;
constexpr int kTailThreads = 128;
constexpr int64_t kTailSpans = 4096;
constexpr int kChannels = 256; // of B and C a block convolves
constexpr int kPanels = kChannels / PANEL_COLUMNS;
constexpr int kHeads = 32; // whose dt a block computes

struct tail_args {
    scan_batch batch;
    const __nv_bfloat16 *raw; // panels of x, B, C
    int64_t pitch, conv_width;
    int d_conv;
};

// Grid: (channels / kTailThreads, spans or kTailSpans)  Block: (kTailThreads)
// A thread: one channel of every kTailSpans-th span.
__global__ void __launch_bounds__(kTailThreads) tail_kernel(tail_args a) {
    take_turn();
    const int64_t channel = (int64_t)blockIdx.x * kTailThreads + threadIdx.x;
    if (channel >= a.conv_width) return;
    for (int64_t i = blockIdx.y; i < a.batch.spans; i += gridDim.y) {
        const scan_span span = a.batch.span[i];
        if (span.state_out == nullptr) continue;
        float *out = reinterpret_cast<float *>(
            span.state_out + a.batch.layer * span.out_layer_bytes + a.batch.conv_offset);
        const float *in = ssd::conv_state(a.batch, span);
        for (int k = 0; k < a.d_conv - 1; k++) {
            const int64_t row = span.rows - (a.d_conv - 1) + k; // below 0: older than the span
            float value = 0.0f;
            if (row >= 0) {
                value = __bfloat162float(a.raw[panel_at(a.pitch, span.row + row, channel)]);
            } else if (in != nullptr) {
                value = in[(span.rows + k) * a.conv_width + channel];
            }
            out[k * a.conv_width + channel] = value;
        }
    }
}

struct prep_args {
    scan_batch batch;
    const __nv_bfloat16 *raw_bc; // panels of B, C
    int64_t raw_pitch, bc_pitch, bc_width, conv_width, heads;
    int d_conv;
    const float *conv_weight, *conv_bias;
    const float *dt_raw, *dt_bias, *a;
    int64_t dt_pitch, subtiles;
    float least, most;
    __nv_bfloat16 *bc;
    scan_decay *decay;
    int32_t *order, *chunk_list, *chunk_count, *ticket;
    int64_t subtile_step, conv_parts, parts; // of a block's number: tile, first subtile, part
};

struct subtile {
    int64_t row, number;
    int rows;
    bool first; // of the span
};

// Shared memory of a block: raw rows of B and C from SCAN_HALO before the subtile on, or dt and s.
union prep_memory {
    __nv_bfloat16 raw[kPanels][SCAN_HALO + SCAN_SUBTILE][PANEL_COLUMNS];
    struct {
        float dt[SCAN_SUBTILE][kHeads + 1];
        float s[SCAN_SUBTILE][kHeads + 1];
    } decay;
};

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

constexpr int kWidth = 4;    // channels a thread convolves
constexpr int kRunRows = 16; // rows a thread convolves one after the other

// A thread convolves 4 channels x 16 rows. A warp writes a row of two panels at a time.
__device__ void conv_bc(const prep_args &a, const subtile &tile, const scan_span &span, int part,
                        prep_memory &s, uint64_t *landed, uint32_t parity) {
    const int from = tile.first ? SCAN_HALO : 0;
    const int count = SCAN_HALO - from + tile.rows;
    if (threadIdx.x == 0) {
        ssd::arrive_expect(landed, (uint32_t)(kPanels * count * PANEL_BYTES));
        for (int panel = 0; panel < kPanels; panel++) {
            const int64_t first = panel_at(a.raw_pitch, tile.row - SCAN_HALO + from,
                                           part * kChannels + panel * PANEL_COLUMNS);
            ssd::load_bytes(s.raw[panel][from], a.raw_bc + first, (uint32_t)(count * PANEL_BYTES),
                            landed);
        }
    }
    const int column = (int)threadIdx.x % (kChannels / kWidth) * kWidth;
    const int first = (int)threadIdx.x / (kChannels / kWidth) * kRunRows;
    const int64_t channel = (int64_t)part * kChannels + column; // in B, C
    const auto &raw = s.raw[column / PANEL_COLUMNS];
    const int64_t conv_channel = a.conv_width - a.bc_width + channel;
    ssd::conv<kWidth> conv;
    ssd::conv_load(conv, a.conv_weight, a.conv_bias, conv_channel, a.d_conv);
    ssd::wait(landed, parity);
    float window[4][kWidth];
#    pragma unroll
    for (int i = 0; i < SCAN_HALO; i++) {
        ssd::unpack(window[i],
                    *reinterpret_cast<const uint2 *>(&raw[first + i][column % PANEL_COLUMNS]));
    }
    if (tile.first && first == 0) {
        const float *state = ssd::conv_state(a.batch, span);
#    pragma unroll
        for (int i = 0; i < SCAN_HALO; i++) {
            ssd::halo(window[i], state, a.conv_width, conv_channel, a.d_conv, SCAN_HALO - i);
        }
    }
    __nv_bfloat16 *out = a.bc + panel_at(a.bc_pitch, tile.row + first, channel);
#    pragma unroll
    for (int i = 0; i < kRunRows; i++) {
        float y[kWidth];
        ssd::unpack(window[(i + 3) % 4], *reinterpret_cast<const uint2 *>(
                                             &raw[first + i + SCAN_HALO][column % PANEL_COLUMNS]));
        ssd::conv_row(y, conv, window[i % 4], window[(i + 1) % 4], window[(i + 2) % 4],
                      window[(i + 3) % 4]);
        if (first + i < tile.rows) __stcg(reinterpret_cast<uint2 *>(out), ssd::pack(y));
        out += PANEL_COLUMNS;
    }
}

__device__ float dt_of(float x, float least, float most) {
    const float y = x > 20.0f ? x : log1pf(expf(x));
    return y < least ? least : y > most ? most : y;
}

// dt by all threads, then s by one thread a head, row after row: a sum in pairs would depend on
// where the pairs lie; then w.
__device__ void decays(const prep_args &a, const subtile &tile, int part, prep_memory &memory) {
    auto &dt = memory.decay.dt;
    auto &s = memory.decay.s;
    const int64_t first_head = (int64_t)part * kHeads;
    const int64_t head = first_head + threadIdx.x % kHeads;
    if (head < a.heads) {
        const float bias = a.dt_bias[head];
        float raw[SCAN_SUBTILE / (kThreads / kHeads)];
#    pragma unroll
        for (int i = 0; i < SCAN_SUBTILE / (kThreads / kHeads); i++) {
            const int row = (int)threadIdx.x / kHeads + i * (kThreads / kHeads);
            raw[i] = row < tile.rows ? a.dt_raw[(tile.row + row) * a.dt_pitch + head] : 0.0f;
        }
#    pragma unroll
        for (int i = 0; i < SCAN_SUBTILE / (kThreads / kHeads); i++) {
            const int row = (int)threadIdx.x / kHeads + i * (kThreads / kHeads);
            dt[row][threadIdx.x % kHeads] = dt_of(raw[i] + bias, a.least, a.most);
        }
    }
    __syncthreads();
    if (threadIdx.x < kHeads && first_head + threadIdx.x < a.heads) {
        const float rate = a.a[first_head + threadIdx.x] * ssd::kLog2E;
        float sum = 0.0f;
#    pragma unroll 8
        for (int row = 0; row < tile.rows; row++) {
            sum = fmaf(dt[row][threadIdx.x], rate, sum);
            s[row][threadIdx.x] = sum;
        }
    }
    __syncthreads();
    const int row = (int)threadIdx.x % SCAN_SUBTILE;
    for (int h = (int)threadIdx.x / SCAN_SUBTILE; h < kHeads; h += kThreads / SCAN_SUBTILE) {
        if (row >= tile.rows || first_head + h >= a.heads) continue;
        const int last = tile.rows - 1;
        const float w = ssd::exp2_fast(s[last][h] - s[row][h]) * dt[row][h];
        const float e = ssd::exp2_fast(s[min(row | 15, last)][h] - s[row][h]) * dt[row][h];
        scan_decay &out = a.decay[(first_head + h) * a.subtiles + tile.number];
        out.s[row] = s[row][h];
        out.w[row] = w;
        out.e[row] = e;
        out.dt[row] = dt[row][h];
    }
}

__device__ int chunks_of(int subtiles) {
    return (subtiles * SCAN_SUBTILE + SCAN_CHUNK - 1) / SCAN_CHUNK;
}

// Tiles with more subtiles first, so that the last block to end has little left to do. Of equally long
// ones the chunks from the first tile on, the tiles from the last back: the scan begins with what the
// tile states' kernel wrote last. Neighbours may change places; no result depends on it.
__device__ void order_tiles(const prep_args &a) {
    constexpr int kLengths = HOPPER_SCAN_TILE / SCAN_SUBTILE;
    __shared__ int last[kLengths + 1], next[kLengths + 1], first_chunk[kLengths + 1];
    if (threadIdx.x < SCAN_TICKETS) a.ticket[threadIdx.x] = 0;
    if (threadIdx.x <= kLengths) next[threadIdx.x] = 0;
    __syncthreads();
    for (int64_t i = threadIdx.x; i < a.batch.tiles; i += kThreads) {
        atomicAdd(&next[(a.batch.tile[i].rows + SCAN_SUBTILE - 1) / SCAN_SUBTILE], 1);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        int tiles = 0;
        int chunks = 0;
        for (int length = kLengths; length >= 0; length--) {
            const int count = next[length];
            next[length] = 0;
            first_chunk[length] = chunks;
            tiles += count;
            last[length] = tiles - 1;
            chunks += count * chunks_of(length);
        }
        *a.chunk_count = chunks;
    }
    __syncthreads();
    for (int64_t i = threadIdx.x; i < a.batch.tiles; i += kThreads) {
        const int length = (a.batch.tile[i].rows + SCAN_SUBTILE - 1) / SCAN_SUBTILE;
        const int chunks = chunks_of(length);
        const int at = atomicAdd(&next[length], 1);
        int32_t *list = a.chunk_list + first_chunk[length] + at * chunks;
        a.order[last[length] - at] = (int32_t)i;
        for (int k = 0; k < chunks; k++) {
            list[k] = (int32_t)i * SCAN_TILE_CHUNKS + k;
        }
    }
}

#endif

// Grid: (1 + tiles * subtile_step * parts)  Block: (kThreads)  Shared: 34 KB
// Block 0 orders the tiles. Another takes one part (256 channels of B and C, or 32 heads' dt) of
// every subtile_step-th subtile of one tile.
__global__ void __launch_bounds__(kThreads, 4) prep_kernel(prep_args a) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    __shared__ __align__(128) prep_memory memory;
    __shared__ uint64_t landed;
    if (threadIdx.x == 0) {
        ssd::barrier_init(&landed, 1);
        ssd::barrier_init_done();
    }
    take_turn();
    if (blockIdx.x == 0) {
        order_tiles(a);
        return;
    }
    const uint32_t block = blockIdx.x - 1;
    const int part = (int)(block % (uint32_t)a.parts);
    const int64_t number = block / (uint32_t)(a.parts * a.subtile_step);
    const scan_tile tile = a.batch.tile[number];
    const scan_span span = a.batch.span[tile.span];
    const int step = (int)a.subtile_step * SCAN_SUBTILE;
    uint32_t parity = 0;
    for (int at = (int)(block / (uint32_t)a.parts % (uint32_t)a.subtile_step) * SCAN_SUBTILE;
         at < tile.rows; at += step) {
        const int left = tile.rows - at;
        const subtile sub = {tile.row + at, scan_subtile_at(tile.row + at, number),
                             left < SCAN_SUBTILE ? left : SCAN_SUBTILE, tile.row + at == span.row};
        __syncthreads(); // the shared memory of the subtile before is free
        if (part < a.conv_parts) {
            conv_bc(a, sub, span, part, memory, &landed, parity);
        } else {
            decays(a, sub, part - (int)a.conv_parts, memory);
        }
        parity ^= 1;
    }
#endif
}

const __nv_bfloat16 *raw_at(const hopper_scan_args *args, int64_t column) {
    return static_cast<const __nv_bfloat16 *>(args->raw) + panel_at(args->raw_pitch, 0, column);
}

} // namespace

enum status hopper_scan_conv_tail(const struct hopper_scan_args *args, cudaStream_t stream) {
    const int64_t conv_width = scan_conv_width(args);
    const tail_args kernel_args = {args->batch, raw_at(args, args->shape.heads * SCAN_HEAD_DIM),
                                   args->raw_pitch, conv_width, (int)args->d_conv};
    const unsigned parts = (unsigned)((conv_width + kTailThreads - 1) / kTailThreads);
    const int64_t spans = args->batch.spans < kTailSpans ? args->batch.spans : kTailSpans;
    if (spans == 0) return STATUS_OK;
    CUDA_TRY(launch_overlapped(tail_kernel, dim3(parts, (unsigned)spans), kTailThreads, 0, stream,
                               kernel_args));
    return STATUS_OK;
}

enum status scan_prep_launch(const struct hopper_scan_args *args, cudaStream_t stream) {
    const scan_shape shape = args->shape;
    const scan_batch batch = args->batch;
    const int64_t d_inner = shape.heads * shape.head_dim;
    const int64_t bc_width = 2 * shape.groups * shape.d_state;
    const int64_t conv_parts = (bc_width + kChannels - 1) / kChannels;
    const int64_t parts = conv_parts + (shape.heads + kHeads - 1) / kHeads;
    // About as many blocks a tile as its mean length has subtiles, twice over: most find work.
    const int64_t wanted = 2 * (batch.rows / batch.tiles + SCAN_SUBTILE - 1) / SCAN_SUBTILE;
    const int64_t most = HOPPER_SCAN_TILE / SCAN_SUBTILE;
    const int64_t step = wanted < 1 ? 1 : wanted > most ? most : wanted;
    const prep_args kernel_args = {batch,
                                   raw_at(args, 2 * d_inner),
                                   args->raw_pitch,
                                   args->work.pitch,
                                   bc_width,
                                   d_inner + bc_width,
                                   shape.heads,
                                   (int)args->d_conv,
                                   args->conv_weight,
                                   args->conv_bias,
                                   args->dt_raw,
                                   args->dt_bias,
                                   args->a,
                                   args->dt_pitch,
                                   scan_subtiles(batch.rows, batch.tiles),
                                   args->dt_least,
                                   args->dt_most,
                                   static_cast<__nv_bfloat16 *>(args->work.bc),
                                   args->work.decay,
                                   args->work.order,
                                   args->work.chunk_list,
                                   args->work.chunk_count,
                                   args->work.ticket,
                                   step,
                                   conv_parts,
                                   parts};
    CUDA_TRY(launch_overlapped(prep_kernel, dim3((unsigned)(1 + batch.tiles * step * parts)),
                               kThreads, 0, stream, kernel_args));
    return STATUS_OK;
}

enum status hopper_scan_prepare(const struct hopper_scan_args *args, cudaStream_t stream) {
    if (args->batch.tiles == 0) return STATUS_OK;
    TRY(scan_prep_launch(args, stream));
    return scan_state_launch(args, stream);
}
