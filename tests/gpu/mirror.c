#include "tests/gpu/mirror.h"

#include "ops/base/check.h"
#include "ops/op.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COPIES_MOST 256

// Host memory that an operator names, and its copy on the device.
struct copy {
    void *host, *device;
    size_t bytes;
    bool written;
};

struct mirror {
    struct backend base;
    struct backend *inner;
    struct copy copy[COPIES_MOST];
    int copies;
    enum status status; // of the first call that failed
};

static const struct plugin_host host = {
    .log_on = log_on, .log_write = log_write, .check_failed = check_failed};

const struct plugin *mirror_load(const char *path) {
    plugin_entry *entry = NULL;
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        printf("cannot load: %s\n", dlerror());
        return NULL;
    }
    void *symbol = dlsym(library, PLUGIN_SYMBOL);
    if (symbol == NULL) return NULL;
    memcpy(&entry, &symbol, sizeof entry);
    return entry(&host);
}

static struct mirror *mirror_of(struct backend *backend) {
    return (struct mirror *)(void *)backend;
}

struct backend *mirror_inner(struct backend *backend) {
    return mirror_of(backend)->inner;
}

static void note(struct mirror *mirror, enum status status) {
    if (mirror->status == STATUS_OK) mirror->status = status;
}

// The same memory named twice has one copy.
static void *carry(struct mirror *mirror, const void *from, size_t bytes, bool written) {
    struct backend *inner = mirror->inner;
    if (from == NULL) return NULL;
    for (int i = 0; i < mirror->copies; i++) {
        struct copy *known = &mirror->copy[i];
        if (known->host != from || known->bytes != bytes) continue;
        known->written = known->written || written;
        return known->device;
    }
    CHECK(mirror->copies < COPIES_MOST);
    struct copy *copy = &mirror->copy[mirror->copies++];
    *copy = (struct copy){.host = (void *)(uintptr_t)from, .bytes = bytes, .written = written};
    note(mirror, inner->table->alloc(inner, bytes, &copy->device));
    if (mirror->status == STATUS_OK) {
        note(mirror, inner->table->upload(inner, copy->device, from, bytes));
    }
    return copy->device;
}

static enum status bring_back(struct mirror *mirror, enum status status) {
    struct backend *inner = mirror->inner;
    note(mirror, status);
    for (int i = 0; i < mirror->copies; i++) {
        const struct copy *copy = &mirror->copy[i];
        if (!copy->written || mirror->status != STATUS_OK) continue;
        note(mirror, inner->table->download(inner, copy->host, copy->device, copy->bytes));
    }
    note(mirror, inner->table->wait(inner));
    for (int i = 0; i < mirror->copies; i++) {
        inner->table->release(inner, mirror->copy[i].device);
    }
    const enum status result = mirror->status;
    mirror->copies = 0;
    mirror->status = STATUS_OK;
    return result;
}

static const float *floats(struct mirror *mirror, const float *data, int64_t count) {
    return carry(mirror, data, (size_t)count * sizeof *data, false);
}

// Up to the last row's last column: what lies behind may be nobody's.
static struct matrix matrix(struct mirror *mirror, struct matrix m, bool written) {
    if (m.data == NULL || m.rows == 0) return m;
    const int64_t count = (m.rows - 1) * m.stride + m.columns;
    m.data = carry(mirror, m.data, (size_t)count * sizeof *m.data, written);
    return m;
}

// part_bytes: of a layer's state, as much as the operator may touch.
static struct scan_batch batch(struct mirror *mirror, const struct scan_batch *from,
                               size_t part_bytes, bool states, struct scan_span *spans) {
    struct scan_batch to = *from;
    for (int64_t s = 0; s < from->spans; s++) {
        spans[s] = from->span[s];
        const size_t in = (size_t)(from->layer * spans[s].in_layer_bytes) + part_bytes;
        const size_t out = (size_t)(from->layer * spans[s].out_layer_bytes) + part_bytes;
        spans[s].state_in = carry(mirror, spans[s].state_in, in, false);
        spans[s].state_out = carry(mirror, spans[s].state_out, out, states);
    }
    to.tile = carry(mirror, from->tile, (size_t)from->tiles * sizeof *from->tile, false);
    to.span = carry(mirror, spans, (size_t)from->spans * sizeof *spans, false);
    return to;
}

#define SPANS_MOST 64

