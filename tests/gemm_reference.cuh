#pragma once
// The products as plain loops in double, and comparisons with them, for cuda_gemm_check.

#include "cuda/hopper_panels.h"
#include "tests/gemm_case.cuh"

#include <vector>

static const double kBf16 = 3.95e-3; // half a unit in the last place is 2^-8 = 3.9e-3
static const double kF32 = 3e-5;     // sums of up to 5120 products of order one

static int failures;

static void expect(bool good, const char *product, const int64_t (&shape)[4], const char *what,
                   double value) {
    if (good) return;
    failures++;
    printf("FAILED: %s rows=%lld k=%lld n=%lld+%lld: %s %g\n", product, (long long)shape[0],
           (long long)shape[1], (long long)shape[2], (long long)shape[3], what, value);
}

// ---- Panels, for the products, and the same row by row, for all else

// Grid: any
template <class T>
__global__ void panels_kernel(T *panels, T *rows, int64_t pitch, int64_t columns, bool to_rows) {
    const int64_t step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < pitch * columns;
         i += step) {
        const int64_t row = i / columns, column = i % columns;
        T &there = panels[sizeof(T) == 2 ? panel_at(pitch, row, column)
                                         : panel_float_at(pitch, row, column)];
        (to_rows ? rows[i] : there) = to_rows ? there : rows[i];
    }
}

template <class T>
struct panel_array {
    int64_t pitch, columns;
    array<T> panels; // and one behind them that nobody may write
    array<T> rows;   // [pitch][columns]

    panel_array(int64_t height, int64_t width)
        : pitch(height), columns(width), panels(height * (width + kWidth)), rows(height * width) {}
    T *row(int64_t first) {
        return panels.data + first * kWidth;
    }
    void from_rows() {
        panels_kernel<<<1024, 256>>>(panels.data, rows.data, pitch, columns, false);
        MUST(cudaGetLastError());
    }
    void to_rows() {
        panels_kernel<<<1024, 256>>>(panels.data, rows.data, pitch, columns, true);
        MUST(cudaGetLastError());
    }
    int64_t written_behind();

  private:
    static constexpr int64_t kWidth = PANEL_BYTES / sizeof(T);
};

// ---- The reference

struct reference_scale {
    const float *squares;
    int parts;
    double columns, epsilon;
};

// Grid: any  out[t][n] = scale_t * sum over k of a[t][k] * b[n][k] (+ bias[n]) (+ add[t][n])
__global__ void product_reference(const bf16 *a, int64_t pitch, const bf16 *b, int64_t rows,
                                  int64_t n, int64_t k, reference_scale scale, const float *bias,
                                  const float *add, double *out) {
    const int64_t step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < rows * n; i += step) {
        const int64_t row = i / n, column = i % n;
        double squares = 0.0, sum = 0.0;
        for (int p = 0; p < scale.parts; p++)
            squares += (double)scale.squares[row * scale.parts + p];
        for (int64_t j = 0; j < k; j++)
            sum += (double)(float)a[row * pitch + j] * (double)(float)b[column * k + j];
        sum /= sqrt(squares / scale.columns + scale.epsilon);
        if (bias != nullptr) sum += (double)bias[column];
        if (add != nullptr) sum += (double)add[i];
        out[i] = sum;
    }
}

// Grid: (rows)  Block: (1)
__global__ void nll_reference(const double *logits, int64_t vocab, const int32_t *target,
                              double *nll) {
    const double *row = logits + (int64_t)blockIdx.x * vocab;
    double most = -INFINITY, sum = 0.0;
    for (int64_t i = 0; i < vocab; i++)
        most = fmax(most, row[i]);
    for (int64_t i = 0; i < vocab; i++)
        sum += exp(row[i] - most);
    const int32_t at = target[blockIdx.x];
    nll[blockIdx.x] = at < 0 ? 0.0 : most + log(sum) - row[at];
}

// ---- Comparisons

// The largest |out - reference| / max(|reference|, 1); infinite where out is NaN.
template <class T>
__global__ void error_kernel(const T *out, int64_t pitch, const double *reference, int64_t rows,
                             int64_t n, unsigned *worst) {
    const int64_t step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < rows * n; i += step) {
        const double is = (double)(float)out[i / n * pitch + i % n];
        const double error = fabs(is - reference[i]) / fmax(fabs(reference[i]), 1.0);
        atomicMax(worst, __float_as_uint(isnan(error) ? INFINITY
                                                      : (float)error)); // not negative: bits rise
    }
}

template <class T>
static double error_of(const T *out, int64_t pitch, const double *reference, int64_t rows,
                       int64_t n) {
    array<unsigned> worst(1);
    float value = 0.0f;
    MUST(cudaMemset(worst.data, 0, 4));
    error_kernel<<<1024, 256>>>(out, pitch, reference, rows, n, worst.data);
    MUST(cudaMemcpy(&value, worst.data, 4, cudaMemcpyDeviceToHost));
    return (double)value;
}

// How many bytes of rows [rows][bytes], pitches apart, are not the same.
static int64_t differences(const void *a, const void *b, int64_t rows, int64_t bytes,
                           int64_t pitch) {
    std::vector<unsigned char> left((size_t)(rows * pitch)), right((size_t)(rows * pitch));
    int64_t count = 0;
    if (rows == 0) return 0;
    MUST(cudaMemcpy(left.data(), a, (size_t)((rows - 1) * pitch + bytes), cudaMemcpyDeviceToHost));
    MUST(cudaMemcpy(right.data(), b, (size_t)((rows - 1) * pitch + bytes), cudaMemcpyDeviceToHost));
    for (int64_t row = 0; row < rows; row++) {
        for (int64_t i = 0; i < bytes; i++)
            count += left[(size_t)(row * pitch + i)] != right[(size_t)(row * pitch + i)];
    }
    return count;
}

template <class T>
static int64_t not_poison(const T *data, int64_t count) {
    std::vector<unsigned char> bytes((size_t)count * sizeof(T));
    int64_t found = 0;
    MUST(cudaMemcpy(bytes.data(), data, bytes.size(), cudaMemcpyDeviceToHost));
    for (unsigned char byte : bytes)
        found += byte != 0xff;
    return found;
}

template <class T>
int64_t panel_array<T>::written_behind() {
    return not_poison(panels.data + pitch * columns, pitch * kWidth);
}
