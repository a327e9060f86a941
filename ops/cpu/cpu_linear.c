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
    const struct cpu_backend *cpu;
    const float *weight;
    const struct packed_weight *packed;
};

static void pack_item(int64_t panel, int64_t worker, const void *argument) {
    const struct pack_job *job = argument;
    const struct cpu_backend *cpu = job->cpu;
    const struct packed_weight *packed = job->packed;
    const int64_t inputs = packed->inputs, first = panel * PANEL_OUTPUTS;
    const int64_t left = packed->outputs - first;
    const int64_t outputs = left < PANEL_OUTPUTS ? left : PANEL_OUTPUTS;
    const float *weight = job->weight + first * inputs;
    char *data = packed->data + panel * packed->panel_bytes;
    (void)worker;
    if (cpu->parts == 0) {
        cpu->kernels->pack_panel(weight, outputs, inputs, (float *)(void *)data);
    } else {
        cpu->bf16->pack_panel(weight, outputs, inputs, cpu->parts, data);
    }
}

// written: another rank packs these.
static enum status packed_alloc(struct cpu_backend *cpu, int64_t outputs, int64_t inputs,
                                struct packed_weight **packed, bool *written) {
    const int64_t panels = (outputs + PANEL_OUTPUTS - 1) / PANEL_OUTPUTS;
    const int64_t panel_bytes = product_panel_bytes(cpu, inputs);
    enum status status = STATUS_OK;
    size_t bytes = 0;
    void *data = NULL;
    *written = false;
    if (!size_multiply((size_t)panels, (size_t)panel_bytes, &bytes)) {
        return FAIL(NO_MEMORY, "packed weight of %lld by %lld numbers", (long long)outputs,
                    (long long)inputs);
    }
    struct packed_weight *made = malloc(sizeof *made);
    if (made == NULL) return FAIL(NO_MEMORY, "packed weight");
    status =
        cpu->share.open ? cpu_share_place(cpu, bytes, &data, written) : cpu_memory(bytes, &data);
    if (status != STATUS_OK) {
        free(made);
        return status;
    }
    *made = (struct packed_weight){outputs, inputs, panels, panel_bytes, data};
    *packed = made;
    return STATUS_OK;
}

enum status cpu_pack(struct backend *backend, const float *weight, int64_t outputs, int64_t inputs,
                     struct packed_weight **packed) {
    struct cpu_backend *cpu = cpu_backend_of(backend);
    struct packed_weight *made = NULL;
    bool written;
    TRY(packed_alloc(cpu, outputs, inputs, &made, &written));
    const struct pack_job job = {cpu, weight, made};
    if (!written) team_run(cpu->team, made->panels, pack_item, &job);
    *packed = made;
    return STATUS_OK;
}

void cpu_release_packed(struct backend *backend, struct packed_weight *packed) {
    if (packed == NULL) return;
    if (!cpu_share_holds(cpu_backend_of(backend), packed->data)) free(packed->data);
    free(packed);
}

struct linear_job {
    const struct product_rows *rows;
    const struct linear_args *args;
    int64_t item_rows, row_items;
};

// Items of one panel are neighbours, so that a worker meets the panel in its cache again.
static void linear_item(int64_t index, int64_t worker, const void *argument) {
    const struct linear_job *job = argument;
    const struct linear_args *args = job->args;
    const struct packed_weight *weight = args->weight;
    const int64_t panel = index / job->row_items;
    const int64_t row = index % job->row_items * job->item_rows;
    const int64_t output = panel * PANEL_OUTPUTS;
    const int64_t rows_left = args->in.rows - row;
    const int64_t outputs_left = weight->outputs - output;
    const char *data = weight->data + panel * weight->panel_bytes;
    const bool last_of_panel = rows_left <= job->item_rows;
    const struct product_item item = {
        .row = row,
        .rows = last_of_panel ? rows_left : job->item_rows,
        .panel = data,
        .next = last_of_panel && panel + 1 < weight->panels ? data + weight->panel_bytes : NULL,
        .outputs = outputs_left < PANEL_OUTPUTS ? outputs_left : PANEL_OUTPUTS,
    };
    const struct panel_out out = {
        .bias = args->bias == NULL ? NULL : args->bias + output,
        .out = args->out.data + row * args->out.stride + output,
        .stride = args->out.stride,
        .add = args->add,
    };
    (void)worker;
    product_linear(job->rows, &item, &out);
}

int64_t cpu_item_rows(int64_t rows, int64_t column_items, int64_t workers, int64_t unit) {
    const int64_t wanted = workers == 1 ? 1 : workers * ITEMS_A_WORKER;
    const int64_t items = (wanted + column_items - 1) / column_items;
    const int64_t even = (rows + items - 1) / items;
    return ((even < ROWS_LEAST ? ROWS_LEAST : even) + unit - 1) / unit * unit;
}

enum status cpu_linear(struct backend *backend, const struct linear_args *args) {
    struct cpu_backend *cpu = cpu_backend_of(backend);
    const struct packed_weight *weight = args->weight;
    struct product_rows rows = {.in = args->in, .rows = args->in.rows};
    void *memory = NULL;
    CHECK(args->in.columns == weight->inputs);
    CHECK(args->out.columns == weight->outputs);
    TRY(cpu_scratch(cpu, product_rows_bytes(cpu, rows.rows, weight->inputs), &memory));
    product_rows_fill(cpu, &rows, memory);
    const int64_t item_rows =
        cpu_item_rows(rows.rows, weight->panels, team_workers(cpu->team), product_unit(cpu));
    const int64_t row_items = (rows.rows + item_rows - 1) / item_rows;
    const struct linear_job job = {&rows, args, item_rows, row_items};
    team_run(cpu->team, weight->panels * row_items, linear_item, &job);
    return STATUS_OK;
}
