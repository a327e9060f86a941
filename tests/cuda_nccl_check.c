// States between GPUs over NCCL, for mpirun with a rank a GPU:
//
//   cuda_nccl_check hops                 latency of a hop, by size, on an idle and on a busy device
//   cuda_nccl_check ring STEPS LAYERS    the line and the moves that close it, every state looked at
//   cuda_nccl_check staged STEPS LAYERS  the same through host memory; the ranks may share a GPU
//   cuda_nccl_check silent               rank 1 stands still like a machine that lost its power: 142
//   cuda_nccl_check late                 rank 1 lives but sends nothing: 142
//
// Without two devices it says so and leaves with 77.

#include "cuda/plugin.h"
#include "ops/base/check.h"
#include "ops/base/clock.h"
#include "ops/op.h"
#include "pipeline/mpi_link.h"
#include "pipeline/transports.h"

#include <dlfcn.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SKIPPED 77

enum {
    DEADLINE_MS = 3000,
    LAYERS_MOST = 64,
    TAG_BYTES = 64,
    BATCHES = TRANSPORT_BATCHES,
    SLOTS = 3
};
enum { BUSY_ROWS = 1 << 16, BUSY_COLUMNS = 1024 };

static const struct plugin_host host = {
    .log_on = log_on, .log_write = log_write, .check_failed = check_failed};

struct check {
    const struct plugin *plugin;
    struct link *world;
    int32_t device;
    bool staged;                    // through host memory
    struct backend *backend, *busy; // busy: another queue of the same device, with work in it
    struct comm *comm;
    struct transport *transport;
    void *busy_rows, *busy_weight;
};

#define MUST(call)                                     \
    do {                                               \
        const enum status must_ = (call);              \
        if (must_ != STATUS_OK) fail(c, must_, #call); \
    } while (0)

__attribute__((noreturn)) static void fail(struct check *c, enum status status, const char *what) {
    printf("rank %d: %s: %s\n", c->world->rank, what, status_text(status));
    fflush(stdout);
    c->world->table->abort(c->world, status_exit_code(status));
    _exit(status_exit_code(status));
}

static const struct plugin *load(void) {
    plugin_entry *entry = NULL;
    char path[4096];
    const ssize_t bytes = readlink("/proc/self/exe", path, sizeof path - 64);
    if (bytes <= 0) return NULL;
    path[bytes] = '\0';
    memcpy(strrchr(path, '/') + 1, PLUGIN_FILE, sizeof PLUGIN_FILE);
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        printf("cannot load: %s\n", dlerror());
        return NULL;
    }
    void *symbol = dlsym(library, PLUGIN_SYMBOL);
    memcpy(&entry, &symbol, sizeof entry);
    return entry != NULL ? entry(&host) : NULL;
}

static bool peer_lost(void *context) {
    return comm_health(context) != STATUS_OK;
}

// Kernels of a few tenths of a millisecond that fill the device.
static void keep_busy(struct check *c, int64_t kernels) {
    const struct matrix rows = {c->busy_rows, BUSY_ROWS, BUSY_COLUMNS, BUSY_COLUMNS};
    const struct rms_norm_args args = {rows, rows, c->busy_weight, 1e-5f};
    for (int64_t i = 0; i < kernels; i++) {
        MUST(op_rms_norm(c->busy, &args));
    }
}

static void open_all(struct check *c) {
    struct transport_choice choice;
    const struct comm_settings talking = {.peer_timeout_ms = DEADLINE_MS};
    const struct plugin_settings settings = {.device = c->device};
    const int64_t begin_ms = clock_ms();
    MUST(c->plugin->open(&settings, &c->backend));
    MUST(c->plugin->open(&settings, &c->busy));
    MUST(transport_choose(c->world, c->backend, c->staged ? TRANSPORT_HOST : TRANSPORT_DIRECT,
                          60000, &choice));
    MUST(comm_open(c->world, &talking, &c->comm));
    const struct transport_settings direct = {.rank = c->world->rank,
                                              .ranks = c->world->ranks,
                                              .ids = choice.ids,
                                              .peer_timeout_ms = DEADLINE_MS,
                                              .lost = peer_lost,
                                              .context = c->comm};
    if (c->staged) {
        MUST(host_transport_open(c->comm, c->backend, &c->transport));
    } else {
        MUST(c->backend->table->transport_open(c->backend, &direct, &c->transport));
    }
    transport_choice_free(&choice);
    const size_t bytes = (size_t)BUSY_ROWS * BUSY_COLUMNS * sizeof(float);
    MUST(c->busy->table->alloc(c->busy, bytes, &c->busy_rows));
    MUST(c->busy->table->alloc(c->busy, BUSY_COLUMNS * sizeof(float), &c->busy_weight));
    keep_busy(c, 10); // a kernel's first launch may wait for the whole device
    MUST(c->busy->table->wait(c->busy));
    if (c->world->rank == 0) printf("open: %lld ms\n", (long long)(clock_ms() - begin_ms));
}

