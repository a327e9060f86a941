#pragma once
// Times of the stages of the Hopper scan, medians of runs, beside what was planned for each from its
// bytes and instructions: 13, 87, 19 and 130 us at 32 heads and 32768 tokens.

#include "cuda/hopper_scan_shared.h"
#include "tests/cuda_scan_case.cuh"
#include "tests/sustained.cuh"

#include <algorithm>

enum { PREP, STATE, PASS, SCAN, STAGES };

// Microseconds a layer, of 20 in a row, without an event between kernels: they overlap.
inline double time_layer(prepared &p) {
    cudaStream_t stream;
    cudaEvent_t from, to;
    MUST(cudaStreamCreate(&stream));
    MUST(cudaEventCreate(&from));
    MUST(cudaEventCreate(&to));
    for (int run = -2; run < 20; run++) {
        if (run == 0) MUST(cudaEventRecord(from, stream));
        if (hopper_scan_prepare(&p.args, stream) != STATUS_OK ||
            hopper_scan_pass(&p.args, stream) != STATUS_OK ||
            hopper_scan(&p.args, stream) != STATUS_OK)
            exit(1);
    }
    MUST(cudaEventRecord(to, stream));
    MUST(cudaDeviceSynchronize());
    float milliseconds = 0.0f;
    MUST(cudaEventElapsedTime(&milliseconds, from, to));
    cudaEventDestroy(from);
    cudaEventDestroy(to);
    cudaStreamDestroy(stream);
    return milliseconds * 1000.0 / 20.0;
}

// Microseconds a stage, the median of 9 runs after 2 to warm up, queued without a pause between
// them: what the host takes to launch is hidden, as in a model's step.
inline void time_stages(prepared &p, double (&median)[STAGES]) {
    constexpr int kWarm = 2;
    constexpr int kRuns = 9;
    enum status (*const launch[STAGES])(const struct hopper_scan_args *, cudaStream_t) = {
        scan_prep_launch, scan_state_launch, hopper_scan_pass, hopper_scan};
    cudaEvent_t event[kWarm + kRuns][STAGES + 1];
    p.fill();
    for (auto &run : event) {
        for (cudaEvent_t &e : run)
            MUST(cudaEventCreate(&e));
        MUST(cudaEventRecord(run[0]));
        for (int i = 0; i < STAGES; i++) {
            if (launch[i](&p.args, 0) != STATUS_OK) exit(1);
            MUST(cudaEventRecord(run[i + 1]));
        }
    }
    MUST(cudaDeviceSynchronize());
    for (int i = 0; i < STAGES; i++) {
        std::vector<float> times;
        for (int run = kWarm; run < kWarm + kRuns; run++) {
            float milliseconds = 0.0f;
            MUST(cudaEventElapsedTime(&milliseconds, event[run][i], event[run][i + 1]));
            times.push_back(milliseconds * 1000.0f);
        }
        std::sort(times.begin(), times.end());
        median[i] = times[times.size() / 2];
    }
    for (auto &run : event)
        for (cudaEvent_t &e : run)
            cudaEventDestroy(e);
}

inline std::vector<piece> log_uniform(int rows) {
    std::vector<piece> pieces;
    for (int left = rows, i = 0; left > 0; i++) {
        const double u = 0.5 + 0.5 * drawn(77, (uint64_t)i, 1);
        const int length = std::min(left, (int)(50.0 * pow(80.0, u)));
        pieces.push_back({i, 0, length, -1, -1, 0});
        left -= length;
    }
    return pieces;
}

