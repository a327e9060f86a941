// The fused scan of cuda/hopper_scan.h on this machine's GPU: against a recurrence in double, then
// bit for bit against itself in other batches, then its speed. Without a Hopper GPU it says so and
// leaves with 77. Arguments: "check" checks only; "small" checks little (for compute-sanitizer);
// "time [HEADS]" measures only, "power [HEADS]" what stages take, also of energy, when they go on.

#include "tests/cuda_scan_reference.cuh"
#include "tests/cuda_scan_states.cuh"
#include "tests/cuda_scan_timing.cuh"

#define SKIPPED 77

// Rounding to bf16 of x, B, C, w x, scores, their factors, M, states and v, each 2^-9 / sqrt(3) in the mean
// square: 3.5e-3 is seen.
constexpr double kMeanError = 6e-3;
constexpr double kWorstError = 6e-2; // of the 64 numbers of one head in one row, where terms cancel
constexpr double kStateError = 5e-3; // of x, B, w x, and where it is handed on the state itself
constexpr double kFallError = 1e-4;  // of 2^s, s a sum of up to 1,024 in f32

static int failures = 0;

static void expect(bool holds, const char *what) {
    if (!holds) failures++;
    printf("  %-60s %s\n", what, holds ? "ok" : "FAILED");
}

static double relative(const float *got, const float *want, size_t n) {
    double difference = 0.0;
    double size = 0.0;
    for (size_t i = 0; i < n; i++) {
        difference += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        size += (double)want[i] * want[i];
    }
    return sqrt(difference / (size + 1e-30));
}

struct errors {
    double mean, worst, squares;
    int64_t worst_row, worst_head;
};

// mean: over a head's rows, the worst head's; worst: of one row of a head, relative to the row and
// to the head's mean row: C.B dt may come near -D, and then all 64 numbers of a row cancel.
static errors compare(const prepared &p, const batch &b, const outputs &got,
                      const reference &want) {
    const int heads = p.l.shape.heads;
    const std::vector<float> v = want.v.host();
    const std::vector<float> sq = want.sq.host();
    errors e = {};
    for (int h = 0; h < heads; h++) {
        double all = 0.0, all_size = 0.0, rows = 0.0, squares = 0.0;
        for (const scan_span &span : b.spans) {
            for (int64_t row = span.row; row < span.row + span.rows; row++, rows += 1.0) {
                squares += sq[(size_t)(row * heads + h)];
                const size_t at = (size_t)((row * heads + h) * 64);
                for (size_t i = at; i < at + 64; i++)
                    all_size += (double)v[i] * v[i];
            }
        }
        for (const scan_span &span : b.spans) {
            for (int64_t row = span.row; row < span.row + span.rows; row++) {
                const size_t at = (size_t)((row * heads + h) * 64);
                double difference = 0.0, size = all_size / rows;
                for (size_t i = at; i < at + 64; i++) {
                    const double d = (double)__bfloat162float(got.v[i]) - v[i];
                    difference += d * d;
                    size += (double)v[i] * v[i];
                }
                all += difference;
                const double worst = sqrt(difference / size);
                if (!(worst <= e.worst)) e.worst = worst, e.worst_row = row, e.worst_head = h;
                const size_t s = (size_t)(row * heads + h);
                const double q = fabs(got.sq[s] - sq[s]) / (sq[s] + squares / rows);
                if (!(q <= e.squares)) e.squares = q;
            }
        }
        const double mean = sqrt(all / all_size);
        if (!(mean <= e.mean)) e.mean = mean;
    }
    return e;
}

