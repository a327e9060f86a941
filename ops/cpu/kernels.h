#pragma once
// What the parts of the CPU backend share: the handle, the inner kernels of one instruction set,
// and the operators of the table. Each isa_NAME.c compiles the same kernel bodies (*.inc) once
// for its instruction set and exports one struct cpu_kernels; the operators (cpu_*.c) are compiled
// once, share the work over the team, and call the kernels through the table.

#include "ops/backend.h"
#include "ops/cpu/bf16_kernels.h"
#include "ops/cpu/cpu_backend.h"
#include "ops/cpu/scan_kernels.h"
#include "ops/cpu/team.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PANEL_OUTPUTS  64   // outputs a panel of packed weights has
#define TILE_ROWS_MOST 6    // rows a kernel keeps in registers at a time
#define CPU_HEAD_BLOCK 1024 // logits whose maximum and sum head keeps together; part of the bits
#define HEAD_LANES     32   // numbers head_panel keeps a row: 16 maxima, then 16 sums

// Weights [outputs, inputs] in panels of 64 outputs, zero where 64 p + n is past the last output.
// f32: panel[p][k][n] = weight[64 p + n, k]. bf16: as the backend's bf16_kernels have it.
struct packed_weight {
    int64_t outputs, inputs, panels;
    int64_t panel_bytes;
    char *data; // [panels, panel_bytes], owned, aligned to 64 bytes
};

// A product of rows with one panel.
struct panel_product {
    const float *in;    // row r lies at in + row[r] * in_stride, or in + r * in_stride without row
    const int32_t *row; // [rows] or NULL
    int64_t in_stride, rows, inputs;
    const float *panel; // [inputs, PANEL_OUTPUTS]
    const float *next;  // a panel as large that is wanted after this one, or NULL
    int64_t outputs;    // how many of the panel's outputs are real, 1 to PANEL_OUTPUTS
};

struct panel_out {
    const float *bias; // [outputs] of this panel, or NULL
    float *out;        // row r lies at out + r * stride
    int64_t stride;
    bool add;
};

struct panel_head {
    float *lanes;       // [rows, HEAD_LANES], running
    const int32_t *row; // [rows]: row r of the product has target[row[r]]
    const int32_t *target;
    int64_t first_output; // this panel's first output
    float *target_logit;  // [rows], written for the rows whose target lies in this panel
};

// A row, or one group of a row, of a norm. *_ahead: floats from here to what is wanted next.
struct norm_row {
    const float *in, *gate, *weight; // [columns]; gate is not used by rms_norm
    float *out;                      // [columns]; may be `in`
    int64_t columns;
    int64_t in_ahead, gate_ahead, out_ahead;
    float epsilon;
};

struct cpu_kernels {
    const char *name;

    // cpu_linear.c
    void (*pack_panel)(const float *weight, int64_t outputs, int64_t inputs, float *panel);
    void (*linear_panel)(const struct panel_product *product, const struct panel_out *out);

    // cpu_head.c; what a row has seen of a block of the vocabulary is kept in HEAD_LANES numbers
    void (*head_begin)(float *lanes, int64_t rows);
    void (*head_panel)(const struct panel_product *product, const struct panel_head *head);
    // What these two do with a tile [rows, PANEL_OUTPUTS] of the product whose first row is row
    // `first` of out or head; the head's spoils the tile.
    void (*linear_rows)(const float *tile, int64_t first, int64_t rows, int64_t outputs,
                        const struct panel_out *out);
    void (*head_rows)(float *tile, int64_t first, int64_t rows, int64_t outputs,
                      const struct panel_head *head);
    void (*head_end)(const float *lanes, int64_t rows, float *maximum, float *sum);
    // maximum, sum: [blocks, stride]; merged: [rows]
    void (*head_merge)(const float *maximum, const float *sum, int64_t blocks, int64_t stride,
                       int64_t rows, float *merged_maximum, float *merged_sum);

    // cpu_rows.c: one row, or one group of a row
    void (*rms_norm)(const struct norm_row *row);
    void (*gate_then_norm)(const struct norm_row *row);
    void (*norm_then_gate)(const struct norm_row *row);
    void (*dt)(const float *in, const float *bias, int64_t columns, float least, float most,
               float *out);

    // An elementary function over n numbers, for tests and for `verify`.
    void (*exp)(const float *in, int64_t n, float *out);
    void (*silu)(const float *in, int64_t n, float *out);
    void (*softplus)(const float *in, int64_t n, float *out);

    // cpu_conv.c, cpu_scan.c
    const struct scan_kernels *scan;
};

#if defined(__x86_64__)
extern const struct cpu_kernels cpu_kernels_avx512;
extern const struct cpu_kernels cpu_kernels_avx2;
#endif
#if defined(__aarch64__)
extern const struct cpu_kernels cpu_kernels_neon;
#endif
extern const struct cpu_kernels cpu_kernels_scalar;

// The kernels of an instruction set by name; NULL where this machine lacks it.
const struct cpu_kernels *cpu_kernels_find(const char *isa);