static void hold(void *argument) {
    atomic_int *go = argument;
    while (atomic_load(go) == 0) {
        nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
    }
}

struct hop_time {
    double us;      // a hop
    double host_us; // of the host, to queue a transfer
};

// There and back ROUNDS times, all queued before the first: there over the line, back as a move.
static struct hop_time time_hops(struct check *c, char *data, size_t bytes, bool busy) {
    enum { ROUNDS = 20 };
    const struct transport_table *t = c->transport->table;
    struct transfer *sent[ROUNDS], *received[ROUNDS];
    const int32_t rank = c->world->rank;
    atomic_int go = 0;
    MUST(c->backend->table->call(c->backend, hold, &go));
    const int64_t queue_ns = clock_ns();
    for (int32_t i = 0; i < ROUNDS; i++) {
        if (rank == 0) {
            MUST(t->send(c->transport, CHANNEL_LINE, 1, 0, data, bytes, &sent[i]));
            MUST(t->passed(c->transport, 0));
            MUST(t->receive(c->transport, CHANNEL_MOVES, 1, 0, data, bytes, &received[i]));
            MUST(t->flush(c->transport, 0));
            MUST(t->order(c->transport, received[i]));
        } else {
            MUST(t->receive(c->transport, CHANNEL_LINE, 0, 0, data, bytes, &received[i]));
            MUST(t->order(c->transport, received[i]));
            MUST(t->passed(c->transport, 0));
            MUST(t->send(c->transport, CHANNEL_MOVES, 0, 0, data, bytes, &sent[i]));
            MUST(t->flush(c->transport, 0));
        }
    }
    // both have queued: nothing but the hops is measured
    const double host_us = (double)(clock_ns() - queue_ns) / 1e3 / (2.0 * ROUNDS);
    struct message message = {
        .kind = MESSAGE_RESULT, .peer = 1 - rank, .bytes = 1, .data = calloc(1, 1)};
    MUST(comm_send(c->comm, &message));
    MUST(comm_next(c->comm, MESSAGE_RESULT, 10000, &message));
    free(message.data);
    if (busy) keep_busy(c, 400);
    if (busy) nanosleep(&(struct timespec){.tv_nsec = 3000000}, NULL);
    const int64_t begin_ns = clock_ns();
    atomic_store(&go, 1);
    MUST(c->backend->table->wait(c->backend));
    const double us = (double)(clock_ns() - begin_ns) / 1e3 / (2.0 * ROUNDS);
    for (int32_t i = 0; i < ROUNDS; i++) {
        MUST(t->finish(c->transport, &sent[i]));
        MUST(t->finish(c->transport, &received[i]));
    }
    MUST(c->busy->table->wait(c->busy));
    return (struct hop_time){us, host_us};
}

// The median of RUNS, then the least and the most.
static void hops(struct check *c) {
    enum { RUNS = 5 };
    static const size_t sizes[] = {4096, 27648, 1 << 20, 4 << 20, 48 << 20};
    const char *ctas = getenv("NCCL_MAX_CTAS");
    void *data = NULL;
    MUST(c->world->ranks == 2 ? STATUS_OK : STATUS_USAGE);
    MUST(c->backend->table->alloc(c->backend, 48 << 20, &data));
    MUST(c->backend->table->wait(c->backend));
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct hop_time got = {0};
        double us[2][RUNS];
        for (int busy = 0; busy < 2; busy++) {
            for (int run = 0; run < RUNS; run++) {
                int at = run;
                got = time_hops(c, data, sizes[i], busy == 1);
                for (; at > 0 && us[busy][at - 1] > got.us; at--) {
                    us[busy][at] = us[busy][at - 1];
                }
                us[busy][at] = got.us;
            }
        }
        if (c->world->rank > 0) continue;
        printf("hop, ctas %s, %9zu bytes: idle %8.1f us (%.1f to %.1f), %6.1f GB/s; busy %8.1f us "
               "(%.1f to %.1f); host %.1f us\n",
               ctas != NULL ? ctas : "default", sizes[i], us[0][RUNS / 2], us[0][0],
               us[0][RUNS - 1], (double)sizes[i] / us[0][RUNS / 2] / 1e3, us[1][RUNS / 2], us[1][0],
               us[1][RUNS - 1], got.host_us);
    }
    c->backend->table->release(c->backend, data);
}

