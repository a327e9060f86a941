#include "ops/op.h"

#include "ops/base/check.h"

static void check_matrix(const struct matrix *matrix, int64_t rows, int64_t columns) {
    CHECK(matrix->data != NULL);
    CHECK(matrix->rows == rows && rows >= 0);
    CHECK(matrix->columns == columns && columns > 0);
    CHECK(matrix->stride >= columns);
}

enum status op_embedding(struct backend *backend, const struct embedding_args *args) {
    const int64_t rows = args->out.rows;
    check_matrix(&args->weight, args->weight.rows, args->weight.columns);
    check_matrix(&args->out, rows, args->weight.columns);
    CHECK(args->token != NULL);
    return rows == 0 ? STATUS_OK : backend->table->embedding(backend, args);
}

enum status op_rms_norm(struct backend *backend, const struct rms_norm_args *args) {
    check_matrix(&args->in, args->in.rows, args->in.columns);
    check_matrix(&args->out, args->in.rows, args->in.columns);
    CHECK(args->weight != NULL);
    CHECK(args->epsilon >= 0.0f);
    return args->in.rows == 0 ? STATUS_OK : backend->table->rms_norm(backend, args);
}

// What the packed weight holds only its backend knows, so that its shape is checked there.
enum status op_linear(struct backend *backend, const struct linear_args *args) {
    check_matrix(&args->in, args->in.rows, args->in.columns);
    check_matrix(&args->out, args->in.rows, args->out.columns);
    CHECK(args->weight != NULL);
    CHECK(args->in.data != args->out.data);
    return args->in.rows == 0 ? STATUS_OK : backend->table->linear(backend, args);
}

static void check_batch(const struct backend *backend, const struct scan_batch *batch) {
    CHECK(backend->tile_tokens > 0 && CHUNK_TOKENS % backend->tile_tokens == 0);
    CHECK(batch->rows >= 0 && batch->tiles >= 0 && batch->spans >= 0);
    CHECK(batch->tiles <= batch->rows && batch->spans <= batch->tiles);
    CHECK(batch->rows <= batch->tiles * backend->tile_tokens);
    CHECK(batch->rows == 0 || (batch->tile != NULL && batch->span != NULL));
    CHECK(batch->layer >= 0 && batch->conv_offset >= 0);
}

static void check_conv(const struct backend *backend, const struct conv_args *args) {
    check_batch(backend, &args->batch);
    check_matrix(&args->in, args->batch.rows, args->in.columns);
    CHECK(args->d_conv >= 1);
}

enum status op_conv_tail(struct backend *backend, const struct conv_args *args) {
    check_conv(backend, args);
    return args->batch.rows == 0 ? STATUS_OK : backend->table->conv_tail(backend, args);
}

enum status op_causal_conv(struct backend *backend, const struct conv_args *args) {
    check_conv(backend, args);
    check_matrix(&args->out, args->batch.rows, args->in.columns);
    CHECK(args->weight != NULL);
    CHECK(args->in.data != args->out.data);
    return args->batch.rows == 0 ? STATUS_OK : backend->table->causal_conv(backend, args);
}

enum status op_dt(struct backend *backend, const struct dt_args *args) {
    check_matrix(&args->in, args->in.rows, args->in.columns);
    check_matrix(&args->out, args->in.rows, args->in.columns);
    CHECK(args->bias != NULL);
    CHECK(args->least <= args->most);
    return args->in.rows == 0 ? STATUS_OK : backend->table->dt(backend, args);
}

static void check_scan(const struct backend *backend, const struct scan_args *args) {
    const struct scan_shape *shape = &args->shape;
    check_batch(backend, &args->batch);
    CHECK(shape->heads > 0 && shape->head_dim > 0 && shape->d_state > 0 && shape->groups > 0);
    CHECK(shape->heads % shape->groups == 0);
}

static void check_xbc(const struct scan_args *args) {
    const struct scan_shape *shape = &args->shape;
    check_matrix(&args->xbc, args->batch.rows,
                 shape->heads * shape->head_dim + 2 * shape->groups * shape->d_state);
}

static void check_decay(const struct scan_args *args) {
    check_matrix(&args->dt, args->batch.rows, args->shape.heads);
    check_matrix(&args->cumsum, args->batch.rows, args->shape.heads);
}

enum status op_chunk_cumsum(struct backend *backend, const struct scan_args *args) {
    check_scan(backend, args);
    check_decay(args);
    CHECK(args->a != NULL);
    return args->batch.rows == 0 ? STATUS_OK : backend->table->chunk_cumsum(backend, args);
}

enum status op_chunk_cb(struct backend *backend, const struct scan_args *args) {
    check_scan(backend, args);
    check_xbc(args);
    CHECK(args->cb != NULL);
    return args->batch.rows == 0 ? STATUS_OK : backend->table->chunk_cb(backend, args);
}

enum status op_chunk_state(struct backend *backend, const struct scan_args *args) {
    check_scan(backend, args);
    check_xbc(args);
    check_decay(args);
    CHECK(args->states != NULL);
    return args->batch.rows == 0 ? STATUS_OK : backend->table->chunk_state(backend, args);
}

enum status op_state_passing(struct backend *backend, const struct scan_args *args) {
    check_scan(backend, args);
    check_matrix(&args->cumsum, args->batch.rows, args->shape.heads);
    CHECK(args->states != NULL);
    return args->batch.rows == 0 ? STATUS_OK : backend->table->state_passing(backend, args);
}

enum status op_chunk_scan(struct backend *backend, const struct scan_args *args) {
    check_scan(backend, args);
    check_xbc(args);
    check_decay(args);
    check_matrix(&args->y, args->batch.rows, args->shape.heads * args->shape.head_dim);
    CHECK(args->states != NULL && args->cb != NULL && args->d != NULL);
    return args->batch.rows == 0 ? STATUS_OK : backend->table->chunk_scan(backend, args);
}

enum status op_gated_norm(struct backend *backend, const struct gated_norm_args *args) {
    check_matrix(&args->y, args->y.rows, args->y.columns);
    check_matrix(&args->z, args->y.rows, args->y.columns);
    check_matrix(&args->out, args->y.rows, args->y.columns);
    CHECK(args->weight != NULL);
    CHECK(args->groups > 0 && args->y.columns % args->groups == 0);
    CHECK(args->epsilon >= 0.0f);
    return args->y.rows == 0 ? STATUS_OK : backend->table->gated_norm(backend, args);
}

enum status op_head(struct backend *backend, const struct head_args *args) {
    check_matrix(&args->in, args->in.rows, args->in.columns);
    CHECK(args->in.rows <= INT32_MAX);
    CHECK(args->weight != NULL && args->target != NULL && args->nll != NULL);
    return args->in.rows == 0 ? STATUS_OK : backend->table->head(backend, args);
}

enum status op_best(struct backend *backend, const struct best_args *args) {
    check_matrix(&args->logits, args->logits.rows, args->logits.columns);
    CHECK(args->logits.rows <= INT32_MAX && args->logits.columns <= INT32_MAX);
    CHECK(args->target != NULL && args->best != NULL);
    return args->logits.rows == 0 ? STATUS_OK : backend->table->best(backend, args);
}
