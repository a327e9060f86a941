#pragma once
// Weights on the device, and the product of rows with them: what `linear` and `head` share.
//
// f32 runs on the ordinary multipliers, one chain of fused multiply-adds an output, k ascending: the
// bits of the CPU backend. tf32, bf16 and f16 round rows and weights first and run on the tensor
// cores, which add slabs of k in a fixed order. Either way a row's outputs depend on nothing but the
// row and the weights: not on how many rows there are, nor on its place among them.

#include "cuda/cuda_backend.h"

C_BEGIN

#define PRODUCT_ROWS       128 // rows and outputs of a block's tile
#define PRODUCT_OUTPUTS    128
#define PRODUCT_SLAB_BYTES 128 // of a row's k that a tensor core block takes at a time

// Weights [outputs, inputs], rows of `pitch` elements, zero behind the inputs and in the rows that
// fill the last block.
struct packed_weight {
    int64_t outputs, inputs, pitch;
    enum plugin_dtype dtype;
    void *data; // [outputs up to a whole block, pitch], owned
};

// out = in . weight (+ bias), or out += that. in.columns is weight->inputs, out.columns
// weight->outputs. Queued.
enum status cuda_product(struct backend *backend, const struct linear_args *args);

// The bytes of an element, and the elements of a row of `inputs` filled up to whole slabs.
int64_t product_element(enum plugin_dtype dtype);
int64_t product_pitch(enum plugin_dtype dtype, int64_t inputs);

// Rounds `rows` rows of f32 into rows of `pitch` elements of the dtype, zero behind the columns.
enum status cuda_round_rows(cudaStream_t stream, enum plugin_dtype dtype, const struct matrix *in,
                            void *out, int64_t pitch);

// The product of rounded rows, [rows, weight->pitch], on the tensor cores.
enum status cuda_product_rounded(cudaStream_t stream, const void *rows,
                                 const struct linear_args *args);

C_END
