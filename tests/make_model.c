// make_model DIR [options]: writes a random Mamba-2 model in HF's layout, config.json and
// model.safetensors, for tests and benchmarks. The same options give the same bytes.

#include "ops/base/status.h"
#include "tests/random_model.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static bool read_options(int count, char **options, struct model_shape *shape) {
    const struct {
        const char *name;
        int64_t *value;
    } numbers[] = {
        {"--hidden",   &shape->hidden  },
        {"--layers",   &shape->layers  },
        {"--vocab",    &shape->vocab   },
        {"--state",    &shape->state   },
        {"--head-dim", &shape->head_dim},
        {"--groups",   &shape->groups  },
        {"--expand",   &shape->expand  },
        {"--inner",    &shape->inner   },
        {"--taps",     &shape->taps    },
        {"--seed",     &shape->seed    },
    };
    const struct {
        const char *name;
        bool *value;
    } flags[] = {
        {"--untied",       &shape->untied      },
        {"--bias",         &shape->bias        },
        {"--no-conv-bias", &shape->no_conv_bias},
    };
    for (int i = 0; i < count; i++) {
        bool known = false;
        for (size_t n = 0; n < sizeof flags / sizeof flags[0]; n++) {
            if (strcmp(options[i], flags[n].name) != 0) continue;
            *flags[n].value = known = true;
        }
        if (known) continue;
        if (i + 1 == count) return false;
        if (strcmp(options[i], "--dtype") == 0) {
            shape->dtype = options[++i];
            continue;
        }
        for (size_t n = 0; !known && n < sizeof numbers / sizeof numbers[0]; n++) {
            if (strcmp(options[i], numbers[n].name) != 0) continue;
            char *end;
            *numbers[n].value = strtoll(options[++i], &end, 10);
            known = *end == '\0' && *numbers[n].value > 0 && *numbers[n].value <= 1 << 24;
            if (!known) return false;
        }
        if (!known) return false;
    }
    return model_shape_complete(shape);
}

static bool write_file(const char *folder, const char *name,
                       bool (*write)(const struct model_shape *shape, FILE *file),
                       const struct model_shape *shape) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    bool good = file != NULL && write(shape, file);
    if (file != NULL) good = fclose(file) == 0 && good;
    if (!good) fprintf(stderr, "cannot write %s: %s\n", path, strerror(errno));
    return good;
}

int main(int count, char **arguments) {
    struct model_shape shape = MODEL_SHAPE;
    if (count < 2 || arguments[1][0] == '-' || !read_options(count - 2, arguments + 2, &shape)) {
        fputs("usage: make_model DIR [--hidden N] [--layers N] [--vocab N] [--state N]\n"
              "  [--head-dim N] [--groups N] [--expand N] [--taps N] [--dtype f32|bf16|f16]\n"
              "  [--untied] [--bias] [--no-conv-bias] [--inner N] [--seed N]\n"
              "inner, or expand * hidden, must be a multiple of head-dim, and the heads one of "
              "groups\n",
              stderr);
        return status_exit_code(STATUS_USAGE);
    }
    if (mkdir(arguments[1], 0777) != 0 && errno != EEXIST) {
        fprintf(stderr, "cannot make %s: %s\n", arguments[1], strerror(errno));
        return status_exit_code(STATUS_IO);
    }
    if (!write_file(arguments[1], "config.json", random_model_config, &shape) ||
        !write_file(arguments[1], "model.safetensors", random_model_weights, &shape)) {
        return status_exit_code(STATUS_IO);
    }
    return 0;
}
