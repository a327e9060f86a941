#pragma once
// A place where operators run: memory, a queue, and one slot an operator. ops/cpu implements it,
// cuda/ implements it as a plug-in, tests wrap it. Nothing here knows of ranks or documents.
//
// The queue: every operator, upload, download and call is queued and returns before it is done;
// they run in the order queued. wait() ends when all are done. An implementation may run at once
// (ops/cpu does); callers must not count on it, and tests/queue_backend.c makes sure.

#include "ops/base/linkage.h"
#include "ops/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

C_BEGIN

struct backend;
struct mixer;
struct mixer_shape;
struct transport;
struct transport_id;
struct transport_settings;

// Dense numbers in the backend's memory, `stride` elements from row to row. f32 on the CPU, whatever
// its products round them to.
struct matrix {
    float *data;
    int64_t rows, columns, stride;
};

// A weight matrix [outputs, inputs] in the order this backend's `linear` reads. Opaque.
struct packed_weight;

// The shape of one Mamba-2 scan. d_inner = heads * head_dim; conv_width = d_inner + 2 groups d_state.
struct scan_shape {
    int64_t heads, head_dim, d_state, groups;
};

// The chunk table: how a batch of ragged spans lies in its rows. In backend memory.
// A tile is up to backend->tile_tokens consecutive tokens of one span, anchored at the span's
// first token, so only a span's last is short. Tiles are in the order of their rows. Where a span begins off the document's tile borders, its
// sums are in another order than the whole document's.
struct scan_tile {
    int64_t row;
    int32_t rows;
    int32_t span;
};

// Where a span's state comes from and goes to. A layer's state is one block of bytes, the SSM
// state [heads, d_state, head_dim] f32, then the convolution's last d_conv - 1 inputs
// [d_conv - 1, conv_width] f32, oldest first. Layer l lies l * *_layer_bytes behind the pointer.
// state_in NULL: the document starts here, all zero. state_out NULL: nobody needs it.
// They may be the same memory for the SSM part; the convolution parts never overlap.
struct scan_span {
    int64_t row, rows;
    int64_t first_tile, tiles;
    const char *state_in;
    char *state_out;
    int64_t in_layer_bytes, out_layer_bytes;
};

struct scan_batch {
    int64_t rows, tiles, spans;
    const struct scan_tile *tile; // [tiles], backend memory
    const struct scan_span *span; // [spans], backend memory
    int32_t layer;
    int64_t conv_offset; // bytes from a layer's state to its convolution part
};

// Arguments, one struct an operator; what each computes is said in ops/op.h. Copied when queued.
struct embedding_args {
    const int32_t *token; // [rows], backend memory, checked to be in the vocabulary
    struct matrix weight; // [vocab, d_model]
    struct matrix out;    // [rows, d_model]
};
struct rms_norm_args {
    struct matrix in, out; // [rows, d_model]
    const float *weight;   // [d_model]
    float epsilon;
};
struct linear_args {
    struct matrix in; // [rows, inputs]
    const struct packed_weight *weight;
    const float *bias; // [outputs] or NULL
    struct matrix out; // [rows, outputs]
    bool add;          // out += instead of out =
};
struct conv_args {
    struct scan_batch batch;
    struct matrix in;    // [rows, conv_width], raw, a slice of in_proj's output
    struct matrix out;   // [rows, conv_width]; not read or written by conv_tail
    const float *weight; // [conv_width, d_conv]
    const float *bias;   // [conv_width] or NULL
    int64_t d_conv;
};
struct dt_args {
    struct matrix in, out; // [rows, heads]
    const float *bias;     // [heads]
    float least, most;
};
struct scan_args {
    struct scan_batch batch;
    struct scan_shape shape;
    struct matrix xbc;    // [rows, conv_width]: x, then B, then C
    struct matrix dt;     // [rows, heads]
    struct matrix cumsum; // [rows, heads]: inclusive sum of dt * A inside the tile
    const float *a;       // [heads], negative
    const float *d;       // [heads]
    float *states;        // [tiles, heads, d_state, head_dim]
    float *cb;            // [tiles, groups, tile_tokens, tile_tokens]
    struct matrix y;      // [rows, d_inner]
};
struct gated_norm_args {
    struct matrix y, z, out; // [rows, d_inner]
    const float *weight;     // [d_inner]
    int64_t groups;
    float epsilon;
    bool norm_before_gate;
};
struct head_args {
    struct matrix in; // [rows, d_model], after the final norm
    const struct packed_weight *weight;
    const int32_t *target; // [rows], backend memory; -1: this row predicts nothing, nll = 0
    float *nll;            // [rows], nats
};

// What a row of logits says the next token is.
struct best_token {
    int32_t token; // of the greatest logit; the lowest id of equal ones
    float margin;  // the target's logit less the greatest of any other token; NaN: no target
};
struct best_args {
    struct matrix logits;    // [rows, vocab]
    const int32_t *target;   // [rows], backend memory; -1: none
    struct best_token *best; // [rows], backend memory
};

// The pipeline's worker has the first marks, one a step under way; the model the others, one a step whose
// tables are under way.
#define MODEL_MARK    2
#define BACKEND_MARKS 4

// What this machine can do at most, as measured. 0: could not be measured.
struct ceilings {
    double copy_bytes;    // a second, read and written, between places of the backend's memory
    double product_flops; // a second, of a large matrix product in the backend's arithmetic
    double rest_flops;    // the same for what is not a product with weights; 0: product_flops
    char copy[64], product[64]; // what was measured
};

struct backend_table {
    const char *name;
    bool host_memory; // what alloc gives the host can use too, and so can a network card