static void accuracy(const char *name, const shape &s, const std::vector<piece> &pieces,
                     int nobody) {
    layer l(s);
    int slots = 0;
    for (const piece &p : pieces)
        slots = p.in >= slots ? p.in + 1 : p.out >= slots ? p.out + 1 : slots;
    states memory(s, slots + 1);
    const batch b(pieces, memory, 3, nobody);
    prepared p(l, b);
    const reference want(p);
    p.run();
    const errors e = compare(p, b, p.get(), want);
    const std::vector<float> end = want.end.host(), tail = want.tail.host();
    const size_t state = (size_t)s.heads * 8192;
    const size_t tails = (size_t)((s.d_conv - 1) * s.conv_width());
    double end_error = 0.0;
    bool tail_same = true;
    for (size_t i = 0; i < pieces.size(); i++) {
        if (pieces[i].out < 0) continue;
        const std::vector<float> got = memory.layer(pieces[i].out);
        const double error = relative(got.data(), end.data() + i * state, state);
        if (!(error <= end_error)) end_error = error;
        if (memcmp(got.data() + state, tail.data() + i * tails, tails * 4) != 0) tail_same = false;
    }
    char text[200];
    snprintf(text, sizeof text, "%s: mean %.2e worst %.2e (row %ld head %ld) sq %.1e state %.1e%s",
             name, e.mean, e.worst, (long)e.worst_row, (long)e.worst_head, e.squares, end_error,
             tail_same ? "" : " tail differs");
    expect(e.mean < kMeanError && e.worst < kWorstError && e.squares < 2 * kWorstError &&
               end_error < kStateError && tail_same,
           text);
    const handed_errors h = compare_handed(p, b, want);
    snprintf(text, sizeof text, "  handed on: chunks %.2e tiles %.2e fall %.1e", h.chunk, h.tile,
             h.fall);
    expect(h.chunk < kStateError && h.tile < kStateError && h.fall < kFallError &&
               chunks_listed(p, b),
           text);
}

static std::vector<piece> many_lengths() {
    std::vector<piece> pieces;
    const int lengths[] = {1,   2,   3,   4,   63,  64,   65,   127,  128, 129,
                           300, 449, 640, 705, 833, 1023, 1024, 1025, 4113};
    int slot = 0;
    for (int times = 0; times < 2; times++) { // with and without states
        for (int length : lengths) {
            const int k = (int)pieces.size();
            piece p = {k, 5, length, -1, -1, k % 3};
            if ((k + times) % 2 == 0) p.in = slot++;
            if (times == 0 ? k % 4 < 2 : k % 4 >= 2) p.out = slot++;
            pieces.push_back(p);
        }
    }
    return pieces;
}

// Rows of piece `i` in one run, those of piece `j` from `skip` on in another.
static bool same_rows(const shape &s, const batch &b1, const outputs &o1, size_t i, const batch &b2,
                      const outputs &o2, size_t j, int64_t skip) {
    const size_t rows = (size_t)b1.spans[i].rows;
    const size_t r1 = (size_t)b1.first_row[i];
    const size_t r2 = (size_t)(b2.first_row[j] + skip);
    const size_t d = (size_t)s.d_inner(), h = (size_t)s.heads;
    return memcmp(o1.v.data() + r1 * d, o2.v.data() + r2 * d, rows * d * 2) == 0 &&
           memcmp(o1.sq.data() + r1 * h, o2.sq.data() + r2 * h, rows * h * 4) == 0;
}

// The tiles of span `i` in one run, those of span `j` from row `skip` on in another.
static bool same_handed(const batch &b1, const handed &h1, size_t i, const batch &b2,
                        const handed &h2, size_t j, int64_t skip) {
    const size_t other = (size_t)(b2.spans[j].first_tile + skip / HOPPER_SCAN_TILE);
    const size_t first = (size_t)b1.spans[i].first_tile;
    bool same = true;
    for (size_t k = 0; k < (size_t)b1.spans[i].tiles; k++) {
        const scan_tile &tile = b1.tiles[first + k];
        same = same &&
               h1.same(first + k, tile, has_state(b1, tile), h2, other + k, b2.tiles[other + k]);
    }
    return same;
}

