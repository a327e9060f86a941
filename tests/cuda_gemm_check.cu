// The products of cuda/hopper_gemm.h against plain loops in double on the device, at shapes with
// edges in every direction; and a row's bits with other rows in front of it, fewer behind it, and with
// other numbers of multiprocessors. Outputs are NaN at first, and must stay so outside the result.
// Without a Hopper device it says so and leaves with 77.

#include "tests/gemm_layer_case.cuh"

#define SKIPPED 77

// ---- head

enum logits { RANDOM, EQUAL, ONE_HIGH };

static void check_head(gemm_queue queue, const int64_t (&s)[4], enum logits kind) {
    const int64_t rows = s[0], k = s[1], vocab = s[2];
    const int parts = gemm_tiles(k), tiles = gemm_tiles(vocab);
    panel_array<bf16> u(rows + kBehind, k);
    array<bf16> weight(padded(vocab) * k);
    array<float> squares((rows + kBehind) * parts), nll(rows + kBehind), first_nll(rows + kBehind),
        logit(rows + kBehind);
    array<float2> partial((rows + kBehind) * tiles);
    array<int32_t> target(rows + kBehind);
    array<double> logits(rows * vocab), reference(rows);
    std::vector<int32_t> targets((size_t)(rows + kBehind));
    u.rows.fill(11, kind == EQUAL ? 0.0f : 1.0f);
    u.from_rows();
    fill_kernel<<<1024, 256>>>(weight.data, vocab * k, 12, 0.0f, 4.0f / sqrtf((float)k));
    if (kind == ONE_HIGH) { // column vocab - 1 is k times row 0: a logit of order 1e4 there
        fill_kernel<<<1024, 256>>>(weight.data + (vocab - 1) * k, k, 11, 0.0f, 1e4f / (float)k);
    }
    squares.fill(13, 0.1f * (float)(k / parts), (float)(k / parts));
    for (int64_t i = 0; i < rows + kBehind; i++) {
        const int64_t choices[5] = {0, vocab - 1, -1, (i * 7919) % vocab,
                                    vocab > 256 ? 255 : vocab / 2};
        targets[(size_t)i] = (int32_t)choices[i % 5];
    }
    MUST(cudaMemcpy(target.data, targets.data(), targets.size() * 4, cudaMemcpyHostToDevice));
    const auto run = [&](gemm_queue with, int64_t first, int64_t count) {
        gemm_operand left, right;
        nll.poison();
        partial.poison();
        logit.poison();
        MUST_OK(gemm_operand_rows(&left, u.row(first), rows + kBehind - first, k, u.pitch));
        MUST_OK(gemm_operand_head(&right, weight.data, vocab, k));
        const gemm_head args = {
            &left,
            &right,
            count,
            k,
            vocab,
            {squares.data + first * parts, parts, (float)k, 1e-5f},
            target.data + first,
            partial.data,
            logit.data,
            nll.data
        };
        MUST_OK(hopper_head(&with, &args));
        MUST(cudaDeviceSynchronize());
    };
    const reference_scale scale = {squares.data, parts, (double)k, 1e-5};
    product_reference<<<2048, 128>>>(u.rows.data, k, weight.data, rows, vocab, k, scale, nullptr,
                                     nullptr, logits.data);
    nll_reference<<<(unsigned)rows, 1>>>(logits.data, vocab, target.data, reference.data);
    run(queue, 0, rows);
    const double error = error_of(nll.data, 1, reference.data, rows, 1);
    // The difference of two f32 of order 1e4, whose spacing is 1e-3.
    expect(error <= (kind == ONE_HIGH ? 2e-3 : kF32), "head", s, "error of nll", error);
    expect(not_poison(nll.data + rows, kBehind) == 0, "head", s, "rows behind written", 0);
    expect(not_poison(partial.data + rows * tiles, kBehind * tiles) == 0, "head", s,
           "partials behind written", 0);
    first_nll.copy(nll);
    const int64_t cuts[4][3] = {
        {1,        rows - 1,        queue.sms},
        {0,        (rows + 1) / 2,  queue.sms},
        {rows / 3, rows - rows / 3, 2        },
        {0,        rows,            6        }
    };
    for (const int64_t(&cut)[3] : cuts) {
        gemm_queue with = queue;
        with.sms = (int32_t)cut[2];
        run(with, cut[0], cut[1]);
        const int64_t bits = differences(nll.data, first_nll.data + cut[0], cut[1], 4, 4);
        expect(bits == 0, "head", s, "bytes that depend on place, rows or schedule", (double)bits);
    }
    printf("head     %6lld %5lld %6lld     nll %.2e\n", (long long)rows, (long long)k,
           (long long)vocab, error);
}

// ---- embedding

__global__ void embed_reference(const float *table, const int32_t *token, int64_t n, double *r) {
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
        r[blockIdx.x * n + i] = (double)table[token[blockIdx.x] * n + i];
    }
}