typedef enum status conv_slot(struct backend *backend, const struct conv_args *args);
typedef enum status scan_slot(struct backend *backend, const struct scan_args *args);

static enum status conv(struct backend *backend, const struct conv_args *args, conv_slot *slot,
                        bool tail) {
    struct mirror *mirror = mirror_of(backend);
    struct scan_span spans[SPANS_MOST];
    struct conv_args to = *args;
    const size_t bytes = (size_t)args->batch.conv_offset +
                         (size_t)((args->d_conv - 1) * args->in.columns) * sizeof(float);
    CHECK(args->batch.spans <= SPANS_MOST);
    to.batch = batch(mirror, &args->batch, bytes, tail, spans);
    to.in = matrix(mirror, args->in, false);
    to.out = matrix(mirror, args->out, !tail);
    to.weight = floats(mirror, args->weight, args->in.columns * args->d_conv);
    to.bias = floats(mirror, args->bias, args->in.columns);
    return bring_back(mirror, slot(mirror->inner, &to));
}

static enum status scan(struct backend *backend, const struct scan_args *args, scan_slot *slot) {
    struct mirror *mirror = mirror_of(backend);
    struct scan_span spans[SPANS_MOST];
    struct scan_args to = *args;
    const struct scan_shape *shape = &args->shape;
    const int64_t state = shape->heads * shape->d_state * shape->head_dim;
    const int64_t square = backend->tile_tokens * backend->tile_tokens;
    CHECK(args->batch.spans <= SPANS_MOST);
    to.batch = batch(mirror, &args->batch, (size_t)state * sizeof(float), true, spans);
    to.xbc = matrix(mirror, args->xbc, false);
    to.dt = matrix(mirror, args->dt, false);
    to.cumsum = matrix(mirror, args->cumsum, true);
    to.y = matrix(mirror, args->y, true);
    to.a = floats(mirror, args->a, shape->heads);
    to.d = floats(mirror, args->d, shape->heads);
    to.states =
        carry(mirror, args->states, (size_t)(args->batch.tiles * state) * sizeof(float), true);
    to.cb = carry(mirror, args->cb,
                  (size_t)(args->batch.tiles * shape->groups * square) * sizeof(float), true);
    return bring_back(mirror, slot(mirror->inner, &to));
}

static enum status mirror_embedding(struct backend *backend, const struct embedding_args *args) {
    struct mirror *mirror = mirror_of(backend);
    const struct embedding_args to = {
        .token = carry(mirror, args->token, (size_t)args->out.rows * sizeof *args->token, false),
        .weight = matrix(mirror, args->weight, false),
        .out = matrix(mirror, args->out, true),
    };
    return bring_back(mirror, op_embedding(mirror->inner, &to));
}

static enum status mirror_rms_norm(struct backend *backend, const struct rms_norm_args *args) {
    struct mirror *mirror = mirror_of(backend);
    struct rms_norm_args to = *args;
    to.out = matrix(mirror, args->out, true);
    to.in = matrix(mirror, args->in, false);
    to.weight = floats(mirror, args->weight, args->in.columns);
    return bring_back(mirror, op_rms_norm(mirror->inner, &to));
}

static enum status mirror_linear(struct backend *backend, const struct linear_args *args) {
    struct mirror *mirror = mirror_of(backend);
    struct linear_args to = *args;
    to.in = matrix(mirror, args->in, false);
    to.out = matrix(mirror, args->out, true);
    to.bias = floats(mirror, args->bias, args->out.columns);
    return bring_back(mirror, op_linear(mirror->inner, &to));
}

static enum status mirror_dt(struct backend *backend, const struct dt_args *args) {
    struct mirror *mirror = mirror_of(backend);
    struct dt_args to = *args;
    to.in = matrix(mirror, args->in, false);
    to.out = matrix(mirror, args->out, true);
    to.bias = floats(mirror, args->bias, args->in.columns);
    return bring_back(mirror, op_dt(mirror->inner, &to));
}

static enum status mirror_gated_norm(struct backend *backend, const struct gated_norm_args *args) {
    struct mirror *mirror = mirror_of(backend);
    struct gated_norm_args to = *args;
    to.out = matrix(mirror, args->out, true);
    to.y = matrix(mirror, args->y, false);
    to.z = matrix(mirror, args->z, false);
    to.weight = floats(mirror, args->weight, args->y.columns);
    return bring_back(mirror, op_gated_norm(mirror->inner, &to));
}

