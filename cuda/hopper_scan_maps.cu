// Host side of the Hopper scan: what it supports, its scratch memory, its tensor maps.

#include "cuda/cuda_check.h"
#include "cuda/hopper_scan_shared.h"

#include <cuda_runtime.h>

namespace {

// 1 in the code for sm_90a, the only one that has the kernels' bodies.
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
__device__ const int built_for_hopper = 1;
#else
__device__ const int built_for_hopper = 0;
#endif

using encode_function = CUresult(CUtensorMap *, CUtensorMapDataType, cuuint32_t, void *,
                                 const cuuint64_t *, const cuuint64_t *, const cuuint32_t *,
                                 const cuuint32_t *, CUtensorMapInterleave, CUtensorMapSwizzle,
                                 CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

// Of the driver's library, which the plug-in does not link.
enum status find_encode(encode_function **encode) {
    void *entry = nullptr;
    cudaDriverEntryPointQueryResult found;
    CUDA_TRY(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000,
                                              cudaEnableDefault, &found));
    if (found != cudaDriverEntryPointSuccess) CUDA_TRY(cudaErrorNotSupported);
    *encode = reinterpret_cast<encode_function *>(entry);
    return STATUS_OK;
}

struct box_map {
    CUtensorMap *map;
    const void *base;
    uint64_t size[3];     // columns, rows, panels
    uint64_t row_bytes;   // from row to row
    uint64_t panel_bytes; // from panel to panel
    uint32_t box_rows, box_panels;
    CUtensorMapSwizzle swizzle;
};

enum status encode_map(encode_function *encode, const box_map &m) {
    const cuuint64_t strides[2] = {m.row_bytes, m.panel_bytes};
    const cuuint32_t box[3] = {64, m.box_rows, m.box_panels};
    const cuuint32_t steps[3] = {1, 1, 1};
    const CUresult result =
        encode(m.map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 3, const_cast<void *>(m.base), m.size,
               strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, m.swizzle,
               CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    if (result != CUDA_SUCCESS) CUDA_TRY(cudaErrorInvalidValue);
    return STATUS_OK;
}

size_t take(size_t *used, size_t bytes) {
    const size_t at = *used;
    *used = (at + bytes + 255) / 256 * 256;
    return at;
}

} // namespace

enum status scan_maps_make(struct scan_maps *maps, const struct hopper_scan_args *args) {
    const uint64_t rows = (uint64_t)args->batch.rows;
    const uint64_t heads = (uint64_t)args->shape.heads;
    const uint64_t panels = (uint64_t)(2 * args->shape.groups * args->shape.d_state / 64);
    const uint64_t raw_pitch = (uint64_t)args->raw_pitch * 2;
    const char *raw_x = static_cast<const char *>(args->raw) + heads * SCAN_HEAD_DIM * 2;
    const CUtensorMapSwizzle plain = CU_TENSOR_MAP_SWIZZLE_NONE;
    const CUtensorMapSwizzle swizzled = CU_TENSOR_MAP_SWIZZLE_128B;
    const uint32_t halo_rows = SCAN_SUBTILE + SCAN_HALO;
    const struct hopper_scan_work &work = args->work;
    const box_map boxes[] = {
        {&maps->raw_x, raw_x,     {64, rows, heads},  raw_pitch,    128, halo_rows,    2, plain   },
        {&maps->x,     work.x,    {64, rows, heads},  heads * 128,  128, SCAN_SUBTILE, 2, swizzled},
        {&maps->bc,    work.bc,   {64, rows, panels}, panels * 128, 128, SCAN_SUBTILE, 2, swizzled},
        {&maps->z,     args->raw, {64, rows, heads},  raw_pitch,    128, SCAN_SUBTILE, 1, swizzled},
    };
    encode_function *encode = nullptr;
    TRY(find_encode(&encode));
    for (const box_map &box : boxes) {
        TRY(encode_map(encode, box));
    }
    return STATUS_OK;
}

bool hopper_scan_supported(int32_t device, const struct scan_shape *shape, int64_t d_conv) {
    int major = 0;
    int minor = 0;
    int built = 0;
    if (shape->head_dim != SCAN_HEAD_DIM || shape->d_state != SCAN_D_STATE) return false;
    if (d_conv < 2 || d_conv > SCAN_HALO + 1) return false;
    if (shape->groups < 1 || shape->heads % shape->groups != 0) return false;
    if (shape->groups > 1 && shape->heads / shape->groups % 2 != 0) return false;
    if (cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) != cudaSuccess ||
        cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device) != cudaSuccess ||
        major != 9 || minor != 0) {
        cudaGetLastError(); // asked, not failed
        return false;
    }
    if (cudaMemcpyFromSymbol(&built, built_for_hopper, sizeof built) != cudaSuccess) {
        cudaGetLastError();
        return false;
    }
    return built != 0;
}

size_t hopper_scan_work(struct hopper_scan_work *work, const struct scan_shape *shape, int64_t rows,
                        int64_t tiles, void *memory) {
    const size_t heads = (size_t)shape->heads;
    const size_t r = (size_t)rows;
    const size_t t = (size_t)tiles;
    char *base = static_cast<char *>(memory);
    size_t used = 0;
    work->x = base + take(&used, r * heads * SCAN_HEAD_DIM * 2);
    work->bc = base + take(&used, r * (size_t)(2 * shape->groups * shape->d_state) * 2);
    work->decay = reinterpret_cast<float4 *>(
        base + take(&used, heads * (size_t)scan_decay_pitch(rows) * sizeof(float4)));
    work->states =
        reinterpret_cast<float *>(base + take(&used, t * heads * SCAN_STATE * sizeof(float)));
    work->carry = reinterpret_cast<float *>(base + take(&used, t * heads * sizeof(float)));
    work->order = reinterpret_cast<int32_t *>(base + take(&used, t * sizeof(int32_t)));
    work->ticket = reinterpret_cast<int32_t *>(base + take(&used, SCAN_TICKETS * sizeof(int32_t)));
    return used;
}
