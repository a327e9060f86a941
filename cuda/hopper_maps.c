// How the copy engine sees the operands of a product. The driver's function is looked up at run time:
// the plug-in does not link against the driver.

#include "cuda/cuda_check.h"
#include "cuda/hopper_gemm.h"

#include <string.h>

enum {
    DEPTH = 64,           // k of a box: 128 bytes of bf16
    ROWS = 128,           // rows of A in a box, and half a tile's rows of B
    FIRST_VERSION = 12000 // of the driver that has the function
};

typedef CUresult encode_function(CUtensorMap *map, CUtensorMapDataType type, cuuint32_t rank,
                                 void *data, const cuuint64_t *size, const cuuint64_t *stride,
                                 const cuuint32_t *box, const cuuint32_t *step,
                                 CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
                                 CUtensorMapL2promotion promotion, CUtensorMapFloatOOBfill fill);

static enum status encode(CUtensorMap *map, cuuint32_t rank, const void *data,
                          const cuuint64_t *size, const cuuint64_t *stride, const cuuint32_t *box) {
    const cuuint32_t step[5] = {1, 1, 1, 1, 1};
    enum cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
    encode_function *function = NULL;
    void *symbol = NULL, *memory = NULL;
    CUDA_TRY(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &symbol, FIRST_VERSION,
                                              cudaEnableDefault, &found));
    if (found != cudaDriverEntryPointSuccess) {
        return FAIL(PEER, "the CUDA driver has no cuTensorMapEncodeTiled: it is older than 12.0");
    }
    memcpy(&function, &symbol, sizeof function);
    memcpy(&memory, &data, sizeof memory); // the driver's type has no const
    const CUresult result =
        function(map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, rank, memory, size, stride, box, step,
                 CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                 CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    if (result != CUDA_SUCCESS) {
        return FAIL(PEER, "cuTensorMapEncodeTiled refused a matrix of %llu columns: error %d",
                    (unsigned long long)size[0], (int)result);
    }
    return STATUS_OK;
}

static enum status encode_rows(CUtensorMap *map, const void *data, int64_t rows, int64_t k,
                               int64_t pitch, cuuint32_t box_rows) {
    const cuuint64_t size[2] = {(cuuint64_t)k, (cuuint64_t)rows};
    const cuuint64_t stride[1] = {(cuuint64_t)pitch * 2};
    const cuuint32_t box[2] = {DEPTH, box_rows};
    return encode(map, 2, data, size, stride, box);
}

// Weights whose rows come in another order. A thread of a warpgroup's product has, of each eight
// columns, columns 2q and 2q + 1 (q: its place in a quad). So row 2q + e of the j-th eight in shared
// memory is row run * q + 2j + e of a group of 4 * run rows in memory, and its sums over a group are
// `run` columns side by side.
static enum status encode_groups(CUtensorMap *map, const void *data, int64_t n, int64_t k,
                                 cuuint32_t run) {
    const cuuint32_t group = 4 * run;
    const cuuint64_t row = (cuuint64_t)k * 2, groups = ((cuuint64_t)n + group - 1) / group;
    const cuuint64_t size[5] = {(cuuint64_t)k, 2, 4, run / 2, groups};   // k, e, q, j, group
    const cuuint64_t stride[4] = {row, row * run, row * 2, row * group}; // of e, q, j, group
    const cuuint32_t box[5] = {DEPTH, 2, 4, run / 2, ROWS / group};
    return encode(map, 5, data, size, stride, box);
}

enum status gemm_operand_rows(struct gemm_operand *operand, const void *data, int64_t rows,
                              int64_t k, int64_t pitch) {
    return encode_rows(&operand->map, data, rows, k, pitch, ROWS);
}

enum status gemm_operand_in_proj(struct gemm_operand *operand, const void *data,
                                 int64_t raw_columns, int64_t dt_columns, int64_t k) {
    const unsigned char *dt = (const unsigned char *)data + raw_columns * k * 2;
    TRY(encode_groups(&operand->map, data, raw_columns, k, 8));
    if (dt_columns == 0) return STATUS_OK;
    return encode_rows(&operand->dt, dt, dt_columns, k, k,
                       GEMM_DT / 2); // a CTA fetches half of them
}

enum status gemm_operand_out_proj(struct gemm_operand *operand, const void *data, int64_t n,
                                  int64_t k) {
    return encode_groups(&operand->map, data, n, k, 8);
}

enum status gemm_operand_head(struct gemm_operand *operand, const void *data, int64_t n,
                              int64_t k) {
    return encode_groups(&operand->map, data, n, k, 4);
}
