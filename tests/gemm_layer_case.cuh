#pragma once
// in_proj and out_proj of cuda_gemm_check.

#include "tests/gemm_reference.cuh"

// ---- in_proj

static constexpr int64_t kBehind = 130; // rows of the buffers behind those of the product

struct in_proj_case {
    int64_t rows, k, raw_columns, dt_columns;
    int parts;
    bool biased;
    panel_array<bf16> u, raw;
    array<bf16> weight;
    array<float> squares, bias, dt;

    explicit in_proj_case(const int64_t (&s)[4], bool with_bias)
        : rows(s[0]), k(s[1]), raw_columns(s[2]), dt_columns(s[3]), parts(gemm_tiles(s[1])),
          biased(with_bias), u(rows + kBehind, k), raw(rows + kBehind + 7, raw_columns),
          weight((raw_columns + dt_columns) * k), squares((rows + kBehind) * parts),
          bias(raw_columns + dt_columns), dt((rows + kBehind) * dt_columns) {
        u.rows.fill(1, 1.0f);
        u.from_rows();
        fill_kernel<<<1024, 256>>>(weight.data, (raw_columns + dt_columns) * k, 2, 0.0f,
                                   1.0f / sqrtf((float)k));
        squares.fill(3, 0.1f * (float)(k / parts), (float)(k / parts));
        bias.fill(4, 1.0f);
    }
    // Rows first .. first + count - 1, written at the front of raw and dt.
    void run(gemm_queue queue, int64_t first, int64_t count) {
        gemm_operand left, right;
        raw.panels.poison();
        dt.poison();
        MUST_OK(gemm_operand_rows(&left, u.row(first), rows + kBehind - first, k, u.pitch));
        MUST_OK(gemm_operand_in_proj(&right, weight.data, raw_columns, dt_columns, k));
        const gemm_in_proj args = {
            &left,
            &right,
            count,
            k,
            raw_columns,
            dt_columns,
            {squares.data + first * parts, parts, (float)k, 1e-5f},
            biased ? bias.data : nullptr,
            raw.row(0),
            raw.pitch,
            dt.data
        };
        MUST_OK(hopper_in_proj(&queue, &args));
        raw.to_rows();
        MUST(cudaDeviceSynchronize());
    }
};

static void check_in_proj(gemm_queue queue, const int64_t (&s)[4], bool biased) {
    in_proj_case c(s, biased);
    const int64_t columns = c.raw_columns + c.dt_columns, rows = c.rows;
    array<double> raw(rows * c.raw_columns), dt(rows * c.dt_columns);
    const reference_scale scale = {c.squares.data, c.parts, (double)c.k, 1e-5};
    product_reference<<<2048, 128>>>(c.u.rows.data, c.k, c.weight.data, rows, c.raw_columns, c.k,
                                     scale, biased ? c.bias.data : nullptr, nullptr, raw.data);
    product_reference<<<2048, 128>>>(
        c.u.rows.data, c.k, c.weight.data + c.raw_columns * c.k, rows, c.dt_columns, c.k, scale,
        biased ? c.bias.data + c.raw_columns : nullptr, nullptr, dt.data);
    c.run(queue, 0, rows);
    const double raw_error =
        error_of(c.raw.rows.data, c.raw_columns, raw.data, rows, c.raw_columns);
    const double dt_error = error_of(c.dt.data, c.dt_columns, dt.data, rows, c.dt_columns);
    expect(raw_error <= kBf16, "in_proj", s, "error of raw", raw_error);
    expect(dt_error <= kF32, "in_proj", s, "error of dt", dt_error);
    expect(not_poison(c.raw.rows.data + rows * c.raw_columns, kBehind * c.raw_columns) == 0,
           "in_proj", s, "rows behind written", 0);
    expect(c.raw.written_behind() == 0, "in_proj", s, "columns behind", 0);
    expect(not_poison(c.dt.data + rows * c.dt_columns, kBehind * c.dt_columns) == 0, "in_proj", s,
           "dt behind", 0);
    array<bf16> first_raw(c.raw.rows.count);
    array<float> first_dt(c.dt.count);
    first_raw.copy(c.raw.rows);
    first_dt.copy(c.dt);
    const int64_t cuts[4][3] = {
        {1,        rows - 1,        queue.sms},
        {0,        (rows + 1) / 2,  queue.sms},
        {rows / 3, rows - rows / 3, 2        },
        {0,        rows,            6        }
    }; // first row, rows, multiprocessors
    for (const int64_t(&cut)[3] : cuts) {
        gemm_queue with = queue;
        with.sms = (int32_t)cut[2];
        c.run(with, cut[0], cut[1]);
        const int64_t bits = differences(c.raw.rows.data, first_raw.data + cut[0] * c.raw_columns,
                                         cut[1], c.raw_columns * 2, c.raw_columns * 2) +
                             differences(c.dt.data, first_dt.data + cut[0] * c.dt_columns, cut[1],
                                         c.dt_columns * 4, c.dt_columns * 4);
        expect(bits == 0, "in_proj", s, "bytes that depend on place, rows or schedule",
               (double)bits);
    }
    printf("in_proj  %6lld %5lld %6lld+%-3lld raw %.2e dt %.2e\n", (long long)rows, (long long)c.k,
           (long long)c.raw_columns, (long long)(columns - c.raw_columns), raw_error, dt_error);
}

// ---- out_proj

struct out_proj_case {
    int64_t rows, k, n;
    int parts, tiles;
    bool biased;
    panel_array<bf16> v, u;
    panel_array<float> r;
    array<bf16> weight;
    array<float> gate, bias, norm, before, squares;