// Bytes that memory must move, at least: prep reads B, C, dt and writes B', C', decays; state reads
// x, B', half of the decays and writes x', sums and the images before chunks; pass reads the sums and
// writes the images before tiles; scan reads x', z, B', C', decays, images and writes v and sq.
inline void time_batch(const char *name, int heads, const std::vector<piece> &pieces) {
    const shape s = {heads, 1, 4, true};
    layer l(s);
    states memory(s, 2);
    const batch b(pieces, memory, 0, -1);
    prepared p(l, b, 0);
    double us[STAGES];
    time_stages(p, us);
    const double rows = (double)b.rows.size();
    const double wide = rows * s.d_inner() * 2, narrow = rows * s.bc_width() * 2;
    const double decay = rows * heads * 16, state = (double)b.tiles.size() * heads * 8192 * 4;
    double images = 0.0;
    for (const scan_tile &tile : b.tiles)
        images += (double)((tile.rows - 1) / SCAN_CHUNK) * heads * 8192 * 2;
    const double bytes[STAGES] = {
        2 * narrow + rows * heads * 4 + decay, 2 * wide + narrow / 2 + decay / 2 + state + images,
        state * 3 / 2, 3 * wide + narrow + decay + rows * heads * 4 + images + state / 2};
    const double predicted[STAGES] = {13.0, 87.0, 19.0, 130.0}; // at 32 heads
    const double total = time_layer(p);
    printf("%-22s %3d %6.0f %5zu |", name, heads, rows, b.tiles.size());
    for (int i = 0; i < STAGES; i++)
        printf(" %6.1f us %5.0f GB/s %3.0f%% |", us[i], bytes[i] / us[i] / 1e3,
               100.0 * us[i] / (predicted[i] * heads / 32));
    printf(" %7.1f us, %3.0f%% of plan\n", total, 100.0 * total / (249.0 * heads / 32));
}

// All models, or one number of heads.
inline void time_all(int only) {
    const int rows = 32768;
    printf("batch, heads, rows, tiles | prep | state | pass | scan (us, GB/s, share of the plan's "
           "time)\n");
    for (int heads : {32, 24, 48, 64, 80}) {
        if (only != 0 && heads != only) continue;
        time_batch("one span", heads,
                   {
                       {0, 0, rows, 0, 1, 0}
        });
        time_batch("two spans", heads,
                   {
                       {0, 0, 10001,        0,  1,  0},
                       {1, 0, rows - 10001, -1, -1, 0}
        });
        time_batch("log-uniform 50..4000", heads, log_uniform(rows));
    }
}

// Each stage for a second by itself, of one span over all rows: time, power, energy. The scan writes
// over its gate, so raw is copied anew for each run; the copy is shown beside it.
inline void time_sustained(int heads) {
    const int rows = 32768;
    const shape s = {heads, 1, 4, true};
    layer l(s);
    states memory(s, 2);
    const batch b(
        {
            {0, 0, rows, 0, 1, 0}
    },
        memory, 0, -1);
    prepared p(l, b, 0);
    p.fill();
    const device_array<__nv_bfloat16> raw(p.raw.count);
    const auto renew = [&] {
        MUST(cudaMemcpyAsync(p.raw.data, raw.data, p.raw.count * sizeof(__nv_bfloat16),
                             cudaMemcpyDeviceToDevice));
    };
    const auto must = [](enum status status) {
        if (status != STATUS_OK) exit(1);
    };
    MUST(cudaMemcpy(raw.data, p.raw.data, p.raw.count * sizeof(__nv_bfloat16),
                    cudaMemcpyDeviceToDevice));
    must(scan_prep_launch(&p.args, 0));
    const std::pair<const char *, std::function<void()>> works[] = {
        {"prep",                  [&] { must(scan_prep_launch(&p.args, 0)); }},
        {"prep, state",
         [&] {
             must(scan_prep_launch(&p.args, 0));
             must(scan_state_launch(&p.args, 0));
         }                                                                   },
        {"prep, state, pass",
         [&] {
             must(scan_prep_launch(&p.args, 0));
             must(scan_state_launch(&p.args, 0));
             must(hopper_scan_pass(&p.args, 0));
         }                                                                   },
        {"all four and the copy",
         [&] {
             renew();
             must(scan_prep_launch(&p.args, 0));
             must(scan_state_launch(&p.args, 0));
             must(hopper_scan_pass(&p.args, 0));
             must(hopper_scan(&p.args, 0));
         }                                                                   },
        {"the copy",              renew                                      },
    };
    printf("%d heads, %d rows\n", heads, rows);
    for (const auto &work : works)
        print_sustained(work.first, sustain(work.second));
}
