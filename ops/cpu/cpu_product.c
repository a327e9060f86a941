// A product of rows with panels, in the backend's dtype: what lies between the operators (linear,
// head) and the kernels.

#include "ops/base/check.h"
#include "ops/cpu/kernels.h"

int64_t product_unit(const struct cpu_backend *cpu) {
    return cpu->parts == 0 ? TILE_ROWS_MOST : cpu->bf16->rows;
}

int64_t product_panel_bytes(const struct cpu_backend *cpu, int64_t inputs) {
    if (cpu->parts == 0) return inputs * PANEL_OUTPUTS * (int64_t)sizeof(float);
    return bf16_steps(inputs) * cpu->parts * BF16_STEP_BYTES;
}

static int64_t block_bytes_of(const struct cpu_backend *cpu, int64_t inputs) {
    return bf16_steps(inputs) * cpu->parts * cpu->bf16->rows * cpu->bf16->row_bytes;
}

static int64_t blocks_of(const struct cpu_backend *cpu, int64_t rows) {
    return (rows + cpu->bf16->rows - 1) / cpu->bf16->rows;
}

size_t product_rows_bytes(const struct cpu_backend *cpu, int64_t rows, int64_t inputs) {
    if (cpu->parts == 0) return 0;
    return (size_t)blocks_of(cpu, rows) * (size_t)block_bytes_of(cpu, inputs);
}

static void convert_block(int64_t index, int64_t worker, const void *argument) {
    const struct product_rows *rows = argument;
    const struct cpu_backend *cpu = rows->cpu;
    const float *in[BF16_ROWS_MOST];
    const int64_t first = index * cpu->bf16->rows, left = rows->rows - first;
    const int64_t count = left < cpu->bf16->rows ? left : cpu->bf16->rows;
    (void)worker;
    for (int64_t r = 0; r < count; r++) {
        const int64_t row = rows->row == NULL ? first + r : rows->row[first + r];
        in[r] = rows->in.data + row * rows->in.stride;
    }
    cpu->bf16->convert(in, count, rows->in.columns, cpu->parts,
                       rows->blocks + index * rows->block_bytes);
}

void product_rows_fill(struct cpu_backend *cpu, struct product_rows *rows, void *memory) {
    rows->cpu = cpu;
    if (cpu->parts == 0) return;
    CHECK(cpu->bf16->rows <= BF16_ROWS_MOST);
    rows->blocks = memory;
    rows->block_bytes = block_bytes_of(cpu, rows->in.columns);
    team_run(cpu->team, blocks_of(cpu, rows->rows), convert_block, rows);
}

static struct panel_product f32_product(const struct product_rows *rows,
                                        const struct product_item *item) {
    const bool listed = rows->row != NULL;
    return (struct panel_product){
        .in = rows->in.data + (listed ? 0 : item->row * rows->in.stride),
        .row = listed ? rows->row + item->row : NULL,
        .in_stride = rows->in.stride,
        .rows = item->rows,
        .inputs = rows->in.columns,
        .panel = (const float *)(const void *)item->panel,
        .next = (const float *)(const void *)item->next,
        .outputs = item->outputs,
    };
}

// The product of one block of an item, its rows from `first` on; fetches its share of the next panel.
static int64_t bf16_block(const struct product_rows *rows, const struct product_item *item,
                          int64_t first, float *tile) {
    const struct cpu_backend *cpu = rows->cpu;
    const int64_t unit = cpu->bf16->rows, left = item->rows - first;
    const int64_t bytes = product_panel_bytes(cpu, rows->in.columns);
    const int64_t begin = bytes * first / item->rows / 64 * 64;
    const int64_t end = left <= unit ? bytes : bytes * (first + unit) / item->rows / 64 * 64;
    const struct bf16_product product = {
        .block = rows->blocks + (item->row + first) / unit * rows->block_bytes,
        .panel = item->panel,
        .rows = left < unit ? left : unit,
        .steps = bf16_steps(rows->in.columns),
        .parts = cpu->parts,
        .ahead = item->next == NULL ? item->panel : item->next + begin,
        .ahead_end = item->next == NULL ? item->panel : item->next + end,
        .tile = tile,
    };
    cpu->bf16->product(&product);
    return product.rows;
}

void product_linear(const struct product_rows *rows, const struct product_item *item,
                    const struct panel_out *out) {
    const struct cpu_backend *cpu = rows->cpu;
    _Alignas(64) float tile[BF16_ROWS_MOST * PANEL_OUTPUTS];
    if (cpu->parts == 0) {
        const struct panel_product product = f32_product(rows, item);
        cpu->kernels->linear_panel(&product, out);
        return;
    }
    for (int64_t first = 0; first < item->rows; first += cpu->bf16->rows) {
        const int64_t count = bf16_block(rows, item, first, tile);
        cpu->kernels->linear_rows(tile, first, count, item->outputs, out);
    }
}

void product_head(const struct product_rows *rows, const struct product_item *item,
                  const struct panel_head *head) {
    const struct cpu_backend *cpu = rows->cpu;
    _Alignas(64) float tile[BF16_ROWS_MOST * PANEL_OUTPUTS];
    if (cpu->parts == 0) {
        const struct panel_product product = f32_product(rows, item);
        cpu->kernels->head_panel(&product, head);
        return;
    }
    for (int64_t first = 0; first < item->rows; first += cpu->bf16->rows) {
        const int64_t count = bf16_block(rows, item, first, tile);
        cpu->kernels->head_rows(tile, first, count, item->outputs, head);
    }
}
