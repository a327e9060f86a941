#pragma once
// One square product through cuBLASLt, the yardstick of `longscan bench`. The library is loaded
// at run time and needed for nothing else, so that the plug-in starts without it.

#include "cuda/plugin.h"
#include "ops/base/linkage.h"
#include "ops/base/status.h"

#include <cuda_runtime_api.h>

C_BEGIN

#define CUDA_LT_WORKSPACE ((size_t)64 << 20)

struct cuda_lt_product;

// Bytes of a matrix's element.
size_t cuda_lt_element(enum plugin_dtype dtype);

// out = a * b transposed, all [side, side] of the dtype (f32 and tf32 lie in f32) with sums in f32.
// memory: a, b, out, then CUDA_LT_WORKSPACE bytes; borrowed. *opened stays NULL where the library is not there.
// Errors: NO_MEMORY, UNEXPECTED (the library refuses).
enum status cuda_lt_product_open(int64_t side, enum plugin_dtype dtype, void *memory,
                                 struct cuda_lt_product **opened);
// Queued on the stream. Errors: PEER.
enum status cuda_lt_product_run(struct cuda_lt_product *product, cudaStream_t stream);
void cuda_lt_product_close(struct cuda_lt_product *product); // accepts NULL

void cuda_lt_library(struct library *library);

C_END
