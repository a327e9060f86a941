// Every operator of the CUDA plug-in against the CPU backend, whose bits f32 must have, and its
// products in other formats against sums in double.
//
//     cuda_op_test [--small] [--part NAME] [PLUGIN]
//
// PLUGIN: by default the one beside this program. --small: few cases, for compute-sanitizer.
// Without a device it says so and leaves with 77; with 1 if anything was wrong.

#include "tests/gpu/check.h"

#include <stdarg.h>
#include <unistd.h>

#define SKIPPED       77
#define FAILURES_SAID 5

bool expect(struct tally *tally, bool right, const char *format, ...) {
    tally->cases++;
    if (right) return true;
    if (tally->failures++ < FAILURES_SAID) {
        va_list arguments;
        printf("%s: ", tally->part);
        va_start(arguments, format);
        vprintf(format, arguments);
        va_end(arguments);
        printf("\n");
    }
    return false;
}

float *drawn_floats(uint64_t seed, int64_t count, float scale) {
    float *made = case_floats(count);
    for (int64_t i = 0; i < count; i++) {
        made[i] = scale * case_number(seed, i, 0);
    }
    return made;
}

struct matrix drawn(uint64_t seed, int64_t rows, int64_t columns, int64_t more, float scale) {
    const int64_t stride = columns + more;
    return (struct matrix){drawn_floats(seed, rows * stride, scale), rows, columns, stride};
}

struct matrix copy_of(const struct matrix *m) {
    struct matrix copy = *m;
    copy.data = case_floats(m->rows * m->stride);
    memcpy(copy.data, m->data, (size_t)(m->rows * m->stride) * sizeof *copy.data);
    return copy;
}

bool same_bits(const struct matrix *a, const struct matrix *b) {
    return memcmp(a->data, b->data, (size_t)(a->rows * a->stride) * sizeof *a->data) == 0;
}

// NaN has many bits.
bool same_best(const struct best_token *a, const struct best_token *b, int64_t rows) {
    for (int64_t i = 0; i < rows; i++) {
        const bool none = isnan(a[i].margin) && isnan(b[i].margin);
        if (a[i].token != b[i].token) return false;
        if (!none && memcmp(&a[i].margin, &b[i].margin, sizeof a->margin) != 0) return false;
    }
    return true;
}

struct matrix rows_of(const struct matrix *m, int64_t first, int64_t rows) {
    return (struct matrix){m->data + first * m->stride, rows, m->columns, m->stride};
}

static void path_beside(char *path, size_t bytes) {
    char self[2048] = "";
    CHECK(readlink("/proc/self/exe", self, sizeof self - 1) > 0);
    *strrchr(self, '/') = '\0';
    snprintf(path, bytes, "%s/%s", self, PLUGIN_FILE);
}

static bool run_rows(struct world *world) {
    return check_rows(world);
}

static bool run_scan(struct world *world) {
    return check_scan(world);
}

static bool run_places(struct world *world) {
    return check_places(world);
}

static bool run_ask(struct world *world) {
    bool right = true;
    for (int dtype = PLUGIN_F32; dtype <= PLUGIN_F16; dtype++) {
        right = check_ask(world, (enum plugin_dtype)dtype) && right;
    }
    return right;
}

static bool run_products(struct world *world) {
    bool right = true;
    for (int dtype = PLUGIN_F32; dtype <= PLUGIN_F16; dtype++) {
        right = check_products(world, (enum plugin_dtype)dtype) && right;
    }
    return right;
}

static bool run_head(struct world *world) {
    bool right = true;
    for (int dtype = PLUGIN_F32; dtype <= PLUGIN_F16; dtype++) {
        right = check_head(world, (enum plugin_dtype)dtype) && right;
    }
    return right;
}

static const struct {
    const char *name;
    bool (*run)(struct world *world);
    bool asked; // only by name: it takes 60 GiB of the device
} parts[] = {
    {"rows",     run_rows,     false},
    {"products", run_products, false},
    {"head",     run_head,     false},
    {"scan",     run_scan,     false},
    {"places",   run_places,   false},
    {"ask",      run_ask,      false},
    {"wide",     check_wide,   true },
};

static bool run_parts(struct world *world, const char *only) {
    const struct cpu_backend_settings cpu = {0};
    bool right = true;
    MUST(cpu_backend_open(&cpu, &world->cpu));
    MUST(mirror_open(world->plugin, PLUGIN_F32, 0, &world->cuda));
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        const bool named = only != NULL && strcmp(only, parts[i].name) == 0;
        if (only == NULL ? !parts[i].asked : named) right = parts[i].run(world) && right;
    }
    world->cuda->table->close(world->cuda);
    world->cpu->table->close(world->cpu);
    return right;
}

int main(int count, char **arguments) {
    struct world world = {0};
    const char *only = NULL;
    char path[4096] = "";
    path_beside(path, sizeof path);
    for (int i = 1; i < count; i++) {
        if (strcmp(arguments[i], "--small") == 0) {
            world.small = true;
        } else if (strcmp(arguments[i], "--part") == 0 && i + 1 < count) {
            only = arguments[++i];
        } else {
            snprintf(path, sizeof path, "%s", arguments[i]);
        }
    }
    world.plugin = mirror_load(path);
    if (world.plugin == NULL || world.plugin->abi != PLUGIN_ABI) {
        printf("%s is not this version's plug-in\n", path);
        return 1;
    }
    if (world.plugin->device_count() == 0) {
        printf("skipped: no CUDA device or driver here\n");
        return SKIPPED;
    }
    char text[128] = "";
    MUST(world.plugin->describe(0, text, sizeof text));
    printf("%s\n", text);
    if (!run_parts(&world, only)) return 1;
    return world.skipped ? SKIPPED : 0;
}
