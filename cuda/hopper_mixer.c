// A layer on Hopper, in bf16: what one kernel leaves in memory is what the next reads, once.
//
//   project        raw = rstd (u W_in)          the norm's scale is a factor of the product's rows
//   prepare        convolution, dt, decays, what each tile adds to the state
//   pass, scan     y, gated, in z's place; its squares, head by head
//   project_back   residual += rstd (v W_out); u, what the next norm's product reads, and squares
//   head           log-sum-exp over tiles of the vocabulary; no logits in memory
//   ask            by operators (ops/ask.h), on the rows of the residual that are asked: their norm is
//                  rounded where head rounds u, so that the last digits of its logits are others
//
// The residual, u and its squares are of the whole step, all else of a window.

#include "cuda/hopper_mixer.h"

#include "cuda/cuda_backend.h"
#include "cuda/hopper_gemm.h"
#include "cuda/hopper_panels.h"
#include "cuda/hopper_scan.h"
#include "cuda/product.h"
#include "ops/ask.h"

#include <stdio.h>
#include <stdlib.h>

#define WINDOW_ROWS 65536 // bounds the memory: 1.5 GB at 370m's shape
#define SHORT_TILES 512   // of a window, beyond its rows / HOPPER_SCAN_TILE: 0.8 GB there

struct hopper_mixer {
    struct mixer base;       // first, so that &hopper->base is the handle
    struct backend *backend; // borrowed
    struct mixer_shape shape;
    int32_t multiprocessors, residual_parts;
    int64_t raw_columns;

    // In panels (hopper_panels.h): the residual and u of the step's rows, raw of the window's.
    float *residual;
    uint16_t *u;
    uint16_t *raw;            // z | x | B | C
    float *residual_squares;  // [rows, residual_parts]
    float *dt, *gate_squares; // [window, heads]
    float2 *partial;          // [window, tiles of the vocabulary]
    float *target_logit;      // [window]
    uint32_t *ticket;         // [2]
    void *scan_memory;
    struct hopper_scan_work work; // in it
    struct ask_room ask_room;
};

static struct hopper_mixer *hopper_of(struct mixer *mixer) {
    return (struct hopper_mixer *)(void *)mixer;
}

static struct gemm_queue queue_of(const struct hopper_mixer *hopper) {
    return (struct gemm_queue){.stream = cuda_backend_stream(hopper->backend),
                               .sms = hopper->multiprocessors,
                               .ticket = hopper->ticket};
}

// The scale of the norm over rows of the residual.
static struct gemm_scale residual_scale(const struct hopper_mixer *hopper, int64_t row) {
    return (struct gemm_scale){.squares = hopper->residual_squares + row * hopper->residual_parts,
                               .parts = hopper->residual_parts,
                               .columns = (float)hopper->shape.hidden,
                               .epsilon = hopper->shape.epsilon};
}

static enum status begin(struct mixer *mixer, const struct mixer_begin *begin) {
    const struct hopper_mixer *hopper = hopper_of(mixer);
    const struct embed_gather gather = {.table = begin->embedding.data,
                                        .token = begin->token,
                                        .norm = begin->norm,
                                        .rows = begin->rows,
                                        .columns = hopper->shape.hidden,
                                        .r = hopper->residual,
                                        .u = hopper->u,
                                        .pitch = hopper->shape.rows,
                                        .squares = hopper->residual_squares};
    return cuda_embed_gather(cuda_backend_stream(hopper->backend), &gather);
}

static enum status project(struct mixer *mixer, const struct mixer_call *call) {
    const struct hopper_mixer *hopper = hopper_of(mixer);
    const struct mixer_shape *shape = &hopper->shape;
    const struct gemm_queue queue = queue_of(hopper);
    const int64_t rows = call->batch.rows;
    struct gemm_operand u, weight;
    TRY(gemm_operand_rows(&u, hopper->u + call->row * PANEL_COLUMNS, rows, shape->hidden,
                          shape->rows));
    TRY(gemm_operand_in_proj(&weight, call->weights->in_proj->data, hopper->raw_columns,
                             shape->scan.heads, shape->hidden));
    const struct gemm_in_proj product = {.u = &u,
                                         .weight = &weight,
                                         .rows = rows,
                                         .k = shape->hidden,
                                         .raw_columns = hopper->raw_columns,
                                         .dt_columns = shape->scan.heads,
                                         .scale = residual_scale(hopper, call->row),
                                         .bias = call->weights->in_bias,
                                         .raw = hopper->raw,
                                         .raw_pitch = hopper->base.window_rows,
                                         .dt = hopper->dt};
    return hopper_in_proj(&queue, &product);
}

static struct hopper_scan_args scan_of(const struct hopper_mixer *hopper,
                                       const struct mixer_call *call) {
    const struct mixer_shape *shape = &hopper->shape;
    const struct mixer_weights *weights = call->weights;
    return (struct hopper_scan_args){
        .batch = call->batch,
        .shape = shape->scan,
        .d_conv = shape->d_conv,
        .raw = hopper->raw,
        .raw_pitch = hopper->base.window_rows,
        .dt_raw = hopper->dt,
        .dt_pitch = shape->scan.heads,
        .conv_weight = weights->conv,
        .conv_bias = weights->conv_bias,
        .dt_bias = weights->dt_bias,
        .dt_least = shape->dt_least,
        .dt_most = shape->dt_most,
        .a = weights->a,
        .d = weights->d,
        .norm_weight = weights->gate_norm,
        .sq = hopper->gate_squares,
        .work = hopper->work,
        .multiprocessors = hopper->multiprocessors,
    };
}

