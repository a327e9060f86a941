#pragma once
// What the Hopper scan's first steps leave for its last: the states before chunks and tiles and the
// decays up to chunks, against the recurrence in double; and the list of chunks.

#include "cuda/hopper_scan_shared.h"
#include "tests/cuda_scan_reference.cuh"

#include <algorithm>

inline int chunks_of(const scan_tile &tile) {
    return (tile.rows + SCAN_CHUNK - 1) / SCAN_CHUNK;
}

inline bool has_state(const batch &b, const scan_tile &tile) { // else it is zero, and not written
    const scan_span &span = b.spans[(size_t)tile.span];
    return tile.row > span.row || span.state_in != nullptr;
}

// The image of chunk k > 0 of a tile.
inline size_t chunk_image(const scan_tile &tile, int k, size_t head, size_t heads) {
    return ((size_t)tile.row / SCAN_CHUNK + (size_t)k) * heads + head;
}

// Copies on the host; of what is not written, any bits.
struct handed {
    std::vector<uint16_t> chunk, tile;
    std::vector<float> fall;
    size_t heads;

    explicit handed(const prepared &p)
        : chunk((size_t)((p.args.batch.rows / SCAN_CHUNK + 1) * p.args.shape.heads) * 8192),
          tile((size_t)(p.args.batch.tiles * p.args.shape.heads) * 8192),
          fall((size_t)(p.args.batch.tiles * p.args.shape.heads) * 8),
          heads((size_t)p.args.shape.heads) {
        const struct hopper_scan_work &work = p.args.work;
        MUST(cudaMemcpy(chunk.data(), work.chunk_states, chunk.size() * 2, cudaMemcpyDeviceToHost));
        MUST(cudaMemcpy(tile.data(), work.tile_states, tile.size() * 2, cudaMemcpyDeviceToHost));
        MUST(cudaMemcpy(fall.data(), work.fall, fall.size() * 4, cudaMemcpyDeviceToHost));
    }
    // Tile `t` here and tile `other_t` of `other`, which have as many rows and both a state or none.
    bool same(size_t t, const scan_tile &rows, bool state, const handed &other, size_t other_t,
              const scan_tile &other_rows) const {
        const int chunks = chunks_of(rows);
        bool all = true;
        for (size_t h = 0; h < heads; h++) {
            const size_t a = t * heads + h, b = other_t * heads + h;
            for (int k = 1; k < chunks; k++) {
                all = all && memcmp(&chunk[chunk_image(rows, k, h, heads) * 8192],
                                    &other.chunk[chunk_image(other_rows, k, h, heads) * 8192],
                                    8192 * 2) == 0;
            }
            all = all && memcmp(&fall[a * 8], &other.fall[b * 8], (size_t)chunks * 4) == 0 &&
                  (!state || memcmp(&tile[a * 8192], &other.tile[b * 8192], 8192 * 2) == 0);
        }
        return all;
    }
};

struct image_pair {
    const __nv_bfloat16 *got; // swizzled
    const float *want;        // [64][128]
};

// error[image]: the root of the squares of all differences over those of what is wanted.
// Grid: (images)  Block: (256)
__global__ void compare_images(const image_pair *pair, float *error) {
    __shared__ double difference[256], size[256];
    const image_pair at = pair[blockIdx.x];
    const int p = (int)threadIdx.x / 4;
    double d = 0.0, s = 0.0;
    for (int n = (int)threadIdx.x % 4 * 32, i = 0; i < 32; i++, n++) {
        const int column = (n % 64 / 8 ^ p % 8) * 8 + n % 8;
        const double got = __bfloat162float(at.got[n / 64 * 4096 + p * 64 + column]);
        const double want = at.want[p * 128 + n];
        d += (got - want) * (got - want);
        s += want * want;
    }
    difference[threadIdx.x] = d;
    size[threadIdx.x] = s;
    __syncthreads();
    if (threadIdx.x > 0) return;
    for (int i = 1; i < 256; i++) {
        d += difference[i];
        s += size[i];
    }
    error[blockIdx.x] = (float)sqrt(d / (s + 1e-30));
}

inline double worst_image(const std::vector<image_pair> &pairs) {
    if (pairs.empty()) return 0.0;
    device_array<image_pair> pair(pairs);
    device_array<float> error(pairs.size());
    compare_images<<<(unsigned)pairs.size(), 256>>>(pair.data, error.data);
    MUST(cudaGetLastError());
    double worst = 0.0;
    for (float e : error.host())
        if (!(e <= worst)) worst = e;
    return worst;
}

struct handed_errors {
    double chunk, tile, fall;
};

inline handed_errors compare_handed(const prepared &p, const batch &b, const reference &want) {
    const size_t heads = (size_t)p.args.shape.heads;
    const struct hopper_scan_work &work = p.args.work;
    const auto *chunk = static_cast<const __nv_bfloat16 *>(work.chunk_states);
    const auto *tile = static_cast<const __nv_bfloat16 *>(work.tile_states);
    const std::vector<float> want_fall = want.fall.host();
    std::vector<float> fall(want_fall.size());
    MUST(cudaMemcpy(fall.data(), work.fall, fall.size() * 4, cudaMemcpyDeviceToHost));
    std::vector<image_pair> chunks, tiles;
    handed_errors e = {};
    for (size_t t = 0; t < b.tiles.size(); t++) {
        for (size_t h = 0; h < heads; h++) {
            const size_t at = t * heads + h;
            if (has_state(b, b.tiles[t]))
                tiles.push_back({tile + at * 8192, want.before.data + at * 8192});
            for (int k = 0; k < chunks_of(b.tiles[t]); k++) {
                const size_t i = at * 8 + (size_t)k;
                const double error = fabs(fall[i] - want_fall[i]) / (want_fall[i] + 1e-30);
                if (!(error <= e.fall)) e.fall = error;
                if (k == 0) continue;
                const size_t image = chunk_image(b.tiles[t], k, h, heads);
                chunks.push_back({chunk + image * 8192, want.chunk.data + image * 8192});
            }
        }
    }
    e.chunk = worst_image(chunks);
    e.tile = worst_image(tiles);
    return e;
}

// Every chunk once, a tile's one after the other, no tile behind one with fewer subtiles.
inline bool chunks_listed(const prepared &p, const batch &b) {
    const struct hopper_scan_work &work = p.args.work;
    size_t expected = 0;
    for (const scan_tile &tile : b.tiles)
        expected += (size_t)chunks_of(tile);
    int32_t count = 0;
    MUST(cudaMemcpy(&count, work.chunk_count, sizeof count, cudaMemcpyDeviceToHost));
    if (count < 0 || (size_t)count != expected) return false;
    std::vector<int32_t> list(expected);
    MUST(cudaMemcpy(list.data(), work.chunk_list, expected * 4, cudaMemcpyDeviceToHost));
    std::vector<bool> seen(b.tiles.size());
    int before = HOPPER_SCAN_TILE;
    for (size_t i = 0; i < expected;) {
        if (list[i] < 0 || list[i] % 8 != 0 || (size_t)list[i] / 8 >= b.tiles.size()) return false;
        const size_t t = (size_t)list[i] / 8;
        const int subtiles = (b.tiles[t].rows + SCAN_SUBTILE - 1) / SCAN_SUBTILE;
        if (seen[t] || subtiles > before) return false;
        for (int k = 0; k < chunks_of(b.tiles[t]); k++, i++)
            if (i >= expected || list[i] != (int32_t)(8 * t) + k) return false;
        seen[t] = true;
        before = subtiles;
    }
    return true;
}