// Each piece alone at row 0, with its states, against the packed batch.
static void bits(const shape &s, const std::vector<piece> &pieces) {
    layer l(s);
    states memory(s, 2 * (int)pieces.size());
    const batch packed(pieces, memory, 0, -1);
    prepared p(l, packed);
    p.run();
    const outputs all = p.get();
    const handed all_handed(p);
    std::vector<std::vector<float>> ends(pieces.size());
    for (size_t i = 0; i < pieces.size(); i++)
        if (pieces[i].out >= 0) ends[i] = memory.layer(pieces[i].out);
    bool alone = true, alone_state = true, alone_handed = true;
    for (size_t i = 0; i < pieces.size(); i++) {
        piece one = pieces[i];
        one.gap = 0;
        const batch b({one}, memory, 0, -1);
        prepared q(l, b);
        q.run();
        alone = alone && same_rows(s, b, q.get(), 0, packed, all, i, 0);
        alone_handed = alone_handed && same_handed(b, handed(q), 0, packed, all_handed, i, 0);
        if (one.out >= 0) alone_state = alone_state && memory.layer(one.out) == ends[i];
    }
    expect(alone, "bits: a span alone and packed");
    expect(alone_state, "bits: its end state alone and packed");
    expect(alone_handed, "bits: its states before chunks and tiles alone and packed");
    std::vector<piece> shuffled;
    for (size_t i = 0; i < pieces.size(); i++) {
        shuffled.push_back(pieces[pieces.size() - 1 - i]);
        shuffled.back().gap = (int)i % 2 == 0 ? 1 : 66;
    }
    const batch turned(shuffled, memory, 131, -2); // gaps and padding of NaN and infinity
    prepared q(l, turned);
    q.run();
    const outputs o = q.get();
    const handed turned_handed(q);
    bool same = true, same_state = true, same_states = true;
    for (size_t i = 0; i < pieces.size(); i++) {
        const size_t j = pieces.size() - 1 - i;
        same = same && same_rows(s, packed, all, i, turned, o, j, 0);
        same_states =
            same_states && same_handed(packed, all_handed, i, turned, turned_handed, j, 0);
        if (pieces[i].out >= 0) same_state = same_state && memory.layer(pieces[i].out) == ends[i];
    }
    expect(same, "bits: other order, odd rows, neighbours NaN, T padded");
    expect(same_state, "bits: end states there");
    expect(same_states, "bits: states before chunks and tiles there");
}

// One span of 4113 tokens against the same cut at multiples of 1024, the state handed on in place.
static void cuts(const shape &s) {
    layer l(s);
    states memory(s, 4);
    const batch whole(
        {
            {3, 0, 4113, 0, 1, 0}
    },
        memory, 0, -1);
    prepared p(l, whole);
    p.run();
    const outputs all = p.get();
    const handed all_handed(p);
    const std::vector<float> end = memory.layer(1);
    MUST(cudaMemcpy(memory.at(2), memory.at(0), (size_t)(kLayers * s.layer_bytes()),
                    cudaMemcpyDeviceToDevice));
    bool same = true, same_states = true;
    int from = 0;
    for (int rows : {1024, 2048, 1041}) {
        const batch b(
            {
                {3, from, rows, 2, 2, 1}
        },
            memory, 0, -2);
        prepared q(l, b);
        q.run();
        same = same && same_rows(s, b, q.get(), 0, whole, all, 0, from);
        same_states = same_states && same_handed(b, handed(q), 0, whole, all_handed, 0, from);
        from += rows;
    }
    expect(same, "bits: cut at multiples of 1024, the state in one place");
    expect(memory.layer(2) == end, "bits: the end state after the cuts");
    expect(same_states, "bits: states before chunks and tiles there");
}