static enum status tail(struct mixer *mixer, const struct mixer_call *call) {
    const struct hopper_mixer *hopper = hopper_of(mixer);
    const struct hopper_scan_args args = scan_of(hopper, call);
    return hopper_scan_conv_tail(&args, cuda_backend_stream(hopper->backend));
}

static enum status prepare(struct mixer *mixer, const struct mixer_call *call) {
    const struct hopper_mixer *hopper = hopper_of(mixer);
    const struct hopper_scan_args args = scan_of(hopper, call);
    return hopper_scan_prepare(&args, cuda_backend_stream(hopper->backend));
}

static enum status pass(struct mixer *mixer, const struct mixer_call *call) {
    const struct hopper_mixer *hopper = hopper_of(mixer);
    const struct hopper_scan_args args = scan_of(hopper, call);
    return hopper_scan_pass(&args, cuda_backend_stream(hopper->backend));
}

static enum status scan(struct mixer *mixer, const struct mixer_call *call) {
    const struct hopper_mixer *hopper = hopper_of(mixer);
    const struct hopper_scan_args args = scan_of(hopper, call);
    return hopper_scan(&args, cuda_backend_stream(hopper->backend));
}

static enum status project_back(struct mixer *mixer, const struct mixer_call *call) {
    const struct hopper_mixer *hopper = hopper_of(mixer);
    const struct mixer_shape *shape = &hopper->shape;
    const struct gemm_queue queue = queue_of(hopper);
    const int64_t rows = call->batch.rows;
    struct gemm_operand v, weight;
    TRY(gemm_operand_rows(&v, hopper->raw, rows, shape->d_inner, hopper->base.window_rows));
    TRY(gemm_operand_out_proj(&weight, call->weights->out_proj->data, shape->hidden,
                              shape->d_inner));
    const struct gemm_out_proj product = {
        .v = &v,
        .weight = &weight,
        .rows = rows,
        .k = shape->d_inner,
        .n = shape->hidden,
        .scale = {.squares = hopper->gate_squares,
                  .parts = (int32_t)shape->scan.heads,
                  .columns = (float)shape->d_inner,
                  .epsilon = shape->epsilon},
        .bias = call->weights->out_bias,
        .norm = call->next_norm,
        .r = hopper->residual + call->row * PANEL_FLOATS,
        .u = hopper->u + call->row * PANEL_COLUMNS,
        .pitch = shape->rows,
        .squares = hopper->residual_squares + call->row * hopper->residual_parts,
    };
    return hopper_out_proj(&queue, &product);
}

// In blocks of a window, for the partial sums' sake.
static enum status head(struct mixer *mixer, const struct mixer_head *head) {
    const struct hopper_mixer *hopper = hopper_of(mixer);
    const struct mixer_shape *shape = &hopper->shape;
    const struct gemm_queue queue = queue_of(hopper);
    const int64_t most = hopper->base.window_rows;
    struct gemm_operand u, weight;
    TRY(gemm_operand_head(&weight, head->weight->data, shape->vocab, shape->hidden));
    for (int64_t row = 0; row < head->rows; row += most) {
        const int64_t left = head->rows - row, rows = left < most ? left : most;
        TRY(gemm_operand_rows(&u, hopper->u + row * PANEL_COLUMNS, rows, shape->hidden,
                              shape->rows));
        const struct gemm_head product = {.u = &u,
                                          .weight = &weight,
                                          .rows = rows,
                                          .k = shape->hidden,
                                          .vocab = shape->vocab,
                                          .scale = residual_scale(hopper, row),
                                          .target = head->target + row,
                                          .partial = hopper->partial,
                                          .target_logit = hopper->target_logit,
                                          .nll = head->nll + row};
        TRY(hopper_head(&queue, &product));
    }
    return STATUS_OK;
}

static enum status gather(struct mixer *mixer, const int32_t *row, struct matrix gathered) {
    const struct hopper_mixer *hopper = hopper_of(mixer);
    const struct residual_gather args = {.r = hopper->residual,
                                         .pitch = hopper->shape.rows,
                                         .row = row,
                                         .rows = gathered.rows,
                                         .columns = gathered.columns,
                                         .out = gathered.data};
    return cuda_residual_gather(cuda_backend_stream(hopper->backend), &args);
}

static enum status ask(struct mixer *mixer, const struct mixer_ask *ask) {
    const struct hopper_mixer *hopper = hopper_of(mixer);
    return ask_rows(hopper->backend, &hopper->shape, &hopper->ask_room, mixer, gather, ask);
}

