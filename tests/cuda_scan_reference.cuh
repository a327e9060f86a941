#pragma once
// The scan in double, token after token, as ops/op.h defines it: no tiles, no rounding between.

#include "tests/cuda_scan_case.cuh"

struct reference {
    device_array<double> xbc; // [rows, conv_width]
    device_array<double> dt;  // [rows, heads]
    device_array<float> v;    // [rows, d_inner]
    device_array<float> sq;   // [rows, heads]
    device_array<float> tail; // [spans, d_conv - 1, conv_width]
    device_array<float> end;  // [spans, heads, 8192]
    // States as [64][128]: before each tile; and what its rows before 128 k have added, by the row
    // where that holds over 128, rounded down: no two fall together, as they are 128 apart or more.
    device_array<float> before; // [tiles, heads, 8192]
    device_array<float> chunk;  // [rows / 128 + 1, heads, 8192]
    device_array<float> fall;   // [tiles, heads, 8]
    reference(const prepared &p);
};

__device__ inline double reference_silu(double x) {
    return x / (1.0 + exp(-x));
}

__device__ inline const float *reference_state(const hopper_scan_args &a, const scan_span &span) {
    return (const float *)(span.state_in + a.batch.layer * span.in_layer_bytes);
}

// Grid: (spans)
__global__ void reference_conv(hopper_scan_args a, double *xbc, double *dt, float *tail) {
    const scan_span span = a.batch.span[blockIdx.x];
    const int64_t d_inner = a.shape.heads * 64;
    const int64_t width = d_inner + 2 * a.shape.groups * 128;
    const float *state =
        span.state_in == nullptr ? nullptr : reference_state(a, span) + a.batch.conv_offset / 4;
    const __nv_bfloat16 *raw = (const __nv_bfloat16 *)a.raw + panel_at(a.raw_pitch, 0, d_inner);
    const int64_t back = a.d_conv - 1;
    for (int64_t c = threadIdx.x; c < width; c += blockDim.x) {
        auto input = [&](int64_t row) -> float {
            if (row >= 0) return __bfloat162float(raw[panel_at(a.raw_pitch, span.row + row, c)]);
            return state == nullptr ? 0.0f : state[(row + back) * width + c];
        };
        for (int64_t row = 0; row < span.rows; row++) {
            double sum = a.conv_bias == nullptr ? 0.0 : a.conv_bias[c];
            for (int64_t j = 0; j < a.d_conv; j++)
                sum += (double)a.conv_weight[c * a.d_conv + j] * input(row - back + j);
            xbc[(span.row + row) * width + c] = reference_silu(sum);
        }
        for (int64_t j = 0; j < back; j++)
            tail[(blockIdx.x * back + j) * width + c] = input(span.rows - back + j);
    }
    for (int64_t h = threadIdx.x; h < a.shape.heads; h += blockDim.x) {
        for (int64_t row = span.row; row < span.row + span.rows; row++) {
            const double x = (double)a.dt_raw[row * a.dt_pitch + h] + a.dt_bias[h];
            const double y = x > 20.0 ? x : log1p(exp(x));
            dt[row * a.shape.heads + h] = fmin(fmax(y, (double)a.dt_least), (double)a.dt_most);
        }
    }
}

struct reference_out {
    float *v, *sq, *end, *before, *chunk, *fall;
};