// A ring of states: rank 0 marks each, the line hands it on, and the last rank moves it to rank 0 in the
// next step. Two steps are queued at a time.
struct ring {
    int64_t steps, layers, stop_at;
    size_t layer_bytes;
    char *slot[SLOTS];  // what the line brings, or on rank 0 what it takes
    char *moved[SLOTS]; // on rank 0: what comes round
    char *marks;        // [steps, layers, TAG_BYTES] host: what rank 0 writes
    char *seen;         // the same: what came here over the line
    char *round;        // the same on rank 0: what came round
    struct transfer *in[SLOTS][LAYERS_MOST], *out[SLOTS][LAYERS_MOST], *move[SLOTS][LAYERS_MOST];
};

static char *mark_at(const struct ring *r, char *marks, int64_t step, int64_t layer) {
    return marks + (step * r->layers + layer) * TAG_BYTES;
}

static void make_ring(struct check *c, struct ring *r) {
    const struct backend_table *b = c->backend->table;
    const size_t bytes = (size_t)(r->steps * r->layers) * TAG_BYTES;
    char **hosts[] = {&r->marks, &r->seen, &r->round};
    for (size_t i = 0; i < 3; i++) {
        MUST(b->host_alloc(c->backend, bytes, (void **)hosts[i]));
    }
    for (int64_t s = 0; s < r->steps; s++) {
        for (int64_t l = 0; l < r->layers; l++) {
            for (int64_t i = 0; i < TAG_BYTES; i++) {
                mark_at(r, r->marks, s, l)[i] = (char)(s * 31 + l * 7 + i);
            }
        }
    }
    for (int i = 0; i < SLOTS; i++) {
        MUST(b->alloc(c->backend, (size_t)r->layers * r->layer_bytes, (void **)&r->slot[i]));
        MUST(b->alloc(c->backend, (size_t)r->layers * r->layer_bytes, (void **)&r->moved[i]));
    }
}

static void queue_moves(struct check *c, struct ring *r, int64_t step) {
    const struct transport_table *t = c->transport->table;
    const int32_t rank = c->world->rank, last = c->world->ranks - 1;
    for (int64_t batch = 0; batch < BATCHES && step > 0; batch++) {
        for (int64_t l = batch * r->layers / BATCHES; l < (batch + 1) * r->layers / BATCHES; l++) {
            const size_t at = (size_t)l * r->layer_bytes;
            struct transfer **move = &r->move[step % SLOTS][l];
            if (rank == last) {
                MUST(t->send(c->transport, CHANNEL_MOVES, 0, 0, r->slot[(step - 1) % SLOTS] + at,
                             r->layer_bytes, move));
            } else if (rank == 0) {
                MUST(t->receive(c->transport, CHANNEL_MOVES, last, 0, r->moved[step % SLOTS] + at,
                                r->layer_bytes, move));
            }
        }
        MUST(t->flush(c->transport, (int32_t)batch));
    }
}

static void queue_layer(struct check *c, struct ring *r, int64_t step, int64_t l) {
    const struct transport_table *t = c->transport->table;
    const struct backend_table *b = c->backend->table;
    const int32_t rank = c->world->rank, last = c->world->ranks - 1;
    char *state = r->slot[step % SLOTS] + (size_t)l * r->layer_bytes;
    if (rank == 0) {
        if (step > 0) {
            MUST(t->order(c->transport, r->move[step % SLOTS][l]));
            MUST(b->download(c->backend, mark_at(r, r->round, step, l),
                             r->moved[step % SLOTS] + (size_t)(l + 1) * r->layer_bytes - TAG_BYTES,
                             TAG_BYTES));
        }
        MUST(b->upload(c->backend, state + r->layer_bytes - TAG_BYTES,
                       mark_at(r, r->marks, step, l), TAG_BYTES));
    } else {
        MUST(t->order(c->transport, r->in[step % SLOTS][l]));
        MUST(b->download(c->backend, mark_at(r, r->seen, step, l),
                         state + r->layer_bytes - TAG_BYTES, TAG_BYTES));
    }
    if (rank < last) {
        MUST(t->send(c->transport, CHANNEL_LINE, rank + 1, 0, state, r->layer_bytes,
                     &r->out[step % SLOTS][l]));
    }
    for (int64_t batch = 0; batch < BATCHES; batch++) {
        if ((batch + 1) * r->layers / BATCHES != l + 1) continue;
        MUST(t->passed(c->transport, (int32_t)batch));
    }
}

static void queue_step(struct check *c, struct ring *r, int64_t step) {
    const struct transport_table *t = c->transport->table;
    const int32_t rank = c->world->rank;
    for (int64_t l = 0; l < r->layers && rank > 0; l++) {
        MUST(t->receive(c->transport, CHANNEL_LINE, rank - 1, 0,
                        r->slot[step % SLOTS] + (size_t)l * r->layer_bytes, r->layer_bytes,
                        &r->in[step % SLOTS][l]));
    }
    queue_moves(c, r, step);
    for (int64_t l = 0; l < r->layers; l++) {
        queue_layer(c, r, step, l);
    }
    MUST(c->backend->table->mark(c->backend, (int32_t)(step % MODEL_MARK)));
}

