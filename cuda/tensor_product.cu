// The product of rounded rows with rounded weights on the tensor cores of any GPU since sm_80.
//
// The numbers of an output are added in slabs of 32 bytes of k (16 numbers of 16 bits, 8 of tf32),
// ascending, into one f32 sum: the same order for every row, so its bits do not depend on its place.

#include "cuda/product.h"

namespace {

constexpr int kThreads = 256;
constexpr int kWarpRows = 64;    // a warp's tile; 2 by 4 warps make the block's
constexpr int kWarpOutputs = 32; //
constexpr int kStages = 3;
constexpr int kSideBytes = PRODUCT_ROWS * PRODUCT_SLAB_BYTES; // rows, or outputs, of a slab
constexpr int kStageBytes = 2 * kSideBytes;
constexpr int kSharedBytes = kStages * kStageBytes;

struct product_rounded {
    const char *in;     // [rows, pitch_bytes]
    const char *weight; // [outputs up to a whole block, pitch_bytes]
    int64_t pitch_bytes, rows, outputs;
    const float *bias; // or NULL
    float *out;        // [rows, out_stride]
    int64_t out_stride;
    bool add;
};

// Where 16 bytes of a slab lie: eight chunks a row, turned by the row, so that the eight rows that a
// warp reads at a time lie in different banks.
__device__ __forceinline__ unsigned chunk_place(unsigned row, unsigned chunk) {
    return row * PRODUCT_SLAB_BYTES + ((chunk ^ (row & 7)) * 16);
}

// 16 bytes to shared memory without passing through registers; zeros if not `there`.
__device__ __forceinline__ void copy_chunk(unsigned to, const char *from, bool there) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
                 "r"(there ? 16 : 0));
}

__device__ __forceinline__ void start_slab(const product_rounded &p, int64_t slab, unsigned to) {
#pragma unroll
    for (int i = 0; i < kSideBytes / 16 / kThreads; i++) {
        const unsigned index = threadIdx.x + i * kThreads;
        const unsigned line = index / 8, chunk = index % 8;
        const int64_t row = (int64_t)blockIdx.y * PRODUCT_ROWS + line;
        const int64_t output = (int64_t)blockIdx.x * PRODUCT_OUTPUTS + line;
        const int64_t offset = slab * PRODUCT_SLAB_BYTES + chunk * 16;
        const bool there = row < p.rows;
        copy_chunk(to + chunk_place(line, chunk), p.in + (there ? row : 0) * p.pitch_bytes + offset,
                   there);
        copy_chunk(to + kSideBytes + chunk_place(line, chunk),
                   p.weight + output * p.pitch_bytes + offset, true);
    }
}

// Four 8 x 16 byte matrices: thread t gives row t % 8 of matrix t / 8, and gets of each matrix the
// 4 bytes t % 4 of row t / 4.
__device__ __forceinline__ void load_matrices(unsigned from, unsigned (&value)[4]) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(value[0]), "=r"(value[1]), "=r"(value[2]), "=r"(value[3])
                 : "r"(from));
}

#define MMA(shape_and_types)                                                        \
    asm volatile("mma.sync.aligned." shape_and_types                                \
                 " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};" \
                 : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])           \
                 : "r"(in[0]), "r"(in[1]), "r"(in[2]), "r"(in[3]), "r"(weight[0]), "r"(weight[1]))

// 16 rows by 8 outputs, 32 bytes of k.
template <enum plugin_dtype Dtype>
__device__ __forceinline__ void multiply(const unsigned (&in)[4], const unsigned *weight,
                                         float (&sum)[4]) {
    if (Dtype == PLUGIN_BF16) MMA("m16n8k16.row.col.f32.bf16.bf16.f32");
    if (Dtype == PLUGIN_F16) MMA("m16n8k16.row.col.f32.f16.f16.f32");
    if (Dtype == PLUGIN_TF32) MMA("m16n8k8.row.col.f32.tf32.tf32.f32");
}

template <enum plugin_dtype Dtype>
__device__ __forceinline__ void add_slab(unsigned from, float (&sum)[4][4][4]) {
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const unsigned row = warp % 2 * kWarpRows + lane % 16;
    const unsigned output = warp / 2 * kWarpOutputs + lane % 8 + lane / 16 * 8;
#pragma unroll
    for (unsigned step = 0; step < PRODUCT_SLAB_BYTES / 32; step++) {
        unsigned in[4][4], weight[2][4];
#pragma unroll
        for (unsigned r = 0; r < 4; r++) {
            load_matrices(from + chunk_place(row + 16 * r, 2 * step + lane / 16), in[r]);
        }
#pragma unroll
        for (unsigned n = 0; n < 2; n++) {
            load_matrices(from + kSideBytes + chunk_place(output + 16 * n, 2 * step + lane / 8 % 2),
                          weight[n]);
        }
#pragma unroll
        for (int r = 0; r < 4; r++) {
#pragma unroll
            for (int n = 0; n < 4; n++) {
                multiply<Dtype>(in[r], &weight[n / 2][n % 2 * 2], sum[r][n]);
            }
        }
    }
}