static void check_embed(const int64_t (&s)[4]) {
    const int64_t rows = s[0], n = s[2], vocab = 1000;
    const int tiles = gemm_tiles(n);
    array<float> table(vocab * n), norm(n), squares((rows + 1) * tiles), asked(rows * n);
    panel_array<float> r(rows + 1, n);
    panel_array<bf16> u(rows + 1, n);
    array<int32_t> token(rows), row(rows);
    array<double> want_r(rows * n), want_u(rows * n), want_squares(rows * tiles);
    std::vector<int32_t> tokens((size_t)rows);
    for (int64_t i = 0; i < rows; i++)
        tokens[(size_t)i] = (int32_t)((i * 7919 + 999) % vocab);
    MUST(cudaMemcpy(token.data, tokens.data(), tokens.size() * 4, cudaMemcpyHostToDevice));
    table.fill(14, 1.0f);
    norm.fill(15, 0.2f, 1.0f);
    const embed_gather args = {table.data, token.data, norm.data, rows,        n,
                               r.row(0),   u.row(0),   r.pitch,   squares.data};
    MUST_OK(cuda_embed_gather(nullptr, &args));
    r.to_rows();
    u.to_rows();
    embed_reference<<<(unsigned)rows, 256>>>(table.data, token.data, n, want_r.data);
    next_reference<<<(unsigned)rows, 1>>>(want_r.data, norm.data, n, tiles, want_u.data,
                                          want_squares.data);
    const double r_error = error_of(r.rows.data, n, want_r.data, rows, n),
                 u_error = error_of(u.rows.data, n, want_u.data, rows, n);
    const double squares_error = error_of(squares.data, tiles, want_squares.data, rows, tiles);
    expect(r_error == 0.0, "embed", s, "error of r", r_error);
    expect(u_error <= kBf16, "embed", s, "error of u", u_error);
    expect(squares_error <= kF32, "embed", s, "error of the squares", squares_error);
    expect(not_poison(r.rows.data + rows * n, n) + not_poison(u.rows.data + rows * n, n) +
                   not_poison(squares.data + rows * tiles, tiles) + r.written_behind() +
                   u.written_behind() ==
               0,
           "embed", s, "rows behind written", 0);
    for (int64_t i = 0; i < rows; i++) // from the last row to the first
        tokens[(size_t)i] = (int32_t)(rows - 1 - i);
    MUST(cudaMemcpy(row.data, tokens.data(), tokens.size() * 4, cudaMemcpyHostToDevice));
    const residual_gather gather = {r.row(0), r.pitch, row.data, rows, n, asked.data};
    MUST_OK(cuda_residual_gather(nullptr, &gather));
    int64_t bits = 0;
    for (int64_t i = 0; i < rows; i++)
        bits += differences(asked.data + i * n, r.rows.data + (rows - 1 - i) * n, 1, n * 4, n * 4);
    expect(bits == 0, "embed", s, "bytes of rows that are asked", (double)bits);
    printf("embed    %6lld       %6lld     u %.2e squares %.2e\n", (long long)rows, (long long)n,
           u_error, squares_error);
}

int main(int argc, char **argv) {
    int devices = 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    const bool quick = argc > 1 && argv[1][0] == 'q'; // one shape of each, for compute-sanitizer
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0 || !hopper_gemm_supported()) {
        printf("skipped: no Hopper device\n");
        return SKIPPED;
    }
    const gemm_queue queue = make_queue();
    const int64_t in[][4] = {
        {129,  128,  192,   8  },
        {1,    64,   256,   32 },
        {127,  64,   64,    4  },
        {300,  1024, 4352,  32 },
        {129,  768,  3328,  24 },
        {1000, 2560, 10496, 80 },
        {128,  5120, 1024,  100},
        {640,  64,   320,   1  },
        {2500, 1536, 6400,  48 }
    };
    const int64_t out[][4] = {
        {130,  128,  192,  0},
        {1,    64,   64,   0},
        {300,  2048, 1024, 0},
        {127,  1536, 768,  0},
        {129,  5120, 2560, 0},
        {2500, 128,  64,   0},
        {1000, 3072, 1536, 0}
    };
    const int64_t head[][4] = {
        {129, 128,  257,   0},
        {1,   64,   256,   0},
        {129, 768,  50288, 0},
        {300, 64,   50288, 0},
        {127, 1024, 32,    0}
    };
    const int64_t embed[][4] = {
        {3,    0, 768,  0},
        {1000, 0, 1024, 0},
        {129,  0, 2560, 0},
        {7,    0, 64,   0}
    };
    for (const int64_t(&shape)[4] : in) {
        check_in_proj(queue, shape, (&shape - in) % 2 == 1);
        if (quick) break;
    }
    for (const int64_t(&shape)[4] : out) {
        check_out_proj(queue, shape, (&shape - out) % 2 == 1);
        if (quick) break;
    }
    for (const int64_t(&shape)[4] : head) {
        check_head(queue, shape, RANDOM);
        if (quick) break;
        check_head(queue, shape, EQUAL);
        check_head(queue, shape, ONE_HIGH);
    }
    for (const int64_t(&shape)[4] : embed)
        check_embed(shape);
    printf("%s: %d\n", failures == 0 ? "ok" : "failures", failures);
    return failures == 0 ? 0 : 1;
}