    // Memory of the backend, zeroed, aligned to 64 bytes. Errors: NO_MEMORY, PEER (device lost).
    enum status (*alloc)(struct backend *backend, size_t bytes, void **memory);
    // Bytes that alloc could give now; others may take them meanwhile. NULL: it has no memory of its own.
    enum status (*memory_left)(struct backend *backend, size_t *bytes);
    // Accepts NULL. Nothing queued may use the memory any more.
    void (*release)(struct backend *backend, void *memory);
    // Weights that are only read, from host memory into the backend's; queued as upload is, released as
    // what alloc gave. May be one copy for several ranks. NULL: alloc and upload serve as well.
    // Errors: NO_MEMORY, PEER.
    enum status (*keep)(struct backend *backend, const void *values, size_t bytes, void **memory);
    // Host memory that uploads and downloads are fastest with, zeroed. Errors: NO_MEMORY.
    enum status (*host_alloc)(struct backend *backend, size_t bytes, void **memory);
    void (*host_release)(struct backend *backend, void *memory); // accepts NULL
    // Queued. Host memory must stay as it is until the queue has passed here.
    enum status (*upload)(struct backend *backend, void *to, const void *host, size_t bytes);
    enum status (*download)(struct backend *backend, void *host, const void *from, size_t bytes);
    // Queued: run function(argument) on the host when the queue comes here. It may block.
    enum status (*call)(struct backend *backend, void (*function)(void *), void *argument);
    // Until all that is queued is done. Errors: PEER.
    enum status (*wait)(struct backend *backend);
    // Queued: mark `which` (below BACKEND_MARKS) is here now, and nowhere before.
    enum status (*mark)(struct backend *backend, int32_t which);
    // Has the queue come to the mark, or was none set? Never waits. Errors: PEER.
    enum status (*reached)(struct backend *backend, int32_t which, bool *reached);
    void (*close)(struct backend *backend);

    // Weights [outputs, inputs], row major f32 in host memory, into this backend's order. At start.
    enum status (*pack)(struct backend *backend, const float *weight, int64_t outputs,
                        int64_t inputs, struct packed_weight **packed);
    void (*release_packed)(struct backend *backend, struct packed_weight *packed);

    enum status (*embedding)(struct backend *backend, const struct embedding_args *args);
    enum status (*rms_norm)(struct backend *backend, const struct rms_norm_args *args);
    enum status (*linear)(struct backend *backend, const struct linear_args *args);
    enum status (*conv_tail)(struct backend *backend, const struct conv_args *args);
    enum status (*causal_conv)(struct backend *backend, const struct conv_args *args);
    enum status (*dt)(struct backend *backend, const struct dt_args *args);
    enum status (*chunk_cumsum)(struct backend *backend, const struct scan_args *args);
    enum status (*chunk_cb)(struct backend *backend, const struct scan_args *args);
    enum status (*chunk_state)(struct backend *backend, const struct scan_args *args);
    enum status (*state_passing)(struct backend *backend, const struct scan_args *args);
    enum status (*chunk_scan)(struct backend *backend, const struct scan_args *args);
    enum status (*gated_norm)(struct backend *backend, const struct gated_norm_args *args);
    enum status (*head)(struct backend *backend, const struct head_args *args);
    enum status (*best)(struct backend *backend, const struct best_args *args);

    // The backend's own way through a layer (ops/mixer.h), which may change `numerics`, or *opened =
    // NULL: not for this shape. The slot may be NULL: it has none.
    enum status (*mixer_open)(struct backend *backend, const struct mixer_shape *shape,
                              struct mixer **opened);

    // The backend's own way from rank to rank (ops/transport.h); both slots may be NULL: it has none.
    // identify never fails but for a lost device, and says why where it cannot. open is collective.
    // Errors: PEER, NO_MEMORY.
    enum status (*transport_identify)(struct backend *backend, int32_t rank, int32_t ranks,
                                      struct transport_id *id);
    enum status (*transport_open)(struct backend *backend,
                                  const struct transport_settings *settings,
                                  struct transport **opened);

    // For measuring, NULL where there is none (an operator that runs at once can be timed outside).
    // Queued: the time when the queue comes here becomes mark `index`, counted from 0.
    enum status (*mark_time)(struct backend *backend, int64_t index);
    // After wait: seconds[i] lie between the marks i and i + 1, for i < count - 1.
    enum status (*read_marks)(struct backend *backend, int64_t count, double *seconds);
    // Takes a second or two, and memory for as long. Nothing else may be queued.
    enum status (*ceilings)(struct backend *backend, struct ceilings *ceilings);
};

// An implementation's struct begins with this.
struct backend {
    const struct backend_table *table;
    int64_t tile_tokens;   // 64 on the CPU; divides CHUNK_TOKENS
    int64_t window_tokens; // rows the model works at a time, a multiple of tile_tokens
    char numerics[128];    // names the arithmetic: equal text, equal bits
};

// Backend memory for rows * columns elements of `element` bytes, zeroed. Errors: NO_MEMORY, PEER.
static inline enum status backend_room(struct backend *backend, int64_t rows, int64_t columns,
                                       size_t element, void **memory) {
    int64_t count;
    size_t bytes;
    if (__builtin_mul_overflow(rows, columns, &count) ||
        __builtin_mul_overflow((size_t)count, element, &bytes)) {
        return FAIL(NO_MEMORY, "a buffer of %lld rows of %lld elements: fewer --step-tokens fit",
                    (long long)rows, (long long)columns);
    }
    return backend->table->alloc(backend, bytes, memory);
}

// The unit of cuts, hand-over and snapshots, a constant of the format on every backend.
#define CHUNK_TOKENS 1024

C_END
