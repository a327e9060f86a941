// The product of rows with packed weights.

#include "cuda/product.h"
#include "ops/base/check.h"

namespace {

constexpr int kThreads = 256;
constexpr int kSlab = 8;                 // k at a time
constexpr int kPitch = PRODUCT_ROWS + 4; // of a slab's rows: keeps 16-byte alignment
constexpr int kLines = kThreads / kSlab; // rows, or outputs, that the block fetches at a time
constexpr int kLoads = PRODUCT_ROWS * kSlab / kThreads;

struct product_f32 {
    const float *in; // [rows, in_stride]
    int64_t in_stride, rows;
    const float *weight; // [outputs up to a whole block, pitch]
    int64_t pitch, inputs, outputs;
    const float *bias; // or NULL
    float *out;        // [rows, out_stride]
    int64_t out_stride;
    bool add;
    bool aligned; // every fourth number of out begins 16 bytes
};

struct slab {
    alignas(16) float in[kSlab][kPitch];     // [k][row]
    alignas(16) float weight[kSlab][kPitch]; // [k][output]
};

// A thread's share of the slab after this one, on its way from memory.
struct coming {
    float in[kLoads], weight[kLoads];
};

// Where a thread's share of the slabs lies: one k of every kLines-th row and output of the block.
struct share {
    const float *in, *weight; // of the slab that comes next
    int64_t in_step, weight_step;
    int64_t inputs; // from this k on; below 1: none
    int64_t rows;   // from this row on
};

__device__ __forceinline__ struct share share_of(const product_f32 &p) {
    const int k = threadIdx.x % kSlab;
    const int64_t row = (int64_t)blockIdx.y * PRODUCT_ROWS + threadIdx.x / kSlab;
    const int64_t output = (int64_t)blockIdx.x * PRODUCT_OUTPUTS + threadIdx.x / kSlab;
    return {p.in + row * p.in_stride + k,
            p.weight + output * p.pitch + k,
            kLines * p.in_stride,
            kLines * p.pitch,
            p.inputs - k,
            p.rows - row};
}

__device__ __forceinline__ void fetch(struct share &share, struct coming &next) {
#pragma unroll
    for (int i = 0; i < kLoads; i++) {
        const bool there = i * kLines < share.rows && share.inputs > 0;
        next.in[i] = there ? share.in[i * share.in_step] : 0.0f;
        next.weight[i] = share.weight[i * share.weight_step];
    }
    share.in += kSlab;
    share.weight += kSlab;
    share.inputs -= kSlab;
}

__device__ __forceinline__ void keep(const struct coming &next, struct slab &slab) {
    const int k = threadIdx.x % kSlab;
#pragma unroll
    for (int i = 0; i < kLoads; i++) {
        const int line = threadIdx.x / kSlab + i * kLines;
        slab.in[k][line] = next.in[i];
        slab.weight[k][line] = next.weight[i];
    }
}

// A thread's 8 x 8 sums: rows and outputs 4 g on and 64 + 4 g on, of groups g. A warp has 4 groups of
// rows by 8 of outputs, so that each of its reads of a slab is one line of shared memory.
__device__ __forceinline__ int thread_row(int r) {
    const int lane = threadIdx.x % 32;
    const int group = threadIdx.x / 64 * 4 + lane % 2 + lane / 16 * 2;
    return group * 4 + r % 4 + r / 4 * 64;
}

__device__ __forceinline__ int thread_output(int n) {
    const int group = threadIdx.x / 32 % 2 * 8 + threadIdx.x / 2 % 8;
    return group * 4 + n % 4 + n / 4 * 64;
}

__device__ __forceinline__ void add_step(const struct slab &slab, int k, float (&sum)[8][8]) {
    float in[8], weight[8];
    *(float4 *)in = *(const float4 *)&slab.in[k][thread_row(0)];
    *(float4 *)(in + 4) = *(const float4 *)&slab.in[k][thread_row(4)];
    *(float4 *)weight = *(const float4 *)&slab.weight[k][thread_output(0)];
    *(float4 *)(weight + 4) = *(const float4 *)&slab.weight[k][thread_output(4)];
#pragma unroll
    for (int r = 0; r < 8; r++) {
#pragma unroll
        for (int n = 0; n < 8; n++) {
            sum[r][n] = fmaf(in[r], weight[n], sum[r][n]);
        }
    }
}

// Not the products with what fills the last slab: they would add zeros, which has a sign.
__device__ __forceinline__ void add_slab(const struct slab &slab, int64_t count,
                                         float (&sum)[8][8]) {
    if (count >= kSlab) {
#pragma unroll
        for (int k = 0; k < kSlab; k++) {
            add_step(slab, k, sum);
        }
    } else {
        for (int k = 0; k < count; k++) {
            add_step(slab, k, sum);
        }
    }
}

__device__ __forceinline__ float finished(const product_f32 &p, float sum, int64_t output,
                                          float before) {
    if (p.bias != NULL) sum += p.bias[output];
    return p.add ? before + sum : sum;
}

// Four outputs that follow each other, at once where all such are aligned.
__device__ __forceinline__ void write_four(const product_f32 &p, int64_t row, int64_t output,
                                           const float *sum) {
    float *to = p.out + row * p.out_stride + output;
    if (p.aligned && output + 4 <= p.outputs) {
        float4 before = {};
        if (p.add) before = *(float4 *)to;
        *(float4 *)to = make_float4(
            finished(p, sum[0], output, before.x), finished(p, sum[1], output + 1, before.y),
            finished(p, sum[2], output + 2, before.z), finished(p, sum[3], output + 3, before.w));
        return;
    }
#pragma unroll
    for (int n = 0; n < 4; n++) {
        if (output + n < p.outputs) {
            to[n] = finished(p, sum[n], output + n, p.add ? to[n] : 0.0f);
        }
    }
}

__device__ __forceinline__ void write_sums(const product_f32 &p, const float (&sum)[8][8]) {
#pragma unroll
    for (int r = 0; r < 8; r++) {
        const int64_t row = (int64_t)blockIdx.y * PRODUCT_ROWS + thread_row(r);
        if (row >= p.rows) continue;
#pragma unroll
        for (int n = 0; n < 8; n += 4) {
            const int64_t output = (int64_t)blockIdx.x * PRODUCT_OUTPUTS + thread_output(n);
            write_four(p, row, output, &sum[r][n]);
        }
    }
}

// Grid: (blocks of 128 outputs, blocks of 128 rows)  Block: (kThreads), 8 rows by 8 outputs a thread
// Shared: two slabs of 8 k by 128 rows and 128 outputs, 17 KiB: one is read, the other filled
__global__ void __launch_bounds__(kThreads, 2) product_f32_kernel(product_f32 p) {
    __shared__ struct slab slabs[2];
    struct share share = share_of(p);
    struct coming next;
    float sum[8][8] = {};
    int turn = 0;
    fetch(share, next);
    keep(next, slabs[0]);
    __syncthreads();
    for (int64_t k = 0; k < p.inputs; k += kSlab) {
        const bool more = k + kSlab < p.inputs;
        if (more) fetch(share, next);
        add_slab(slabs[turn], p.inputs - k, sum);
        if (more) keep(next, slabs[1 - turn]);
        __syncthreads();
        turn = 1 - turn;
    }
    write_sums(p, sum);
}

enum status product_f32_run(cudaStream_t stream, const struct linear_args *args) {
    const struct packed_weight *weight = args->weight;
    const bool aligned =
        args->out.stride % 4 == 0 && (uintptr_t)args->out.data % sizeof(float4) == 0;
    const product_f32 p = {
        args->in.data,  args->in.stride,  args->in.rows,   (const float *)weight->data,
        weight->pitch,  weight->inputs,   weight->outputs, args->bias,
        args->out.data, args->out.stride, args->add,       aligned};
    const dim3 grid((unsigned)((weight->outputs + PRODUCT_OUTPUTS - 1) / PRODUCT_OUTPUTS),
                    (unsigned)((args->in.rows + PRODUCT_ROWS - 1) / PRODUCT_ROWS));
    product_f32_kernel<<<grid, kThreads, 0, stream>>>(p);
    CUDA_TRY(cudaGetLastError());
    return STATUS_OK;
}

struct matrix some_rows(const struct matrix *matrix, int64_t first, int64_t rows) {
    return (struct matrix){matrix->data + first * matrix->stride, rows, matrix->columns,
                           matrix->stride};
}

} // namespace

// As many rows at a time as there is room for rounded ones.
enum status cuda_product(struct backend *backend, const struct linear_args *args) {
    struct cuda_backend *cuda = cuda_backend_of(backend);
    cudaStream_t stream = cuda_backend_stream(backend);
    const int64_t most = backend->window_tokens;
    for (int64_t first = 0; first < args->in.rows; first += most) {
        const int64_t rows = args->in.rows - first < most ? args->in.rows - first : most;
        struct linear_args part = *args;
        part.in = some_rows(&args->in, first, rows);
        part.out = some_rows(&args->out, first, rows);
        if (cuda->dtype == PLUGIN_F32) {
            TRY(product_f32_run(stream, &part));
            continue;
        }
        TRY(cuda_round_rows(stream, cuda->dtype, &part.in, cuda->rounded, args->weight->pitch));
        TRY(cuda_product_rounded(stream, cuda->rounded, &part));
    }
    return STATUS_OK;
}

enum status cuda_linear(struct backend *backend, const struct linear_args *args) {
    CHECK(args->in.columns == args->weight->inputs);
    CHECK(args->out.columns == args->weight->outputs);
    return cuda_product(backend, args);
}
