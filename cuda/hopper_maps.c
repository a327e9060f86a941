// The operands of the products, and how any map is made. The driver's function is looked up at run time:
// the plug-in does not link against the driver.

#include "cuda/hopper_maps.h"

#include "cuda/cuda_check.h"
#include "cuda/hopper_gemm.h"
#include "cuda/hopper_panels.h"

#include <pthread.h>
#include <string.h>

enum {
    DEPTH = PANEL_COLUMNS, // k of a box: 128 bytes of bf16
    ROWS = 128,            // rows of A in a box, and half a tile's rows of B
    FIRST_VERSION = 12000  // of the driver that has the function
};

typedef CUresult encode_function(CUtensorMap *map, CUtensorMapDataType type, cuuint32_t rank,
                                 void *data, const cuuint64_t *size, const cuuint64_t *stride,
                                 const cuuint32_t *box, const cuuint32_t *step,
                                 CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
                                 CUtensorMapL2promotion promotion, CUtensorMapFloatOOBfill fill);

// Set once, by whichever thread comes first.
static pthread_once_t encode_once = PTHREAD_ONCE_INIT;
static encode_function *encode;
static enum status encode_status;

static enum status find_encode(void) {
    enum cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
    void *symbol = NULL;
    CUDA_TRY(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &symbol, FIRST_VERSION,
                                              cudaEnableDefault, &found));
    if (found != cudaDriverEntryPointSuccess) {
        return FAIL(PEER, "the CUDA driver has no cuTensorMapEncodeTiled: it is older than 12.0");
    }
    memcpy(&encode, &symbol, sizeof encode);
    return STATUS_OK;
}

static void find_encode_once(void) {
    encode_status = find_encode();
}

enum status hopper_map_make(CUtensorMap *map, const struct map_shape *shape) {
    const cuuint32_t step[5] = {1, 1, 1, 1, 1};
    void *memory = NULL;
    (void)pthread_once(&encode_once, find_encode_once); // fails for no argument of ours
    TRY(encode_status);
    memcpy(&memory, &shape->data, sizeof memory); // the driver's type has no const
    const CUresult result =
        encode(map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, shape->dimensions, memory, shape->size,
               shape->stride, shape->box, step, CU_TENSOR_MAP_INTERLEAVE_NONE, shape->swizzle,
               shape->promotion, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    if (result != CUDA_SUCCESS) {
        return FAIL(PEER,
                    "cuTensorMapEncodeTiled refused a tensor of %llu by %llu by %llu: error %d",
                    (unsigned long long)shape->size[2], (unsigned long long)shape->size[1],
                    (unsigned long long)shape->size[0], (int)result);
    }
    return STATUS_OK;
}

// Rows of dt's weights, half of GEMM_DT: each CTA fetches as many.
static enum status map_dt(CUtensorMap *map, const void *data, int64_t rows, int64_t k) {
    const struct map_shape shape = {
        .data = data,
        .dimensions = 2,
        .size = {(uint64_t)k,     (uint64_t)rows},
        .stride = {(uint64_t)k * 2},
        .box = {DEPTH,    GEMM_DT / 2              },
        .swizzle = CU_TENSOR_MAP_SWIZZLE_128B,
        .promotion = CU_TENSOR_MAP_L2_PROMOTION_L2_256B
    };
    return hopper_map_make(map, &shape);
}

// Weights whose rows come in another order. A thread of a warpgroup's product has, of each eight
// columns, columns 2q and 2q + 1 (q: its place in a quad). So row 2q + e of the j-th eight in shared
// memory is row run * q + 2j + e of a group of 4 * run rows in memory, and its sums over a group are
// `run` columns side by side.
static enum status map_groups(CUtensorMap *map, const void *data, int64_t n, int64_t k,
                              uint32_t run) {
    const uint32_t group = 4 * run;
    const uint64_t row = (uint64_t)k * 2, groups = ((uint64_t)n + group - 1) / group;
    const struct map_shape shape = {
        .data = data,
        .dimensions = 5,
        .size = {(uint64_t)k, 2,         4,       run / 2,      groups}, // k, e, q, j, group
        .stride = {row,         row * run, row * 2, row * group }, // of e, q, j, group
        .box = {DEPTH,          2,         4, run / 2, ROWS / group      },
        .swizzle = CU_TENSOR_MAP_SWIZZLE_128B,
        .promotion = CU_TENSOR_MAP_L2_PROMOTION_L2_256B
    };
    return hopper_map_make(map, &shape);
}

enum status gemm_operand_rows(struct gemm_operand *operand, const void *data, int64_t rows,
                              int64_t k, int64_t pitch) {
    const struct map_shape shape = {
        .data = data,
        .dimensions = 3,
        .size = {PANEL_COLUMNS, (uint64_t)rows,                (uint64_t)(k / PANEL_COLUMNS)},
        .stride = {PANEL_BYTES,   (uint64_t)pitch * PANEL_BYTES},
        .box = {PANEL_COLUMNS,         ROWS,                             1                             },
        .swizzle = CU_TENSOR_MAP_SWIZZLE_128B,
        .promotion = CU_TENSOR_MAP_L2_PROMOTION_L2_256B
    };
    return hopper_map_make(&operand->map, &shape);
}

enum status gemm_operand_in_proj(struct gemm_operand *operand, const void *data,
                                 int64_t raw_columns, int64_t dt_columns, int64_t k) {
    const unsigned char *dt = (const unsigned char *)data + raw_columns * k * 2;
    TRY(map_groups(&operand->map, data, raw_columns, k, 8));
    if (dt_columns == 0) return STATUS_OK;
    return map_dt(&operand->dt, dt, dt_columns, k);
}

enum status gemm_operand_out_proj(struct gemm_operand *operand, const void *data, int64_t n,
                                  int64_t k) {
    return map_groups(&operand->map, data, n, k, 8);
}

enum status gemm_operand_head(struct gemm_operand *operand, const void *data, int64_t n,
                              int64_t k) {
    return map_groups(&operand->map, data, n, k, 4);
}
