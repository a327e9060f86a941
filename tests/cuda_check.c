// Loads the CUDA plug-in (the one beside this program, or the one named by an argument), prints its
// devices, and checks what it can do: rms_norm against a loop in double, and a row alone against the same row in a batch, bit for
// bit. Without a device it says so and leaves with 77.

#include "cuda/plugin.h"
#include "ops/base/check.h"
#include "ops/op.h"

#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SKIPPED 77

// f32 sums of up to a few thousand squares, then a root and two products.
#define TOLERANCE 2e-6

static const struct plugin_host host = {
    .log_on = log_on, .log_write = log_write, .check_failed = check_failed};

static const struct plugin *load(const char *path) {
    plugin_entry *entry = NULL;
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        printf("cannot load: %s\n", dlerror());
        return NULL;
    }
    void *symbol = dlsym(library, PLUGIN_SYMBOL);
    memcpy(&entry, &symbol, sizeof entry);
    return entry != NULL ? entry(&host) : NULL;
}

static float random_float(uint64_t *seed) {
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (float)(int32_t)(*seed >> 32) / 2147483648.0f;
}

struct buffers {
    float *host_in, *host_out, *host_weight; // [rows * stride], [rows * stride], [columns]
    void *in, *out, *weight;
};

static enum status run_norm(struct backend *backend, struct buffers *buffers, int64_t first,
                            int64_t rows, int64_t columns, int64_t stride) {
    const struct matrix in = {(float *)buffers->in + first * stride, rows, columns, stride};
    const struct matrix out = {(float *)buffers->out + first * stride, rows, columns, stride};
    const struct rms_norm_args args = {in, out, buffers->weight, 1e-5f};
    const size_t bytes = (size_t)(rows * stride) * sizeof(float);
    TRY(op_rms_norm(backend, &args));
    TRY(backend->table->download(backend, buffers->host_out, out.data, bytes));
    return backend->table->wait(backend);
}

// The largest difference from double, relative to the row's largest value.
static double largest_error(const struct buffers *buffers, int64_t rows, int64_t columns,
                            int64_t stride) {
    double worst = 0.0;
    for (int64_t r = 0; r < rows; r++) {
        const float *in = buffers->host_in + r * stride;
        const float *out = buffers->host_out + r * stride;
        double sum = 0.0;
        double largest = 0.0;
        for (int64_t i = 0; i < columns; i++) {
            sum += (double)in[i] * (double)in[i];
            largest = fmax(largest, fabs((double)out[i]));
        }
        const double scale = 1.0 / sqrt(sum / (double)columns + (double)1e-5f);
        for (int64_t i = 0; i < columns; i++) {
            const double right = (double)in[i] * scale * (double)buffers->host_weight[i];
            worst = fmax(worst, fabs((double)out[i] - right) / largest);
        }
    }
    return worst;
}

static enum status check_shape(struct backend *backend, int64_t rows, int64_t columns,
                               bool *right) {
    enum status status = STATUS_OK;
    const int64_t stride = columns + 8;
    const size_t bytes = (size_t)(rows * stride) * sizeof(float);
    const size_t row_bytes = (size_t)columns * sizeof(float);
    const int64_t alone = rows / 2;
    uint64_t seed = (uint64_t)(rows * 31 + columns);
    double error = 0.0;
    struct buffers b = {.host_in = calloc(1, bytes),
                        .host_out = calloc(1, bytes),
                        .host_weight = calloc(1, row_bytes)};
    float *kept = calloc(1, row_bytes);
    CHECK(b.host_in != NULL && b.host_out != NULL && b.host_weight != NULL && kept != NULL);
    for (int64_t i = 0; i < rows * stride; i++) {
        b.host_in[i] = random_float(&seed);
    }
    for (int64_t i = 0; i < columns; i++) {
        b.host_weight[i] = random_float(&seed);
    }
    TRY_OUT(status, backend->table->alloc(backend, bytes, &b.in));
    TRY_OUT(status, backend->table->alloc(backend, bytes, &b.out));
    TRY_OUT(status, backend->table->alloc(backend, row_bytes, &b.weight));
    TRY_OUT(status, backend->table->upload(backend, b.in, b.host_in, bytes));
    TRY_OUT(status, backend->table->upload(backend, b.weight, b.host_weight, row_bytes));
    TRY_OUT(status, run_norm(backend, &b, 0, rows, columns, stride));
    error = largest_error(&b, rows, columns, stride);
    memcpy(kept, b.host_out + alone * stride, row_bytes);
    TRY_OUT(status, run_norm(backend, &b, alone, 1, columns, stride));
    *right = error <= TOLERANCE && memcmp(kept, b.host_out, row_bytes) == 0;
    printf("rms_norm [%lld, %lld]: error %.2e, a row alone %s bits: %s\n", (long long)rows,
           (long long)columns, error,
           memcmp(kept, b.host_out, row_bytes) == 0 ? "the same" : "OTHER",
           *right ? "right" : "WRONG");
out:
    backend->table->release(backend, b.in);
    backend->table->release(backend, b.out);
    backend->table->release(backend, b.weight);
    free(b.host_in);
    free(b.host_out);
    free(b.host_weight);
    free(kept);
    return status;
}

static enum status check_device(const struct plugin *plugin, int32_t device, bool *right) {
    static const int64_t shapes[][2] = {
        {1,    1   },
        {7,    64  },
        {64,   768 },
        {1000, 2560},
        {4096, 1024}
    };
    const struct plugin_settings settings = {.device = device};
    struct backend *backend = NULL;
    enum status status = STATUS_OK;
    char text[128] = "";
    TRY(plugin->describe(device, text, sizeof text));
    TRY(plugin->open(&settings, &backend));
    printf("device %d: %s; numerics: %s\n", (int)device, text, backend->numerics);
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0] && status == STATUS_OK; i++) {
        bool shape_right = false;
        status = check_shape(backend, shapes[i][0], shapes[i][1], &shape_right);
        *right = *right && shape_right;
    }
    backend->table->close(backend);
    return status;
}

static void path_beside(char *path, size_t bytes) {
    char self[2048] = "";
    CHECK(readlink("/proc/self/exe", self, sizeof self - 1) > 0);
    *strrchr(self, '/') = '\0';
    snprintf(path, bytes, "%s/%s", self, PLUGIN_FILE);
}

int main(int count, char **arguments) {
    bool right = true;
    char path[4096];
    if (count > 1) {
        snprintf(path, sizeof path, "%s", arguments[1]);
    } else {
        path_beside(path, sizeof path);
    }
    const struct plugin *plugin = load(path);
    if (plugin == NULL || plugin->abi != PLUGIN_ABI) {
        printf("%s is not this version's plug-in\n", path);
        return 1;
    }
    const int32_t devices = plugin->device_count();
    printf("plug-in loaded, %d devices, %s\n", (int)devices,
           plugin->scores ? "scores" : "does not score yet");
    if (devices == 0) {
        printf("skipped: no CUDA device or driver here\n");
        return SKIPPED;
    }
    for (int32_t device = 0; device < devices; device++) {
        if (check_device(plugin, device, &right) != STATUS_OK) return 1;
    }
    return right ? 0 : 1;
}
