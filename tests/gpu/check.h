#pragma once
// What the parts of cuda_op_test share: the two backends, numbers to work on, and what is said.

#include "ops/base/check.h"
#include "tests/gpu/mirror.h"
#include "tests/scan_case.h"

#include <stdio.h>

struct world {
    const struct plugin *plugin;
    struct backend *cpu, *cuda; // f32; both take host memory
    bool small;                 // few and small cases, for sanitizers
    bool skipped;               // a part lacked what it needs, and has said so
};

// Counts cases and failures of a part; says where the first few failures are.
struct tally {
    const char *part;
    int cases, failures;
};

#define MUST(call) CHECK((call) == STATUS_OK)

__attribute__((format(printf, 3, 4))) bool expect(struct tally *tally, bool right,
                                                  const char *format, ...);

// [rows, columns], rows `more` numbers longer than they need to be, in [-scale, scale).
struct matrix drawn(uint64_t seed, int64_t rows, int64_t columns, int64_t more, float scale);
float *drawn_floats(uint64_t seed, int64_t count, float scale);
struct matrix copy_of(const struct matrix *m);
// All of it, with what lies between the rows.
bool same_bits(const struct matrix *a, const struct matrix *b);
bool same_best(const struct best_token *a, const struct best_token *b, int64_t rows);
struct matrix rows_of(const struct matrix *m, int64_t first, int64_t rows);

// The parts; each prints one line and returns whether all was right.
bool check_rows(const struct world *world);
bool check_products(const struct world *world, enum plugin_dtype dtype);
bool check_head(const struct world *world, enum plugin_dtype dtype);
bool check_scan(const struct world *world);
bool check_places(const struct world *world);
bool check_ask(const struct world *world, enum plugin_dtype dtype);
bool check_wide(struct world *world);
