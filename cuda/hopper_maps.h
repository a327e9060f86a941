#pragma once
// How the copy engine sees a tensor of bf16 in memory, of which it fetches boxes.

#include "ops/base/linkage.h"
#include "ops/base/status.h"

#include <cuda.h>

#include <stdint.h>

C_BEGIN

struct map_shape {
    const void *data;    // aligned to 16 bytes
    uint32_t dimensions; // at most 5, the one whose elements lie side by side first
    uint64_t size[5];    // elements; a box that reaches beyond gets zeros
    uint64_t stride[4];  // bytes, from the second dimension on
    uint32_t box[5];     // elements
    CUtensorMapSwizzle swizzle;
    CUtensorMapL2promotion promotion;
};

// Thread: any. Errors: PEER (the driver is too old, or refuses the map).
enum status hopper_map_make(CUtensorMap *map, const struct map_shape *shape);

C_END
