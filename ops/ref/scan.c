// References of the scan: the recurrence token by token, and the five stages by their formulas.
#include "ops/ref/ref.h"

#include <math.h>
#include <stdlib.h>

// Where one head of one row lies in x | B | C.
struct head_row {
    const float *x; // [head_dim]
    const float *b; // [d_state]
    const float *c; // [d_state]
};

static struct head_row head_row_of(const struct scan_args *args, int64_t row, int64_t head) {
    const struct scan_shape *shape = &args->shape;
    const float *xbc = args->xbc.data + row * args->xbc.stride;
    const float *b = xbc + shape->heads * shape->head_dim;
    const int64_t group = head / (shape->heads / shape->groups);
    return (struct head_row){
        .x = xbc + head * shape->head_dim,
        .b = b + group * shape->d_state,
        .c = b + (shape->groups + group) * shape->d_state,
    };
}

static double at(const struct matrix *m, int64_t row, int64_t column) {
    return (double)m->data[row * m->stride + column];
}

// One head's state on the way in; NULL where the document starts.
static const float *state_in_of(const struct scan_args *args, const struct scan_span *span,
                                int64_t head) {
    if (span->state_in == NULL) return NULL;
    const char *layer = span->state_in + args->batch.layer * span->in_layer_bytes;
    return (const float *)(const void *)layer + head * args->shape.d_state * args->shape.head_dim;
}

static float *state_out_of(const struct scan_args *args, const struct scan_span *span,
                           int64_t head) {
    if (span->state_out == NULL) return NULL;
    char *layer = span->state_out + args->batch.layer * span->out_layer_bytes;
    return (float *)(void *)layer + head * args->shape.d_state * args->shape.head_dim;
}

static void scan_row(const struct scan_args *args, int64_t row, int64_t head, double *h) {
    const struct scan_shape *shape = &args->shape;
    const struct head_row in = head_row_of(args, row, head);
    const double dt = at(&args->dt, row, head);
    const double decay = exp(dt * (double)args->a[head]);
    float *y = args->y.data + row * args->y.stride + head * shape->head_dim;
    for (int64_t p = 0; p < shape->head_dim; p++) {
        double sum = 0.0;
        for (int64_t n = 0; n < shape->d_state; n++) {
            double *state = &h[n * shape->head_dim + p];
            *state = decay * *state + dt * (double)in.b[n] * (double)in.x[p];
            sum += (double)in.c[n] * *state;
        }
        y[p] = (float)(sum + (double)args->d[head] * (double)in.x[p]);
    }
}

enum status ref_scan(const struct scan_args *args) {
    const int64_t count = args->shape.d_state * args->shape.head_dim;
    double *h = calloc((size_t)count, sizeof *h);
    if (h == NULL)
        return FAIL(NO_MEMORY, "reference scan: state of %lld doubles", (long long)count);
    for (int64_t s = 0; s < args->batch.spans; s++) {
        const struct scan_span *span = &args->batch.span[s];
        for (int64_t head = 0; head < args->shape.heads; head++) {
            const float *in = state_in_of(args, span, head);
            float *out = state_out_of(args, span, head);
            for (int64_t i = 0; i < count; i++) {
                h[i] = in == NULL ? 0.0 : (double)in[i];
            }
            for (int64_t t = 0; t < span->rows; t++) {
                scan_row(args, span->row + t, head, h);
            }
            for (int64_t i = 0; out != NULL && i < count; i++) {
                out[i] = (float)h[i];
            }
        }
    }
    free(h);
    return STATUS_OK;
}

void ref_chunk_cumsum(const struct scan_args *args) {
    for (int64_t c = 0; c < args->batch.tiles; c++) {
        const struct scan_tile *tile = &args->batch.tile[c];
        for (int64_t head = 0; head < args->shape.heads; head++) {
            double sum = 0.0;
            for (int64_t i = tile->row; i < tile->row + tile->rows; i++) {
                sum += at(&args->dt, i, head) * (double)args->a[head];
                args->cumsum.data[i * args->cumsum.stride + head] = (float)sum;
            }
        }
    }
}

