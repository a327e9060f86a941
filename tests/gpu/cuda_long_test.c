// One document of more than a million tokens in one step, in windows so long that buffers pass 2^31
// numbers, against steps of 32,768 tokens in windows of 4096: every token's NLL has the same bits.
//
//     cuda_long_test MODEL [ROWS [PLUGIN]]
//
// Takes 60 GiB of the device for a layer of mamba2-130m's shape (make_model). Without a device it
// leaves with 77.

#include "ops/base/check.h"
#include "ops/model/model.h"
#include "tests/gpu/mirror.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SKIPPED   77
#define ROWS      ((1 << 20) + 1024)
#define STEP_ROWS 32768

#define MUST(call) CHECK((call) == STATUS_OK)

struct document {
    int64_t rows;
    int32_t *token, *target;
};

static struct document make_document(int64_t rows, int32_t vocabulary) {
    struct document made = {rows, calloc((size_t)rows, sizeof(int32_t)),
                            calloc((size_t)rows, sizeof(int32_t))};
    uint64_t seed = 1;
    CHECK(made.token != NULL && made.target != NULL);
    for (int64_t i = 0; i < rows; i++) {
        seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        made.token[i] = (int32_t)((seed >> 33) % (uint64_t)vocabulary);
        if (i > 0) made.target[i - 1] = made.token[i];
    }
    made.target[rows - 1] = -1;
    return made;
}

static struct backend *open_device(const struct plugin *plugin, int64_t window) {
    const struct plugin_settings settings = {.dtype = PLUGIN_F32, .window_tokens = window};
    struct backend *backend = NULL;
    MUST(plugin->open(&settings, &backend));
    return backend;
}

// The document in steps of `step` rows, the state handed on from slot to slot. Errors: NO_MEMORY.
static enum status score(struct backend *backend, const char *folder,
                         const struct document *document, int64_t step, float *nll) {
    const struct model_settings settings = {.step_tokens = step};
    struct model *model = NULL;
    void *slot[2] = {NULL, NULL};
    TRY(model_open(folder, backend, &settings, &model));
    const struct model_info *info = model_info(model);
    for (int i = 0; i < 2; i++) {
        MUST(backend->table->alloc(backend, (size_t)info->layers * info->layer_bytes, &slot[i]));
    }
    int turn = 0;
    for (int64_t at = 0; at < document->rows; at += step, turn = 1 - turn) {
        const int64_t rows = document->rows - at < step ? document->rows - at : step;
        const struct model_span span = {
            .rows = rows, .state_in = at == 0 ? NULL : slot[turn], .state_out = slot[1 - turn]};
        const struct model_step run = {.rows = rows,
                                       .token = document->token + at,
                                       .target = document->target + at,
                                       .spans = &span,
                                       .span_count = 1,
                                       .nll = nll + at};
        MUST(model_run(model, &run));
        MUST(backend->table->wait(backend));
    }
    model_close(model);
    for (int i = 0; i < 2; i++) {
        backend->table->release(backend, slot[i]);
    }
    return STATUS_OK;
}

static int32_t vocabulary_of(struct backend *backend, const char *folder) {
    const struct model_settings settings = {.step_tokens = 64};
    struct model *model = NULL;
    MUST(model_open(folder, backend, &settings, &model));
    const int32_t vocabulary = model_info(model)->vocab_size;
    model_close(model);
    return vocabulary;
}

static int64_t differing(const float *a, const float *b, int64_t count) {
    int64_t differ = 0;
    for (int64_t i = 0; i < count; i++) {
        differ += memcmp(&a[i], &b[i], sizeof a[i]) != 0;
    }
    return differ;
}

int main(int count, char **arguments) {
    char path[4096] = "";
    CHECK(count > 1);
    CHECK(readlink("/proc/self/exe", path, sizeof path - sizeof PLUGIN_FILE) > 0);
    strcpy(strrchr(path, '/') + 1, PLUGIN_FILE);
    const int64_t rows = count > 2 ? strtoll(arguments[2], NULL, 10) : ROWS;
    const struct plugin *plugin = mirror_load(count > 3 ? arguments[3] : path);
    CHECK(plugin != NULL && plugin->abi == PLUGIN_ABI);
    if (plugin->device_count() == 0) {
        printf("skipped: no CUDA device or driver here\n");
        return SKIPPED;
    }
    struct backend *backend = open_device(plugin, 0);
    const struct document document = make_document(rows, vocabulary_of(backend, arguments[1]));
    float *want = calloc((size_t)rows, sizeof *want), *got = calloc((size_t)rows, sizeof *got);
    CHECK(want != NULL && got != NULL);
    MUST(score(backend, arguments[1], &document, STEP_ROWS, want));
    backend->table->close(backend);
    backend = open_device(plugin, rows / 64 * 64 + 64);
    const enum status status = score(backend, arguments[1], &document, rows, got);
    backend->table->close(backend);
    int result = SKIPPED;
    if (status == STATUS_NO_MEMORY) {
        printf("skipped: the device has not the memory for such a window\n");
    } else {
        CHECK(status == STATUS_OK);
        const int64_t differ = differing(got, want, rows);
        printf("long: %lld tokens in one step and window, %lld differ from steps of %d\n",
               (long long)rows, (long long)differ, STEP_ROWS);
        result = differ == 0 ? 0 : 1;
    }
    free(want);
    free(got);
    free(document.token);
    free(document.target);
    return result;
}
