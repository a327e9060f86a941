// Packed weights and the matrix product with them: the work is shared out in blocks of rows by one
// panel of 64 outputs. A panel stays in the core's cache while the rows go by, and the next one is
// fetched meanwhile.

#include "ops/base/check.h"
#include "ops/base/room.h"
#include "ops/cpu/kernels.h"

#include <stdlib.h>
#include <string.h>

#define ITEMS_A_WORKER 8  // so many make the end of a product even enough
#define ROWS_LEAST     48 // fewer a block would read the panel too often for too little work

struct pack_job {
    const struct cpu_kernels *kernels;
    const float *weight;
    const struct packed_weight *packed;
};

static void pack_item(int64_t panel, int64_t worker, const void *argument) {
    const struct pack_job *job = argument;
    const struct packed_weight *packed = job->packed;
    const int64_t first = panel * PANEL_OUTPUTS;
    const int64_t left = packed->outputs - first;
    (void)worker;
    job->kernels->pack_panel(job->weight + first * packed->inputs,
                             left < PANEL_OUTPUTS ? left : PANEL_OUTPUTS, packed->inputs,
                             packed->data + first * packed->inputs);
}

static enum status packed_alloc(int64_t outputs, int64_t inputs, struct packed_weight **packed) {
    const int64_t panels = (outputs + PANEL_OUTPUTS - 1) / PANEL_OUTPUTS;
    enum status status = STATUS_OK;
    size_t floats = 0;
    size_t bytes = 0;
    void *data = NULL;
    if (!size_multiply((size_t)panels * PANEL_OUTPUTS, (size_t)inputs, &floats) ||
        !size_multiply(floats, sizeof(float), &bytes)) {
        return FAIL(NO_MEMORY, "packed weight of %lld by %lld numbers", (long long)outputs,
                    (long long)inputs);
    }
    TRY(cpu_memory(bytes, &data));
    struct packed_weight *made = malloc(sizeof *made);
    if (made == NULL) {
        free(data);
        status = FAIL(NO_MEMORY, "packed weight");
    } else {
        *made = (struct packed_weight){outputs, inputs, panels, data};
        *packed = made;
    }
    return status;
}

enum status cpu_pack(struct backend *backend, const float *weight, int64_t outputs, int64_t inputs,
                     struct packed_weight **packed) {
    struct cpu_backend *cpu = cpu_backend_of(backend);
    struct packed_weight *made = NULL;
    TRY(packed_alloc(outputs, inputs, &made));
    const struct pack_job job = {cpu->kernels, weight, made};
    team_run(cpu->team, made->panels, pack_item, &job);
    *packed = made;
    return STATUS_OK;
}

void cpu_release_packed(struct backend *backend, struct packed_weight *packed) {
    (void)backend;
    if (packed == NULL) return;
    free(packed->data);
    free(packed);
}

struct linear_job {
    const struct cpu_kernels *kernels;
    const struct linear_args *args;
    int64_t block_rows, row_blocks;
};

// Items of one panel are neighbours, so that a worker meets the panel in its cache again.
static void linear_item(int64_t index, int64_t worker, const void *argument) {
    const struct linear_job *job = argument;
    const struct linear_args *args = job->args;
    const struct packed_weight *weight = args->weight;
    const int64_t panel = index / job->row_blocks;
    const int64_t row = index % job->row_blocks * job->block_rows;
    const int64_t output = panel * PANEL_OUTPUTS;
    const int64_t rows_left = args->in.rows - row;
    const int64_t outputs_left = weight->outputs - output;
    const float *data = weight->data + output * weight->inputs;
    const bool last_of_panel = rows_left <= job->block_rows;
    const struct panel_product product = {
        .in = args->in.data + row * args->in.stride,
        .in_stride = args->in.stride,
        .rows = last_of_panel ? rows_left : job->block_rows,
        .inputs = weight->inputs,
        .panel = data,
        .next = last_of_panel && panel + 1 < weight->panels ? data + PANEL_OUTPUTS * weight->inputs
                                                            : NULL,
        .outputs = outputs_left < PANEL_OUTPUTS ? outputs_left : PANEL_OUTPUTS,
    };
    const struct panel_out out = {
        .bias = args->bias == NULL ? NULL : args->bias + output,
        .out = args->out.data + row * args->out.stride + output,
        .stride = args->out.stride,
        .add = args->add,
    };
    (void)worker;
    job->kernels->linear_panel(&product, &out);
}

int64_t cpu_block_rows(int64_t rows, int64_t column_items, int64_t workers) {
    const int64_t wanted = workers == 1 ? 1 : workers * ITEMS_A_WORKER;
    const int64_t blocks = (wanted + column_items - 1) / column_items;
    const int64_t even = (rows + blocks - 1) / blocks;
    const int64_t whole = (even + TILE_ROWS_MOST - 1) / TILE_ROWS_MOST * TILE_ROWS_MOST;
    return whole < ROWS_LEAST ? ROWS_LEAST : whole;
}

enum status cpu_linear(struct backend *backend, const struct linear_args *args) {
    struct cpu_backend *cpu = cpu_backend_of(backend);
    const struct packed_weight *weight = args->weight;
    CHECK(args->in.columns == weight->inputs);
    CHECK(args->out.columns == weight->outputs);
    const int64_t block_rows =
        cpu_block_rows(args->in.rows, weight->panels, team_workers(cpu->team));
    const int64_t row_blocks = (args->in.rows + block_rows - 1) / block_rows;
    const struct linear_job job = {cpu->kernels, args, block_rows, row_blocks};
    team_run(cpu->team, weight->panels * row_blocks, linear_item, &job);
    return STATUS_OK;
}