    explicit out_proj_case(const int64_t (&s)[4], bool with_bias)
        : rows(s[0]), k(s[1]), n(s[2]), parts((int)s[1] / 64), tiles(gemm_tiles(s[2])),
          biased(with_bias), v(rows + kBehind + 7, k), u(rows + kBehind, n), r(rows + kBehind, n),
          weight(n * k), gate((rows + kBehind) * parts), bias(n), norm(n),
          before((rows + kBehind) * n), squares((rows + kBehind) * tiles) {
        v.rows.fill(5, 1.0f);
        v.from_rows();
        fill_kernel<<<1024, 256>>>(weight.data, n * k, 6, 0.0f, 1.0f / sqrtf((float)k));
        gate.fill(7, 6.0f, 64.0f);
        bias.fill(8, 1.0f);
        norm.fill(9, 0.2f, 1.0f);
        before.fill(10, 3.0f);
    }
    // Rows first .. first + count - 1 of all arrays.
    void run(gemm_queue queue, int64_t first, int64_t count) {
        gemm_operand left, right;
        u.panels.poison();
        squares.poison();
        r.rows.copy(before);
        r.from_rows();
        MUST_OK(gemm_operand_rows(&left, v.row(first), rows + kBehind - first, k, v.pitch));
        MUST_OK(gemm_operand_out_proj(&right, weight.data, n, k));
        const gemm_out_proj args = {
            &left,
            &right,
            count,
            k,
            n,
            {gate.data + first * parts, parts, (float)k, 1e-5f},
            biased ? bias.data : nullptr,
            norm.data,
            r.row(first),
            u.row(first),
            r.pitch,
            squares.data + first * tiles
        };
        MUST_OK(hopper_out_proj(&queue, &args));
        r.to_rows();
        u.to_rows();
        MUST(cudaDeviceSynchronize());
    }
    // Bytes of rows that are none of these and not as they were.
    int64_t written_beside(int64_t first, int64_t count) {
        const int64_t behind = first + count, left = rows + kBehind - behind;
        return not_poison(u.rows.data, first * n) + not_poison(u.rows.data + behind * n, left * n) +
               not_poison(squares.data, first * tiles) +
               not_poison(squares.data + behind * tiles, left * tiles) +
               differences(r.rows.data, before.data, first, n * 4, n * 4) +
               differences(r.rows.data + behind * n, before.data + behind * n, left, n * 4, n * 4) +
               u.written_behind() + r.written_behind();
    }
};

// What follows from r: u and the squares. Grid: (rows)  Block: (1)
__global__ void next_reference(const double *r, const float *norm, int64_t n, int tiles, double *u,
                               double *squares) {
    const int64_t row = blockIdx.x;
    for (int tile = 0; tile < tiles; tile++)
        squares[row * tiles + tile] = 0.0;
    for (int64_t i = 0; i < n; i++) {
        u[row * n + i] = r[row * n + i] * (double)norm[i];
        squares[row * tiles + i / GEMM_COLUMNS] += r[row * n + i] * r[row * n + i];
    }
}

static void check_out_proj(gemm_queue queue, const int64_t (&s)[4], bool biased) {
    out_proj_case c(s, biased);
    const int64_t rows = c.rows, n = c.n;
    array<double> r(rows * n), u(rows * n), squares(rows * c.tiles);
    const reference_scale scale = {c.gate.data, c.parts, (double)c.k, 1e-5};
    product_reference<<<2048, 128>>>(c.v.rows.data, c.k, c.weight.data, rows, n, c.k, scale,
                                     biased ? c.bias.data : nullptr, c.before.data, r.data);
    next_reference<<<(unsigned)rows, 1>>>(r.data, c.norm.data, n, c.tiles, u.data, squares.data);
    c.run(queue, 0, rows);
    const double r_error = error_of(c.r.rows.data, n, r.data, rows, n);
    const double u_error = error_of(c.u.rows.data, n, u.data, rows, n);
    const double squares_error = error_of(c.squares.data, c.tiles, squares.data, rows, c.tiles);
    expect(r_error <= kF32, "out_proj", s, "error of r", r_error);
    expect(u_error <= kBf16, "out_proj", s, "error of u", u_error);
    expect(squares_error <= kF32, "out_proj", s, "error of the squares", squares_error);
    expect(c.written_beside(0, rows) == 0, "out_proj", s, "bytes behind written",
           (double)c.written_beside(0, rows));
    array<float> first_r(rows * n), first_squares(rows * c.tiles);
    array<bf16> first_u(rows * n);
    first_r.copy(c.r.rows);
    first_u.copy(c.u.rows);
    first_squares.copy(c.squares);
    const int64_t cuts[4][3] = {
        {1,        rows - 1,        queue.sms},
        {0,        (rows + 1) / 2,  queue.sms},
        {rows / 3, rows - rows / 3, 2        },
        {0,        rows,            6        }
    };
    for (const int64_t(&cut)[3] : cuts) {
        gemm_queue with = queue;
        with.sms = (int32_t)cut[2];
        c.run(with, cut[0], cut[1]);
        const int64_t bits =
            differences(c.r.rows.data + cut[0] * n, first_r.data + cut[0] * n, cut[1], n * 4,
                        n * 4) +
            differences(c.u.rows.data + cut[0] * n, first_u.data + cut[0] * n, cut[1], n * 2,
                        n * 2) +
            differences(c.squares.data + cut[0] * c.tiles, first_squares.data + cut[0] * c.tiles,
                        cut[1], c.tiles * 4, c.tiles * 4) +
            c.written_beside(cut[0], cut[1]);
        expect(bits == 0, "out_proj", s, "bytes that depend on place, rows or schedule",
               (double)bits);
    }
    printf("out_proj %6lld %5lld %6lld     r %.2e u %.2e squares %.2e\n", (long long)rows,
           (long long)c.k, (long long)n, r_error, u_error, squares_error);
}