static void finish_step(struct check *c, struct ring *r, int64_t step) {
    const struct transport_table *t = c->transport->table;
    bool reached = false;
    while (!reached) {
        MUST(c->backend->table->reached(c->backend, (int32_t)(step % MODEL_MARK), &reached));
        if (!reached) nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
        MUST(t->health(c->transport));
    }
    struct transfer **lists[] = {r->in[step % SLOTS], r->out[step % SLOTS], r->move[step % SLOTS]};
    for (size_t i = 0; i < 3; i++) {
        for (int64_t l = 0; l < r->layers; l++) {
            if (lists[i][l] != NULL) MUST(t->finish(c->transport, &lists[i][l]));
        }
    }
}

static void look_at(struct check *c, const struct ring *r) {
    const int32_t rank = c->world->rank;
    int64_t wrong = 0;
    for (int64_t s = 0; s < r->steps; s++) {
        for (int64_t l = 0; l < r->layers; l++) {
            const char *mark = mark_at(r, r->marks, s, l);
            if (rank > 0) wrong += memcmp(mark_at(r, r->seen, s, l), mark, TAG_BYTES) != 0;
            if (rank == 0 && s + 1 < r->steps) {
                wrong += memcmp(mark_at(r, r->round, s + 1, l), mark, TAG_BYTES) != 0;
            }
        }
    }
    printf("rank %d: %lld of %lld states are wrong\n", rank, (long long)wrong,
           (long long)(r->steps * r->layers));
    if (wrong > 0) fail(c, STATUS_UNEXPECTED, "the states");
}

static void ring(struct check *c, const char *mode, int64_t steps, int64_t layers) {
    struct ring r = {.steps = steps, .layers = layers, .layer_bytes = 1 << 20};
    MUST(layers <= LAYERS_MOST ? STATUS_OK : STATUS_USAGE);
    make_ring(c, &r);
    MUST(c->backend->table->wait(c->backend));
    const int64_t begin_ns = clock_ns();
    for (int64_t step = 0; step < steps; step++) {
        if (step == steps / 2 && c->world->rank == 1 && strcmp(mode, "silent") == 0) raise(SIGSTOP);
        if (step == steps / 2 && c->world->rank == 1 && strcmp(mode, "late") == 0) sleep(60);
        if (step >= 2) finish_step(c, &r, step - 2);
        if (step % 8 == 0) keep_busy(c, 4);
        queue_step(c, &r, step);
    }
    finish_step(c, &r, steps - 2);
    finish_step(c, &r, steps - 1);
    MUST(c->backend->table->wait(c->backend));
    if (c->world->rank == 0) {
        printf("ring: %lld steps of %lld layers of 1 MiB, %d ranks: %.3f ms a step\n",
               (long long)steps, (long long)layers, c->world->ranks,
               (double)(clock_ns() - begin_ns) / 1e6 / (double)steps);
    }
    look_at(c, &r);
}

static void close_all(struct check *c) {
    const int64_t begin_ms = clock_ms();
    MUST(c->transport->table->health(c->transport));
    if (!c->staged) c->transport->table->close(c->transport);
    comm_close(c->comm, false);
    if (c->staged) c->transport->table->close(c->transport);
    c->busy->table->close(c->busy);
    c->backend->table->close(c->backend);
    if (c->world->rank == 0) printf("close: %lld ms\n", (long long)(clock_ms() - begin_ms));
}

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "ring";
    const int64_t steps = argc > 2 ? strtol(argv[2], NULL, 10) : 200;
    const int64_t layers = argc > 3 ? strtol(argv[3], NULL, 10) : 48;
    struct mpi_job *job = NULL;
    struct check check = {.plugin = load(), .staged = strcmp(mode, "staged") == 0};
    const int32_t devices_least = check.staged ? 1 : 2;
    setvbuf(stdout, NULL, _IOLBF, 0);
    alarm(120);
    if (check.plugin == NULL || check.plugin->abi != PLUGIN_ABI) return 1;
    const int32_t devices = check.plugin->device_count();
    if (devices < devices_least || !mpi_launched()) {
        printf("skipped: needs mpirun and %d devices, there are %d\n", devices_least, devices);
        return SKIPPED;
    }
    const enum status status = mpi_job_open(0, NULL, &job);
    if (status != STATUS_OK) return status_exit_code(status);
    check.world = mpi_job_world(job);
    check.device = mpi_job_local_rank(job) % devices;
    log_set_rank(check.world->rank);
    log_setup(LOG_DEBUG, LOG_TEXT);
    open_all(&check);
    if (strcmp(mode, "hops") == 0) {
        hops(&check);
    } else {
        ring(&check, mode, steps, layers);
    }
    close_all(&check);
    mpi_job_close(job);
    return 0;
}
