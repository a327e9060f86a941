// Weights and rows in the format of the products.

#include "cuda/product.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <stdlib.h>

namespace {

constexpr int kThreads = 128;
constexpr int kColumns = 8 * kThreads; // of a block

// To the nearest, ties to even (tf32: ties away, as the hardware's conversion has it).
__device__ __forceinline__ void round_to(float value, float *out) {
    unsigned bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
    *out = __uint_as_float(bits);
}
__device__ __forceinline__ void round_to(float value, __nv_bfloat16 *out) {
    *out = __float2bfloat16_rn(value);
}
__device__ __forceinline__ void round_to(float value, __half *out) {
    *out = __float2half_rn(value);
}

// Grid: (rows, blocks of kColumns columns)  Block: (kThreads), every kThreads-th column a thread
// Shared: none
template <typename Element>
__global__ void __launch_bounds__(kThreads)
    round_rows_kernel(struct matrix in, Element *out, int64_t pitch) {
    const float *from = in.data + blockIdx.x * in.stride;
    Element *to = out + blockIdx.x * pitch;
    const int64_t first = (int64_t)blockIdx.y * kColumns + threadIdx.x;
    float value[kColumns / kThreads];
#pragma unroll
    for (int i = 0; i < kColumns / kThreads; i++) {
        const int64_t column = first + i * kThreads;
        value[i] = column < in.columns ? from[column] : 0.0f;
    }
#pragma unroll
    for (int i = 0; i < kColumns / kThreads; i++) {
        const int64_t column = first + i * kThreads;
        if (column < pitch) round_to(value[i], &to[column]);
    }
}

int64_t round_up(int64_t count, int64_t unit) {
    return (count + unit - 1) / unit * unit;
}

// The rows from host memory, by way of memory that is let go afterwards.
enum status fill(struct backend *backend, const float *weight, struct packed_weight *packed) {
    const struct backend_table *table = backend->table;
    const size_t bytes = (size_t)(packed->outputs * packed->inputs) * sizeof(float);
    cudaStream_t stream = cuda_backend_stream(backend);
    void *given = NULL;
    TRY(table->alloc(backend, bytes, &given));
    const struct matrix rows = {(float *)given, packed->outputs, packed->inputs, packed->inputs};
    enum status status = table->upload(backend, given, weight, bytes);
    if (status == STATUS_OK && packed->dtype == PLUGIN_F32) {
        const size_t row = (size_t)packed->inputs * sizeof(float);
        const cudaError_t error =
            cudaMemcpy2DAsync(packed->data, (size_t)packed->pitch * sizeof(float), given, row, row,
                              (size_t)packed->outputs, cudaMemcpyDeviceToDevice, stream);
        if (error != cudaSuccess) {
            status = cuda_failed(error, "cudaMemcpy2DAsync", __FILE__, __LINE__);
        }
    } else if (status == STATUS_OK) {
        status = cuda_round_rows(stream, packed->dtype, &rows, packed->data, packed->pitch);
    }
    if (status == STATUS_OK) status = table->wait(backend);
    table->release(backend, given);
    return status;
}

} // namespace

int64_t product_element(enum plugin_dtype dtype) {
    return dtype == PLUGIN_BF16 || dtype == PLUGIN_F16 ? 2 : 4;
}

int64_t product_pitch(enum plugin_dtype dtype, int64_t inputs) {
    return round_up(inputs, PRODUCT_SLAB_BYTES / product_element(dtype));
}

enum status cuda_round_rows(cudaStream_t stream, enum plugin_dtype dtype, const struct matrix *in,
                            void *out, int64_t pitch) {
    const dim3 grid((unsigned)in->rows, (unsigned)((pitch + kColumns - 1) / kColumns));
    if (dtype == PLUGIN_BF16) {
        round_rows_kernel<<<grid, kThreads, 0, stream>>>(*in, (__nv_bfloat16 *)out, pitch);
    } else if (dtype == PLUGIN_F16) {
        round_rows_kernel<<<grid, kThreads, 0, stream>>>(*in, (__half *)out, pitch);
    } else {
        round_rows_kernel<<<grid, kThreads, 0, stream>>>(*in, (float *)out, pitch);
    }
    CUDA_TRY(cudaGetLastError());
    return STATUS_OK;
}

enum status cuda_pack(struct backend *backend, const float *weight, int64_t outputs, int64_t inputs,
                      struct packed_weight **packed) {
    const enum plugin_dtype dtype = cuda_backend_of(backend)->dtype;
    const int64_t pitch = product_pitch(dtype, inputs);
    const int64_t row_bytes = pitch * product_element(dtype);
    const int64_t rows = round_up(outputs, PRODUCT_OUTPUTS);
    TRY(cuda_backend_room(backend, row_bytes, outputs));
    struct packed_weight *made = (struct packed_weight *)calloc(1, sizeof *made);
    if (made == NULL) return FAIL(NO_MEMORY, "packed weight");
    *made = (struct packed_weight){outputs, inputs, pitch, dtype, NULL};
    enum status status = backend->table->alloc(backend, (size_t)(rows * row_bytes), &made->data);
    if (status == STATUS_OK) status = fill(backend, weight, made);
    if (status != STATUS_OK) {
        cuda_release_packed(backend, made);
        return status;
    }
    *packed = made;
    return STATUS_OK;
}

void cuda_release_packed(struct backend *backend, struct packed_weight *packed) {
    if (packed == NULL) return;
    backend->table->release(backend, packed->data);
    free(packed);
}
