// A row of the embedding for each token.

#include "cuda/cuda_backend.h"

namespace {

constexpr int kThreads = 128;

// Grid: (rows)  Block: (kThreads), a thread copies every kThreads-th column  Shared: none
__global__ void __launch_bounds__(kThreads) embedding_kernel(struct embedding_args a) {
    const int64_t row = blockIdx.x;
    const float *from = a.weight.data + a.token[row] * a.weight.stride;
    float *to = a.out.data + row * a.out.stride;
    for (int64_t c = threadIdx.x; c < a.out.columns; c += kThreads) {
        to[c] = from[c];
    }
}

} // namespace

enum status cuda_embedding(struct backend *backend, const struct embedding_args *args) {
    const unsigned rows = (unsigned)args->out.rows;
    embedding_kernel<<<rows, kThreads, 0, cuda_backend_stream(backend)>>>(*args);
    CUDA_TRY(cudaGetLastError());
    return STATUS_OK;
}
