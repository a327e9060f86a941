// Host side of the Hopper scan: what it supports, its scratch memory, its tensor maps.

#include "cuda/hopper_maps.h"
#include "cuda/hopper_scan_shared.h"

#include <cuda_runtime.h>

namespace {

// 1 in the code for sm_90a, the only one that has the kernels' bodies.
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
__device__ const int built_for_hopper = 1;
#else
__device__ const int built_for_hopper = 0;
#endif

// `pitch`: rows between panels.
enum status map_panels(CUtensorMap *map, const void *data, uint64_t rows, uint64_t panels,
                       uint64_t pitch, uint32_t box_rows, uint32_t box_panels,
                       CUtensorMapSwizzle swizzle) {
    const map_shape shape = {
        data,
        3,
        {64,          rows,                panels},
        {PANEL_BYTES, pitch * PANEL_BYTES},
        {64,   box_rows,          box_panels      },
        swizzle,
        CU_TENSOR_MAP_L2_PROMOTION_L2_128B
    };
    return hopper_map_make(map, &shape);
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
    const uint64_t raw_pitch = (uint64_t)args->raw_pitch;
    const uint64_t pitch = (uint64_t)args->work.pitch;
    const char *raw_x = static_cast<const char *>(args->raw) + heads * raw_pitch * PANEL_BYTES;
    const struct hopper_scan_work &work = args->work;
    const CUtensorMapSwizzle plain = CU_TENSOR_MAP_SWIZZLE_NONE;
    const CUtensorMapSwizzle swizzled = CU_TENSOR_MAP_SWIZZLE_128B;
    TRY(map_panels(&maps->raw_x, raw_x, rows, heads, raw_pitch, SCAN_SUBTILE + SCAN_HALO, 2,
                   plain));
    TRY(map_panels(&maps->x, work.x, rows, heads, pitch, SCAN_SUBTILE, 1, swizzled));
    TRY(map_panels(&maps->bc, work.bc, rows, panels, pitch, SCAN_SUBTILE, 2, swizzled));
    TRY(map_panels(&maps->z, args->raw, rows, heads, raw_pitch, SCAN_SUBTILE, 1, swizzled));
    return map_panels(&maps->v, args->raw, rows, heads, raw_pitch, SCAN_V_ROWS, 1, swizzled);
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
    work->pitch = rows;
    work->x = base + take(&used, r * heads * SCAN_HEAD_DIM * 2);
    work->bc = base + take(&used, r * (size_t)(2 * shape->groups * shape->d_state) * 2);
    work->decay = reinterpret_cast<scan_decay *>(
        base + take(&used, heads * (size_t)scan_subtiles(rows, tiles) * sizeof(scan_decay)));
    work->states =
        reinterpret_cast<float *>(base + take(&used, t * heads * SCAN_STATE * sizeof(float)));
    work->carry = reinterpret_cast<float *>(base + take(&used, t * heads * sizeof(float)));
    work->fall =
        reinterpret_cast<float *>(base + take(&used, t * heads * SCAN_TILE_CHUNKS * sizeof(float)));
    work->chunk_states = base + take(&used, (r / SCAN_CHUNK + 1) * heads * SCAN_STATE * 2);
    work->tile_states = base + take(&used, t * heads * SCAN_STATE * 2);
    work->order = reinterpret_cast<int32_t *>(base + take(&used, t * sizeof(int32_t)));
    work->chunk_list = // a tile has at most one short chunk
        reinterpret_cast<int32_t *>(base + take(&used, (r / SCAN_CHUNK + t) * sizeof(int32_t)));
    work->chunk_count = reinterpret_cast<int32_t *>(base + take(&used, sizeof(int32_t)));
    work->ticket = reinterpret_cast<int32_t *>(base + take(&used, SCAN_TICKETS * sizeof(int32_t)));
    return used;
}