void ref_chunk_cb(const struct scan_args *args, int64_t tile_tokens) {
    const struct scan_shape *shape = &args->shape;
    for (int64_t c = 0; c < args->batch.tiles; c++) {
        const struct scan_tile *tile = &args->batch.tile[c];
        for (int64_t g = 0; g < shape->groups; g++) {
            const int64_t head = g * (shape->heads / shape->groups);
            float *cb = args->cb + (c * shape->groups + g) * tile_tokens * tile_tokens;
            for (int64_t i = 0; i < tile->rows; i++) {
                for (int64_t j = 0; j <= i; j++) {
                    const float *row_c = head_row_of(args, tile->row + i, head).c;
                    const float *row_b = head_row_of(args, tile->row + j, head).b;
                    double sum = 0.0;
                    for (int64_t n = 0; n < shape->d_state; n++) {
                        sum += (double)row_c[n] * (double)row_b[n];
                    }
                    cb[i * tile_tokens + j] = (float)sum;
                }
            }
        }
    }
}

static float *tile_state(const struct scan_args *args, int64_t tile, int64_t head) {
    const struct scan_shape *shape = &args->shape;
    return args->states + (tile * shape->heads + head) * shape->d_state * shape->head_dim;
}

void ref_chunk_state(const struct scan_args *args) {
    const struct scan_shape *shape = &args->shape;
    for (int64_t k = 0; k < args->batch.tiles * shape->heads; k++) {
        const int64_t head = k % shape->heads;
        const struct scan_tile *tile = &args->batch.tile[k / shape->heads];
        const double last = at(&args->cumsum, tile->row + tile->rows - 1, head);
        float *state = tile_state(args, k / shape->heads, head);
        for (int64_t np = 0; np < shape->d_state * shape->head_dim; np++) {
            double sum = 0.0;
            for (int64_t i = tile->row; i < tile->row + tile->rows; i++) {
                const struct head_row in = head_row_of(args, i, head);
                sum += exp(last - at(&args->cumsum, i, head)) * at(&args->dt, i, head) *
                       (double)in.b[np / shape->head_dim] * (double)in.x[np % shape->head_dim];
            }
            state[np] = (float)sum;
        }
    }
}

void ref_state_passing(const struct scan_args *args) {
    const int64_t count = args->shape.d_state * args->shape.head_dim;
    for (int64_t k = 0; k < args->batch.spans * args->shape.heads; k++) {
        const int64_t head = k % args->shape.heads;
        const struct scan_span *span = &args->batch.span[k / args->shape.heads];
        const float *in = state_in_of(args, span, head);
        float *out = state_out_of(args, span, head);
        for (int64_t i = 0; i < count; i++) {
            double h = in == NULL ? 0.0 : (double)in[i];
            for (int64_t c = span->first_tile; c < span->first_tile + span->tiles; c++) {
                const struct scan_tile *tile = &args->batch.tile[c];
                const double last = at(&args->cumsum, tile->row + tile->rows - 1, head);
                float *state = tile_state(args, c, head);
                const double own = (double)state[i];
                state[i] = (float)h;
                h = exp(last) * h + own;
            }
            if (out != NULL) out[i] = (float)h;
        }
    }
}

static void chunk_scan_row(const struct scan_args *args, int64_t tile_tokens, int64_t c,
                           int64_t head, int64_t i) {
    const struct scan_shape *shape = &args->shape;
    const struct scan_tile *tile = &args->batch.tile[c];
    const int64_t group = head / (shape->heads / shape->groups);
    const struct head_row in = head_row_of(args, tile->row + i, head);
    const float *state = tile_state(args, c, head);
    const float *cb = args->cb + ((c * shape->groups + group) * tile_tokens + i) * tile_tokens;
    const double s_i = at(&args->cumsum, tile->row + i, head);
    float *y = args->y.data + (tile->row + i) * args->y.stride + head * shape->head_dim;
    for (int64_t p = 0; p < shape->head_dim; p++) {
        double carried = 0.0;
        for (int64_t n = 0; n < shape->d_state; n++) {
            carried += (double)in.c[n] * (double)state[n * shape->head_dim + p];
        }
        double sum = exp(s_i) * carried + (double)args->d[head] * (double)in.x[p];
        for (int64_t j = 0; j <= i; j++) {
            const double s_j = at(&args->cumsum, tile->row + j, head);
            sum += (double)cb[j] * exp(s_i - s_j) * at(&args->dt, tile->row + j, head) *
                   (double)head_row_of(args, tile->row + j, head).x[p];
        }
        y[p] = (float)sum;
    }
}

void ref_chunk_scan(const struct scan_args *args, int64_t tile_tokens) {
    for (int64_t c = 0; c < args->batch.tiles; c++) {
        for (int64_t head = 0; head < args->shape.heads; head++) {
            for (int64_t i = 0; i < args->batch.tile[c].rows; i++) {
                chunk_scan_row(args, tile_tokens, c, head, i);
            }
        }
    }
}