static void hopper_mixer_close(struct mixer *mixer) {
    struct hopper_mixer *hopper = hopper_of(mixer);
    void *memory[] = {
        hopper->residual, hopper->residual_squares, hopper->u,       hopper->raw,
        hopper->dt,       hopper->gate_squares,     hopper->partial, hopper->target_logit,
        hopper->ticket,   hopper->scan_memory};
    for (size_t i = 0; i < sizeof memory / sizeof memory[0]; i++) {
        hopper->backend->table->release(hopper->backend, memory[i]);
    }
    ask_room_free(hopper->backend, &hopper->ask_room);
    free(hopper);
}

static const struct mixer_table hopper_mixer_table = {
    .close = hopper_mixer_close,
    .begin = begin,
    .project = project,
    .tail = tail,
    .prepare = prepare,
    .pass = pass,
    .scan = scan,
    .project_back = project_back,
    .head = head,
    .ask = ask,
};

static enum status make_room(struct hopper_mixer *hopper) {
    const struct mixer_shape *shape = &hopper->shape;
    const int64_t window = hopper->base.window_rows, tiles = hopper->base.window_tiles;
    const int64_t heads = shape->scan.heads;
    const int64_t scan_bytes =
        (int64_t)hopper_scan_work(&hopper->work, &shape->scan, window, tiles, NULL);
    const struct {
        void *place;
        int64_t rows, columns;
        size_t element;
    } buffers[] = {
        {&hopper->residual,         shape->rows, shape->hidden,            sizeof(float)   },
        {&hopper->residual_squares, shape->rows, hopper->residual_parts,   sizeof(float)   },
        {&hopper->u,                shape->rows, shape->hidden,            sizeof(uint16_t)},
        {&hopper->raw,              window,      hopper->raw_columns,      sizeof(uint16_t)},
        {&hopper->dt,               window,      heads,                    sizeof(float)   },
        {&hopper->gate_squares,     window,      heads,                    sizeof(float)   },
        {&hopper->partial,          window,      gemm_tiles(shape->vocab), sizeof(float2)  },
        {&hopper->target_logit,     window,      1,                        sizeof(float)   },
        {&hopper->ticket,           2,           1,                        sizeof(uint32_t)},
        {&hopper->scan_memory,      scan_bytes,  1,                        1               },
    };
    for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; i++) {
        TRY(backend_room(hopper->backend, buffers[i].rows, buffers[i].columns, buffers[i].element,
                         (void **)buffers[i].place));
    }
    (void)hopper_scan_work(&hopper->work, &shape->scan, window, tiles, hopper->scan_memory);
    return ask_room_make(hopper->backend, shape, &hopper->ask_room);
}

// One group, since the gated norm's scale must be one factor of the whole row; whole panels, as d_inner and
// conv_width are by the scan's shape. Packed weights then have no gap behind their inputs.
_Static_assert(PRODUCT_SLAB_BYTES == PANEL_BYTES, "no gap");
static bool knows(const struct cuda_backend *cuda, const struct mixer_shape *shape) {
    return cuda->dtype == PLUGIN_BF16 && shape->scan.groups == 1 && !shape->norm_before_gate &&
           shape->hidden % PANEL_COLUMNS == 0 && hopper_gemm_supported() &&
           hopper_scan_supported(cuda->device, &shape->scan, shape->d_conv);
}

enum status hopper_mixer_open(struct backend *backend, const struct mixer_shape *shape,
                              struct mixer **opened) {
    const struct cuda_backend *cuda = cuda_backend_of(backend);
    *opened = NULL;
    CUDA_TRY(cudaSetDevice(cuda->device));
    if (!knows(cuda, shape)) return STATUS_OK;
    const int64_t tile = HOPPER_SCAN_TILE;
    const int64_t step_rows = (shape->rows + tile - 1) / tile * tile;
    struct hopper_mixer *hopper = calloc(1, sizeof *hopper);
    if (hopper == NULL) return FAIL(NO_MEMORY, "layers");
    hopper->backend = backend;
    hopper->shape = *shape;
    hopper->residual_parts = gemm_tiles(shape->hidden);
    hopper->raw_columns = shape->d_inner + shape->conv_width;
    hopper->base = (struct mixer){.table = &hopper_mixer_table,
                                  .tile_tokens = tile,
                                  .window_rows = step_rows < WINDOW_ROWS ? step_rows : WINDOW_ROWS};
    hopper->base.window_tiles = hopper->base.window_rows / tile + SHORT_TILES;
    enum status status = STATUS_OK;
    const cudaError_t error = cudaDeviceGetAttribute(&hopper->multiprocessors,
                                                     cudaDevAttrMultiProcessorCount, cuda->device);
    if (error != cudaSuccess) {
        status = cuda_failed(error, "cudaDeviceGetAttribute", __FILE__, __LINE__);
    }
    if (status == STATUS_OK) status = make_room(hopper);
    if (status != STATUS_OK) {
        hopper_mixer_close(&hopper->base);
        return status;
    }
    // Other arithmetic than the operators': results say so.
    snprintf(backend->numerics, sizeof backend->numerics, "cuda bf16 fused v2 tile%d sm_90a",
             HOPPER_SCAN_TILE);
    *opened = &hopper->base;
    return STATUS_OK;
}