// Stage by stage against many layers in a row, each of whose kernels may begin before the one
// before it has ended: what one leaves undone, the next one reads or overwrites.
static void overlap(const shape &s, const std::vector<piece> &pieces, int layers) {
    layer l(s);
    states memory(s, 2 * (int)pieces.size());
    const batch b(pieces, memory, 131, -2);
    prepared p(l, b);
    cudaStream_t stream;
    MUST(cudaStreamCreate(&stream)); // waits for the fills, which are on the default stream
    p.run();
    const outputs want = p.get();
    const handed want_handed(p);
    const std::vector<float> want_states = memory.memory.host();
    bool same = true, same_states = true;
    for (int i = 0; i < layers; i++) {
        p.fill();
        p.run(false, stream);
        p.run(false, stream); // of other z: only its timing counts
        p.fill();
        p.run(false, stream);
        MUST(cudaDeviceSynchronize());
        const outputs got = p.get();
        const handed got_handed(p);
        for (size_t j = 0; j < pieces.size(); j++) {
            same = same && same_rows(s, b, want, j, b, got, j, 0);
            same_states = same_states && same_handed(b, want_handed, j, b, got_handed, j, 0);
        }
    }
    cudaStreamDestroy(stream);
    expect(same, "bits: kernels that overlap");
    expect(memory.memory.host() == want_states, "bits: end states of kernels that overlap");
    expect(same_states, "bits: states before chunks and tiles there");
}

static void check_little() {
    accuracy("little, 3 heads",
             {
                 3, 1, 4, true
    },
             {{0, 0, 70, 0, 1, 0}, {1, 0, 3, -1, -1, 0}, {2, 0, 1089, 2, 3, 1}}, -2);
}

static void check() {
    const std::vector<piece> lengths = many_lengths();
    std::vector<piece> tiny;
    for (int i = 0; i < 3000; i++)
        tiny.push_back({i, 0, 1 + i % 5, i % 7 == 0 ? i % 50 : -1, i % 11 == 0 ? 50 + i : -1, 0});
    accuracy("1 span of 64",
             {
                 2, 1, 4, true
    },
             {{0, 0, 64, -1, -1, 0}}, -1);
    accuracy("1 span of 64, state in and out",
             {
                 2, 1, 4, true
    },
             {{0, 0, 64, 0, 1, 0}}, -1);
    accuracy("1 span of 128",
             {
                 2, 1, 4, true
    },
             {{0, 0, 128, -1, 1, 0}}, -1);
    accuracy("1 span of 2048",
             {
                 2, 1, 4, true
    },
             {{0, 0, 2048, -1, 1, 0}}, -1);
    accuracy("all lengths, 1 head", {1, 1, 4, true}, lengths, -2);
    accuracy("all lengths, 3 heads, no bias, d_conv 2", {3, 1, 2, false}, lengths, -2);
    accuracy("all lengths, 24 heads, d_conv 3", {24, 1, 3, true}, lengths, -2);
    accuracy("all lengths, 25 heads", {25, 1, 4, true}, lengths, -2);
    accuracy("all lengths, 32 heads", {32, 1, 4, true}, lengths, -2);
    accuracy("all lengths, 16 heads in 4 groups", {16, 4, 4, true}, lengths, -2);
    accuracy("3000 spans of 1 to 5, 4 heads", {4, 1, 4, true}, tiny, -2);
    bits({3, 1, 4, true}, lengths);
    bits({8, 1, 4, true}, lengths);
    overlap({3, 1, 4, true}, lengths, 20);
    overlap({32, 1, 4, true}, lengths, 20);
    overlap(
        {
            2, 1, 4, true
    },
        {{0, 0, 64, 0, 1, 0}}, 50);
    cuts({5, 1, 4, true});
    cuts({24, 1, 4, true});
}

int main(int count, char **arguments) {
    const char *what = count > 1 ? arguments[1] : "both";
    const scan_shape one = {2, 64, 128, 1};
    if (!hopper_scan_supported(0, &one, 4)) {
        printf("no Hopper GPU, or not built for one: nothing checked\n");
        return SKIPPED;
    }
    if (strcmp(what, "small") == 0) check_little();
    if (strcmp(what, "both") == 0 || strcmp(what, "check") == 0) check();
    if (strcmp(what, "both") == 0 || strcmp(what, "time") == 0)
        time_all(count > 2 ? atoi(arguments[2]) : 0);
    if (strcmp(what, "power") == 0) time_sustained(count > 2 ? atoi(arguments[2]) : 32);
    printf("%s\n", failures == 0 ? "all ok" : "FAILED");
    return failures == 0 ? 0 : 1;
}
