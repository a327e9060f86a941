#pragma once
// A layer's inputs for the Hopper scan, made on the device from numbers (document, token, column),
// so that the same token has the same values wherever a batch puts it; and one run over a batch.

#include "cuda/cuda_check.h"
#include "cuda/hopper_panels.h"
#include "cuda/hopper_scan.h"

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vector>

#define MUST(call)                                                                                 \
    do {                                                                                           \
        const cudaError_t must_ = (call);                                                          \
        if (must_ != cudaSuccess) {                                                                \
            printf("FAILED %s:%d %s: %s\n", __FILE__, __LINE__, #call, cudaGetErrorString(must_)); \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

constexpr int kLayers = 2; // the state memory's; batches use the last

struct shape {
    int heads, groups, d_conv;
    bool bias;
    int d_inner() const {
        return heads * 64;
    }
    int bc_width() const {
        return 2 * groups * 128;
    }
    int conv_width() const {
        return d_inner() + bc_width();
    }
    int raw_columns() const {
        return d_inner() + conv_width();
    }
    int64_t conv_offset() const {
        return (int64_t)heads * 8192 * 4;
    }
    int64_t layer_bytes() const {
        return conv_offset() + (int64_t)(d_conv - 1) * conv_width() * 4;
    }
};

// Part of a document in a batch: tokens from `from`, after `gap` rows that belong to nobody.
struct piece {
    int document, from, rows;
    int in, out; // state slots, or -1
    int gap;
};

// Memory of one type and count on the device, released at the end of its scope.
template <class T>
struct device_array {
    T *data = nullptr;
    size_t count = 0;
    explicit device_array(size_t n) : count(n) {
        MUST(cudaMalloc(&data, (n > 0 ? n : 1) * sizeof(T)));
    }
    explicit device_array(const std::vector<T> &from) : device_array(from.size()) {
        MUST(cudaMemcpy(data, from.data(), count * sizeof(T), cudaMemcpyHostToDevice));
    }
    device_array(const device_array &) = delete;
    ~device_array() {
        cudaFree(data);
    }
    std::vector<T> host() const {
        std::vector<T> copy(count);
        MUST(cudaMemcpy(copy.data(), data, count * sizeof(T), cudaMemcpyDeviceToHost));
        return copy;
    }
    void poison() {
        MUST(cudaMemset(data, 0xff, count * sizeof(T))); // NaN in bf16 and f32
    }
};

__host__ __device__ inline float drawn(uint64_t a, uint64_t b, uint64_t c) { // in [-1, 1)
    uint64_t x = 0;
    for (uint64_t part : {a, b, c}) {
        x = (x ^ part) * 0x9e3779b97f4a7c15ull;
        x = (x ^ x >> 29) * 0xbf58476d1ce4e5b9ull;
        x ^= x >> 32;
    }
    x = (x ^ x >> 30) * 0x94d049bb133111ebull;
    return (float)(int32_t)(x >> 32) / 2147483648.0f;
}

// document < 0: a row of nobody's; -2: NaN and infinities, else numbers.
__global__ void fill_rows(__nv_bfloat16 *raw, int64_t pitch, int columns, float *dt, int heads,
                          const int2 *row) {
    const int2 at = row[blockIdx.x];
    for (int c = (int)threadIdx.x; c < columns; c += (int)blockDim.x) {
        float value = 2.0f * drawn((uint64_t)at.x + 7, (uint64_t)at.y, (uint64_t)c);
        if (at.x == -2) value = c % 2 == 0 ? NAN : INFINITY;
        raw[panel_at(pitch, blockIdx.x, c)] = __float2bfloat16(value);
    }
    for (int h = (int)threadIdx.x; h < heads; h += (int)blockDim.x) {
        const float value = 3.0f * drawn((uint64_t)at.x + 9, (uint64_t)at.y, (uint64_t)h + 100000);
        dt[(int64_t)blockIdx.x * heads + h] = at.x == -2 ? NAN : value - 2.0f;
    }
}

// The parameters of a layer. Head 0 hardly forgets, head 1 at once, the others as trained ones do.
struct layer {
    struct shape shape;
    device_array<float> conv_weight, conv_bias, dt_bias, a, d, norm_weight;

    static std::vector<float> draw(size_t n, uint64_t seed, float middle, float width) {
        std::vector<float> values(n);
        for (size_t i = 0; i < n; i++)
            values[i] = middle + width * drawn(seed, i, 3);
        return values;
    }
    static std::vector<float> rates(size_t n) {
        std::vector<float> values = draw(n, 5, -8.5f, 7.5f);
        if (n > 2) values[0] = -1e-5f, values[1] = -300.0f;
        return values;
    }
    explicit layer(const struct shape &s)
        : shape(s), conv_weight(draw((size_t)(s.conv_width() * s.d_conv), 1, 0.1f, 0.6f)),
          conv_bias(draw((size_t)s.conv_width(), 2, 0.0f, 0.3f)),
          dt_bias(draw((size_t)s.heads, 3, -1.0f, 1.0f)), a(rates((size_t)s.heads)),
          d(draw((size_t)s.heads, 6, 1.0f, 0.5f)),
          norm_weight(draw((size_t)s.d_inner(), 7, 1.0f, 0.5f)) {}
};

// State memory: slots of kLayers layers.
struct states {
    struct shape shape;
    device_array<float> memory;
    int slots;
    explicit states(const struct shape &s, int count)
        : shape(s), memory(draw(s, count)), slots(count) {}
    static std::vector<float> draw(const struct shape &s, int count) {
        const size_t n = (size_t)s.layer_bytes() / 4 * kLayers * (size_t)count;
        std::vector<float> values(n);
        for (size_t i = 0; i < n; i++) // of bf16 precision, as all rows of the convolution are
            values[i] = __bfloat162float(__float2bfloat16(drawn(11, i, 1)));
        return values;
    }
    char *at(int slot) const {
        return (char *)memory.data + (int64_t)slot * kLayers * shape.layer_bytes();
    }
    std::vector<float> layer(int slot) const {
        std::vector<float> copy((size_t)shape.layer_bytes() / 4);
        MUST(cudaMemcpy(copy.data(), at(slot) + (kLayers - 1) * shape.layer_bytes(),
                        (size_t)shape.layer_bytes(), cudaMemcpyDeviceToHost));
        return copy;
    }
};

// The tables and rows of a batch, as the model would make them.
struct batch {
    std::vector<scan_tile> tiles;
    std::vector<scan_span> spans;
    std::vector<int2> rows;
    std::vector<int64_t> first_row; // of each piece

    batch(const std::vector<piece> &pieces, const states &s, int padding, int nobody) {
        for (const piece &p : pieces) {
            rows.insert(rows.end(), (size_t)p.gap, make_int2(nobody, (int)rows.size()));
            scan_span span = {};
            span.row = (int64_t)rows.size();
            span.rows = p.rows;
            span.first_tile = (int64_t)tiles.size();
            span.in_layer_bytes = span.out_layer_bytes = s.shape.layer_bytes();
            span.state_in = p.in < 0 ? nullptr : s.at(p.in);
            span.state_out = p.out < 0 ? nullptr : s.at(p.out);
            for (int at = 0; at < p.rows; at += HOPPER_SCAN_TILE) {
                const int left = p.rows - at;
                const int count = left < HOPPER_SCAN_TILE ? left : HOPPER_SCAN_TILE;
                tiles.push_back({span.row + at, count, (int32_t)spans.size()});
                span.tiles++;
            }
            first_row.push_back(span.row);
            spans.push_back(span);
            for (int i = 0; i < p.rows; i++)
                rows.push_back(make_int2(p.document, p.from + i));
        }
        rows.insert(rows.end(), (size_t)padding, make_int2(nobody, 5));
    }
};

// What a run leaves, on the host.
struct outputs {
    std::vector<__nv_bfloat16> v; // [rows, d_inner]
    std::vector<float> sq;        // [rows, heads]
};

// Device side of a batch: inputs, scratch, and the arguments of the launchers.
struct prepared {
    const layer &l;
    int64_t rows;
    device_array<scan_tile> tile;
    device_array<scan_span> span;
    device_array<int2> row;
    device_array<__nv_bfloat16> raw;
    device_array<float> dt, sq;
    hopper_scan_args args = {};
    device_array<char> scratch;

    static size_t scratch_bytes(const shape &s, const batch &b, int64_t spare) {
        struct hopper_scan_work work;
        const scan_shape shape = {s.heads, 64, 128, s.groups};
        return hopper_scan_work(&work, &shape, (int64_t)b.rows.size() + 2 * spare,
                                (int64_t)b.tiles.size(), nullptr);
    }
    // spare: rows that raw has room for beyond the batch's; the scratch memory for twice as many.
    prepared(const layer &from, const batch &b, int64_t spare = 1)
        : l(from), rows((int64_t)b.rows.size()), tile(b.tiles), span(b.spans), row(b.rows),
          raw((b.rows.size() + (size_t)spare) * (size_t)from.shape.raw_columns()),
          dt(b.rows.size() * (size_t)from.shape.heads), sq(dt.count),
          scratch(scratch_bytes(from.shape, b, spare)) {
        const shape &s = l.shape;
        args.batch = {
            rows,        (int64_t)b.tiles.size(), (int64_t)b.spans.size(), tile.data, span.data,
            kLayers - 1, s.conv_offset()};
        args.shape = {s.heads, 64, 128, s.groups};
        args.d_conv = s.d_conv;
        args.raw = raw.data;
        args.raw_pitch = rows + spare;
        args.dt_raw = dt.data;
        args.dt_pitch = s.heads;
        args.conv_weight = l.conv_weight.data;
        args.conv_bias = s.bias ? l.conv_bias.data : nullptr;
        args.dt_bias = l.dt_bias.data;
        args.dt_least = 1e-4f;
        args.dt_most = 10.0f;
        args.a = l.a.data;
        args.d = l.d.data;
        args.norm_weight = l.norm_weight.data;
        args.sq = sq.data;
        args.multiprocessors = 132;
        hopper_scan_work(&args.work, &args.shape, rows + 2 * spare, (int64_t)b.tiles.size(),
                         scratch.data);
        fill();
    }
    void fill() {
        scratch.poison();
        sq.poison();
        raw.poison();
        fill_rows<<<(unsigned)rows, 256>>>(raw.data, args.raw_pitch, l.shape.raw_columns(), dt.data,
                                           l.shape.heads, row.data);
        MUST(cudaGetLastError());
    }
    // With `apart` each stage ends before the next is queued, else they may overlap.
    void run(bool apart = true, cudaStream_t stream = nullptr) {
        const struct {
            const char *name;
            enum status (*launch)(const struct hopper_scan_args *, cudaStream_t);
        } stages[] = {
            {"prepare",   hopper_scan_prepare  },
            {"conv_tail", hopper_scan_conv_tail},
            {"pass",      hopper_scan_pass     },
            {"scan",      hopper_scan          }
        };
        for (const auto &stage : stages) {
            const enum status status = stage.launch(&args, stream);
            const cudaError_t error = apart ? cudaDeviceSynchronize() : cudaSuccess;
            if (status != STATUS_OK || error != cudaSuccess) {
                printf("FAILED: %s: %s\n", stage.name, cudaGetErrorString(error));
                exit(1);
            }
        }
    }
    outputs get() const {
        outputs out = {std::vector<__nv_bfloat16>((size_t)(rows * l.shape.d_inner())), sq.host()};
        for (int h = 0; h < l.shape.heads; h++) {
            MUST(cudaMemcpy2D(out.v.data() + h * 64, (size_t)l.shape.d_inner() * 2,
                              raw.data + panel_at(args.raw_pitch, 0, h * 64), PANEL_BYTES,
                              PANEL_BYTES, (size_t)rows, cudaMemcpyDeviceToHost));
        }
        return out;
    }
};