static enum status mirror_head(struct backend *backend, const struct head_args *args) {
    struct mirror *mirror = mirror_of(backend);
    const size_t rows = (size_t)args->in.rows;
    struct head_args to = *args;
    to.in = matrix(mirror, args->in, false);
    to.target = carry(mirror, args->target, rows * sizeof *args->target, false);
    to.nll = carry(mirror, args->nll, rows * sizeof *args->nll, true);
    return bring_back(mirror, op_head(mirror->inner, &to));
}

static enum status mirror_best(struct backend *backend, const struct best_args *args) {
    struct mirror *mirror = mirror_of(backend);
    const size_t rows = (size_t)args->logits.rows;
    const struct best_args to = {
        .logits = matrix(mirror, args->logits, false),
        .target = carry(mirror, args->target, rows * sizeof *args->target, false),
        .best = carry(mirror, args->best, rows * sizeof *args->best, true),
    };
    return bring_back(mirror, op_best(mirror->inner, &to));
}

static enum status mirror_conv_tail(struct backend *backend, const struct conv_args *args) {
    return conv(backend, args, op_conv_tail, true);
}

static enum status mirror_causal_conv(struct backend *backend, const struct conv_args *args) {
    return conv(backend, args, op_causal_conv, false);
}

static enum status mirror_chunk_cumsum(struct backend *backend, const struct scan_args *args) {
    return scan(backend, args, op_chunk_cumsum);
}

static enum status mirror_chunk_cb(struct backend *backend, const struct scan_args *args) {
    return scan(backend, args, op_chunk_cb);
}

static enum status mirror_chunk_state(struct backend *backend, const struct scan_args *args) {
    return scan(backend, args, op_chunk_state);
}

static enum status mirror_state_passing(struct backend *backend, const struct scan_args *args) {
    return scan(backend, args, op_state_passing);
}

static enum status mirror_chunk_scan(struct backend *backend, const struct scan_args *args) {
    return scan(backend, args, op_chunk_scan);
}

static enum status mirror_pack(struct backend *backend, const float *weight, int64_t outputs,
                               int64_t inputs, struct packed_weight **packed) {
    struct backend *inner = mirror_inner(backend);
    return inner->table->pack(inner, weight, outputs, inputs, packed);
}

static void mirror_release_packed(struct backend *backend, struct packed_weight *packed) {
    struct backend *inner = mirror_inner(backend);
    inner->table->release_packed(inner, packed);
}

static enum status mirror_wait(struct backend *backend) {
    struct backend *inner = mirror_inner(backend);
    return inner->table->wait(inner);
}

static void mirror_close(struct backend *backend) {
    struct backend *inner = mirror_inner(backend);
    inner->table->close(inner);
    free(mirror_of(backend));
}

static const struct backend_table mirror_table = {
    .name = "mirror",
    .wait = mirror_wait,
    .close = mirror_close,
    .pack = mirror_pack,
    .release_packed = mirror_release_packed,
    .embedding = mirror_embedding,
    .rms_norm = mirror_rms_norm,
    .linear = mirror_linear,
    .conv_tail = mirror_conv_tail,
    .causal_conv = mirror_causal_conv,
    .dt = mirror_dt,
    .chunk_cumsum = mirror_chunk_cumsum,
    .chunk_cb = mirror_chunk_cb,
    .chunk_state = mirror_chunk_state,
    .state_passing = mirror_state_passing,
    .chunk_scan = mirror_chunk_scan,
    .gated_norm = mirror_gated_norm,
    .head = mirror_head,
    .best = mirror_best,
};

enum status mirror_open(const struct plugin *plugin, enum plugin_dtype dtype, int64_t window_tokens,
                        struct backend **opened) {
    const struct plugin_settings settings = {.dtype = dtype, .window_tokens = window_tokens};
    struct mirror *mirror = calloc(1, sizeof *mirror);
    if (mirror == NULL) return FAIL(NO_MEMORY, "mirror");
    const enum status status = plugin->open(&settings, &mirror->inner);
    if (status != STATUS_OK) {
        free(mirror);
        return status;
    }
    mirror->base = *mirror->inner;
    mirror->base.table = &mirror_table;
    *opened = &mirror->base;
    return STATUS_OK;
}