__device__ __forceinline__ float finished(const product_rounded &p, float sum, int64_t output,
                                          float before) {
    if (p.bias != NULL) sum += p.bias[output];
    return p.add ? before + sum : sum;
}

// A thread holds of each 16 x 8 the columns 2 (t % 4) and the next, of rows t / 4 and t / 4 + 8. It
// writes the two at once where all pairs are aligned.
__device__ __forceinline__ void write_sums(const product_rounded &p, const float (&sum)[4][4][4]) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int64_t first_row = (int64_t)blockIdx.y * PRODUCT_ROWS + warp % 2 * kWarpRows + lane / 4;
    const int64_t first_output =
        (int64_t)blockIdx.x * PRODUCT_OUTPUTS + warp / 2 * kWarpOutputs + lane % 4 * 2;
    const bool pairs = p.out_stride % 2 == 0 && (uintptr_t)p.out % sizeof(float2) == 0;
#pragma unroll
    for (int i = 0; i < 4 * 4 * 2; i++) {
        const float *value = &sum[i / 8][i / 2 % 4][i % 2 * 2];
        const int64_t row = first_row + i / 8 * 16 + i % 2 * 8;
        const int64_t output = first_output + i / 2 % 4 * 8;
        if (row >= p.rows || output >= p.outputs) continue;
        float *to = p.out + row * p.out_stride + output;
        if (pairs && output + 1 < p.outputs) {
            const float2 before = p.add ? *(float2 *)to : make_float2(0.0f, 0.0f);
            *(float2 *)to = make_float2(finished(p, value[0], output, before.x),
                                        finished(p, value[1], output + 1, before.y));
            continue;
        }
        to[0] = finished(p, value[0], output, p.add ? to[0] : 0.0f);
        if (output + 1 < p.outputs) {
            to[1] = finished(p, value[1], output + 1, p.add ? to[1] : 0.0f);
        }
    }
}

// Grid: (blocks of 128 outputs, blocks of 128 rows)  Block: (kThreads), a warp 64 rows by 32 outputs
// Shared: three slabs of 128 rows and 128 outputs by 128 bytes of k, 96 KiB: two are on their way
// while one is read. Every thread starts its copies and commits one group a slab, so that all but
// the youngest group being done means: this slab is here.
template <enum plugin_dtype Dtype>
__global__ void __launch_bounds__(kThreads, 2) tensor_product_kernel(product_rounded p) {
    extern __shared__ __align__(128) char shared[];
    const unsigned base = (unsigned)__cvta_generic_to_shared(shared);
    const int64_t slabs = p.pitch_bytes / PRODUCT_SLAB_BYTES;
    float sum[4][4][4] = {};
    for (int64_t slab = 0; slab < kStages - 1; slab++) {
        if (slab < slabs) start_slab(p, slab, base + (unsigned)slab * kStageBytes);
        asm volatile("cp.async.commit_group;");
    }
    unsigned read = 0, filled = kStages - 1;
    for (int64_t slab = 0; slab < slabs; slab++) {
        asm volatile("cp.async.wait_group %0;" ::"n"(kStages - 2) : "memory");
        __syncthreads(); // the slab is here for all, and nobody reads the one to be filled now
        const int64_t wanted = slab + kStages - 1;
        if (wanted < slabs) start_slab(p, wanted, base + filled * kStageBytes);
        asm volatile("cp.async.commit_group;");
        add_slab<Dtype>(base + read * kStageBytes, sum);
        read = (read + 1) % kStages;
        filled = (filled + 1) % kStages;
    }
    write_sums(p, sum);
}

template <enum plugin_dtype Dtype>
enum status launch(cudaStream_t stream, const product_rounded &p, dim3 grid) {
    CUDA_TRY(cudaFuncSetAttribute(tensor_product_kernel<Dtype>,
                                  cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes));
    tensor_product_kernel<Dtype><<<grid, kThreads, kSharedBytes, stream>>>(p);
    CUDA_TRY(cudaGetLastError());
    return STATUS_OK;
}

} // namespace

enum status cuda_product_rounded(cudaStream_t stream, const void *rows,
                                 const struct linear_args *args) {
    const struct packed_weight *weight = args->weight;
    const product_rounded p = {(const char *)rows,
                               (const char *)weight->data,
                               weight->pitch * product_element(weight->dtype),
                               args->in.rows,
                               weight->outputs,
                               args->bias,
                               args->out.data,
                               args->out.stride,
                               args->add};
    const dim3 grid((unsigned)((weight->outputs + PRODUCT_OUTPUTS - 1) / PRODUCT_OUTPUTS),
                    (unsigned)((args->in.rows + PRODUCT_ROWS - 1) / PRODUCT_ROWS));
    if (weight->dtype == PLUGIN_BF16) return launch<PLUGIN_BF16>(stream, p, grid);
    if (weight->dtype == PLUGIN_F16) return launch<PLUGIN_F16>(stream, p, grid);
    return launch<PLUGIN_TF32>(stream, p, grid);
}
