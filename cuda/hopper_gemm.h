#pragma once
// The model's three matrix products on Hopper (sm_90a), each with the row-wise work around it done in
// its epilogue, and the gathers that start and end a step. All take rows of bf16, sum in f32, and are
// queued.
//
// Activations lie in panels (hopper_panels.h), of arrays `pitch` rows high; pointers to them are to their
// first row. So k, n, raw_columns and embed_gather's columns are multiples of 64.
//
// Norms: a row r of the residual is kept in f32. Beside it lie u = bf16(r * w), w the weight of the
// norm that comes next, and the sums of the squares of r over each GEMM_COLUMNS columns. The product
// that reads u scales its result by rstd = 1 / sqrt(sum of squares / columns + epsilon): the norm
// costs no pass of its own.
//
// Bits: a row's results depend on its inputs alone, not on its place, on the number of rows, or on the
// schedule: sums over k rise, no product is split along k, partial sums are added in index order.

#include "ops/base/linkage.h"
#include "ops/base/status.h"

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <stdbool.h>
#include <stdint.h>

C_BEGIN

#define GEMM_COLUMNS 256 // columns of a tile
#define GEMM_DT      32 // columns of dt that one of the last tiles of in_proj can take beside its own

// ceil(columns / GEMM_COLUMNS): how many sums of squares a residual row of this many columns has.
static inline int32_t gemm_tiles(int64_t columns) {
    return (int32_t)((columns + GEMM_COLUMNS - 1) / GEMM_COLUMNS);
}

// Whether the current device and this build have these kernels.
bool hopper_gemm_supported(void);

// An operand as the copy engine sees it. Holds no memory; good as long as the buffer is where it was.
struct gemm_operand {
    CUtensorMap map;
    CUtensorMap dt; // weights of in_proj only: the rows behind the first raw_columns
};

// bf16 [k / 64][pitch][64], of each panel the first `rows`; products may use fewer. Address aligned to
// 16 bytes. Errors: PEER (the driver refuses the map).
enum status gemm_operand_rows(struct gemm_operand *operand, const void *data, int64_t rows,
                              int64_t k, int64_t pitch);

// Weights [n][k] of bf16 without gaps, row by row. The head's memory up to the next multiple of 16 rows
// is read (not used) and must be mapped. Errors: PEER.
enum status gemm_operand_in_proj(struct gemm_operand *operand, const void *data,
                                 int64_t raw_columns, int64_t dt_columns, int64_t k);
enum status gemm_operand_out_proj(struct gemm_operand *operand, const void *data, int64_t n,
                                  int64_t k);
enum status gemm_operand_head(struct gemm_operand *operand, const void *data, int64_t n, int64_t k);

// Where a product runs.
struct gemm_queue {
    cudaStream_t stream;
    int32_t sms;      // how many multiprocessors it may take; the rest is left to others
    uint32_t *ticket; // [2], device, zero at first and again after each product; one for a stream
};

// The row scale 1 / sqrt((squares[t][0] + squares[t][1] + ...) / columns + epsilon).
struct gemm_scale {
    const float *squares; // [rows][parts]
    int32_t parts;
    float columns, epsilon;
};

// out = scale * (u W^T) + bias; the first raw_columns as bf16 into raw, the other dt_columns as f32
// into dt.
struct gemm_in_proj {
    const struct gemm_operand *u;      // [rows][k]
    const struct gemm_operand *weight; // [raw_columns + dt_columns][k]
    int64_t rows, k;
    int64_t raw_columns;
    int64_t dt_columns; // at most GEMM_DT * gemm_tiles(raw_columns)
    struct gemm_scale scale;
    const float *bias; // [raw_columns + dt_columns], NULL: none
    void *raw;         // bf16 [raw_columns / 64][raw_pitch][64], aligned to 16 bytes
    int64_t raw_pitch; // rows
    float *dt;         // [rows][dt_columns]
};
enum status hopper_in_proj(const struct gemm_queue *queue, const struct gemm_in_proj *args);

// r += scale * (v W^T) + bias; u = bf16(r * norm); squares of r.
struct gemm_out_proj {
    const struct gemm_operand *v;      // [rows][k]
    const struct gemm_operand *weight; // [n][k]
    int64_t rows, k;
    int64_t n;
    struct gemm_scale scale;
    const float *bias; // [n], NULL: none
    const float *norm; // [n], of the norm that comes next
    float *r;          // [n / 32][pitch][32], in place
    void *u;           // bf16 [n / 64][pitch][64]
    int64_t pitch;     // rows
    float *squares;    // [rows][gemm_tiles(n)]
};
enum status hopper_out_proj(const struct gemm_queue *queue, const struct gemm_out_proj *args);

// nll[t] = log(sum over n of exp(logit[t][n])) - logit[t][target[t]], logit = scale * (u W^T); 0 where
// the target is -1. The logits are never in memory.
struct gemm_head {
    const struct gemm_operand *u;      // [rows][k]
    const struct gemm_operand *weight; // [vocab][k]
    int64_t rows, k, vocab;
    struct gemm_scale scale;
    const int32_t *target; // [rows], device
    float2 *partial;       // [rows][gemm_tiles(vocab)], scratch: maximum and sum of 2^(l - maximum)
    float *target_logit;   // [rows], scratch
    float *nll;            // [rows]
};
enum status hopper_head(const struct gemm_queue *queue, const struct gemm_head *args);

// r = table[token]; u = bf16(r * norm); squares of r. Runs on any device.
struct embed_gather {
    const float *table;   // [vocab][columns]
    const int32_t *token; // [rows], device, each in [0, vocab)
    const float *norm;    // [columns]
    int64_t rows, columns;
    float *r;       // [columns / 32][pitch][32]
    void *u;        // bf16 [columns / 64][pitch][64]
    int64_t pitch;  // rows
    float *squares; // [rows][gemm_tiles(columns)]
};
enum status cuda_embed_gather(cudaStream_t stream, const struct embed_gather *args);

// Rows row[0], ... of r [columns / 32][pitch][32] into out [rows][columns]. Runs on any device.
struct residual_gather {
    const float *r;
    int64_t pitch;
    const int32_t *row; // [rows], device, each in [0, pitch)
    int64_t rows, columns;
    float *out;
};
enum status cuda_residual_gather(cudaStream_t stream, const struct residual_gather *args);

C_END