// What a backend computes with. name: one of cpu_isa_list, or "auto" (NULL is the same): the best for
// the dtype. Errors: USAGE (this machine lacks it).
struct cpu_isa {
    const char *name;
    const struct cpu_kernels *kernels;
    const struct bf16_kernels *bf16;
};
enum status cpu_isa_find(const char *name, enum cpu_dtype dtype, struct cpu_isa *found);

struct cpu_backend {
    struct backend base; // first, so that &cpu->base is the handle
    const char *isa;
    const struct cpu_kernels *kernels;
    const struct bf16_kernels *bf16;
    int64_t parts; // of the products' operands; 0: they are f32
    struct {
        struct shared_weights *memory; // NULL: weights are this backend's own
        size_t used;
        bool owner, open;
    } share;
    struct team *team; // owned
    void *scratch;     // owned
    size_t scratch_bytes;
};

static inline struct cpu_backend *cpu_backend_of(struct backend *backend) {
    return (struct cpu_backend *)(void *)backend;
}

// Memory for the operator that runs now, aligned to 64 bytes, of any content; it is gone at the
// next call. Grows when needed, so that in steady state nothing is allocated.
// Errors: NO_MEMORY.
enum status cpu_scratch(struct cpu_backend *cpu, size_t bytes, void **memory);

// Of cpu_share.c. While share.open: memory for weights; written: somebody else writes them.
// Errors: NO_MEMORY.
enum status cpu_share_place(struct cpu_backend *cpu, size_t bytes, void **memory, bool *written);
bool cpu_share_holds(const struct cpu_backend *cpu, const void *memory);
void cpu_share_close(struct cpu_backend *cpu);
// The name of the order in which weights are packed.
const char *cpu_layout(const struct cpu_backend *cpu);

// 64-byte aligned memory, not zeroed; release with free. Errors: NO_MEMORY.
enum status cpu_memory(size_t bytes, void **memory);

// How many rows an item of work has, a multiple of `unit`, so that items, by `column_items` across,
// are enough to share evenly among the workers, and no smaller than that.
int64_t cpu_item_rows(int64_t rows, int64_t column_items, int64_t workers, int64_t unit);

// The rows of a product as its kernels take them (cpu_product.c): f32 where they lie, bf16 in blocks of
// bf16->rows, one behind the other.
struct product_rows {
    const struct cpu_backend *cpu;
    struct matrix in;
    const int32_t *row; // [rows]: row r is row[r] of `in`; NULL: r
    int64_t rows, block_bytes;
    char *blocks;
};
// An item of work: some of the rows, the first a multiple of the unit, by a panel.
struct product_item {
    int64_t row, rows;
    const char *panel, *next; // next: as large, wanted after this one, or NULL
    int64_t outputs;          // how many of the panel's are real, 1 to PANEL_OUTPUTS
};
int64_t product_unit(const struct cpu_backend *cpu);
int64_t product_panel_bytes(const struct cpu_backend *cpu, int64_t inputs);
// Memory that product_rows_fill needs, which converts and borrows it.
size_t product_rows_bytes(const struct cpu_backend *cpu, int64_t rows, int64_t inputs);
void product_rows_fill(struct cpu_backend *cpu, struct product_rows *rows, void *memory);
// out, head: those of the item's first row and output.
void product_linear(const struct product_rows *rows, const struct product_item *item,
                    const struct panel_out *out);
void product_head(const struct product_rows *rows, const struct product_item *item,
                  const struct panel_head *head);

// The operators, as in the backend's table.
enum status cpu_pack(struct backend *backend, const float *weight, int64_t outputs, int64_t inputs,
                     struct packed_weight **packed);
void cpu_release_packed(struct backend *backend, struct packed_weight *packed);
enum status cpu_embedding(struct backend *backend, const struct embedding_args *args);
enum status cpu_rms_norm(struct backend *backend, const struct rms_norm_args *args);
enum status cpu_linear(struct backend *backend, const struct linear_args *args);
enum status cpu_conv_tail(struct backend *backend, const struct conv_args *args);
enum status cpu_causal_conv(struct backend *backend, const struct conv_args *args);
enum status cpu_dt(struct backend *backend, const struct dt_args *args);
enum status cpu_chunk_cumsum(struct backend *backend, const struct scan_args *args);
enum status cpu_chunk_cb(struct backend *backend, const struct scan_args *args);
enum status cpu_chunk_state(struct backend *backend, const struct scan_args *args);
enum status cpu_state_passing(struct backend *backend, const struct scan_args *args);
enum status cpu_chunk_scan(struct backend *backend, const struct scan_args *args);
enum status cpu_gated_norm(struct backend *backend, const struct gated_norm_args *args);
enum status cpu_head(struct backend *backend, const struct head_args *args);
enum status cpu_best(struct backend *backend, const struct best_args *args);
enum status cpu_ceilings(struct backend *backend, struct ceilings *ceilings);