// Grid: (spans, heads)  Block: (256). Thread: row p = thread / 4 of the state, 32 of n.
__global__ void reference_scan(hopper_scan_args a, const double *xbc, const double *dt,
                               reference_out out) {
    __shared__ double squares[64];
    const scan_span span = a.batch.span[blockIdx.x];
    const int64_t h = blockIdx.y;
    const int64_t d_inner = a.shape.heads * 64;
    const int64_t width = d_inner + 2 * a.shape.groups * 128;
    const int64_t group = h * a.shape.groups / a.shape.heads;
    const int p = (int)threadIdx.x / 4;
    const int first = (int)threadIdx.x % 4 * 32;
    double state[32], added[32];
    double sum = 0.0; // of dt A, since the tile's first row
    for (int n = 0; n < 32; n++)
        state[n] = span.state_in == nullptr
                       ? 0.0
                       : reference_state(a, span)[h * 8192 + (first + n) * 64 + p];
    for (int64_t row = span.row; row < span.row + span.rows; row++) {
        const int64_t at = (row - span.row) % 1024;
        const int64_t tile = (span.first_tile + (row - span.row) / 1024) * a.shape.heads + h;
        if (at % 128 == 0) {
            const int64_t image = at == 0 ? tile : ((row / 128) * a.shape.heads + h);
            float *to = (at == 0 ? out.before : out.chunk) + image * 8192 + p * 128 + first;
            if (at == 0) sum = 0.0;
            for (int n = 0; n < 32; n++) {
                to[n] = (float)(at == 0 ? state[n] : added[n]);
                if (at == 0) added[n] = 0.0;
            }
            if (threadIdx.x == 0) out.fall[tile * 8 + at / 128] = (float)exp(sum);
        }
        const double *b = xbc + row * width + d_inner + group * 128 + first;
        const double *c = b + a.shape.groups * 128;
        const double x = xbc[row * width + h * 64 + p];
        const double step = dt[row * a.shape.heads + h];
        const double keep = exp(step * a.a[h]);
        double y = 0.0;
        sum += step * a.a[h];
        for (int n = 0; n < 32; n++) {
            state[n] = keep * state[n] + step * b[n] * x;
            added[n] = keep * added[n] + step * b[n] * x;
            y += c[n] * state[n];
        }
        y += __shfl_xor_sync(~0u, y, 1);
        y += __shfl_xor_sync(~0u, y, 2);
        const double z = __bfloat162float(
            ((const __nv_bfloat16 *)a.raw)[panel_at(a.raw_pitch, row, h * 64 + p)]);
        const double gated = (y + a.d[h] * x) * reference_silu(z);
        if (threadIdx.x % 4 == 0) {
            out.v[row * d_inner + h * 64 + p] = (float)(gated * a.norm_weight[h * 64 + p]);
            squares[p] = gated * gated;
        }
        __syncthreads();
        if (threadIdx.x == 0) {
            double all = 0.0;
            for (int i = 0; i < 64; i++)
                all += squares[i];
            out.sq[row * a.shape.heads + h] = (float)all;
        }
        __syncthreads();
    }
    for (int n = 0; n < 32; n++)
        out.end[(blockIdx.x * a.shape.heads + h) * 8192 + (first + n) * 64 + p] = (float)state[n];
}

inline reference::reference(const prepared &p)
    : xbc((size_t)(p.rows * p.l.shape.conv_width())), dt((size_t)(p.rows * p.l.shape.heads)),
      v((size_t)(p.rows * p.l.shape.d_inner())), sq((size_t)(p.rows * p.l.shape.heads)),
      tail((size_t)(p.args.batch.spans * (p.l.shape.d_conv - 1) * p.l.shape.conv_width())),
      end((size_t)(p.args.batch.spans * p.l.shape.heads * 8192)),
      before((size_t)(p.args.batch.tiles * p.l.shape.heads * 8192)),
      chunk((size_t)((p.rows / 128 + 1) * p.l.shape.heads * 8192)),
      fall((size_t)(p.args.batch.tiles * p.l.shape.heads * 8)) {
    const unsigned spans = (unsigned)p.args.batch.spans;
    reference_conv<<<spans, 512>>>(p.args, xbc.data, dt.data, tail.data);
    reference_scan<<<dim3(spans, (unsigned)p.l.shape.heads), 256>>>(
        p.args, xbc.data, dt.data, {v.data, sq.data, end.data, before.data, chunk.data, fall.data});
    MUST(cudaGetLastError());
    MUST(cudaDeviceSynchronize());
}
