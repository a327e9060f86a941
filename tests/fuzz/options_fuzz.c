// Any bytes as a configuration file: what is taken must survive being shown and read again.

#include "src/options.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

static void check(bool condition) {
    if (!condition) abort();
}

static size_t show(const struct options *options, char **text) {
    size_t bytes = 0;
    FILE *out = open_memstream(text, &bytes);
    check(out != NULL);
    options_show(options, out);
    check(fclose(out) == 0);
    return bytes;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const verbs[] = {"score", "run", "publish", "read", "broker"};
    struct options *options = NULL;
    struct options *again = NULL;
    char *text = NULL;
    if (size == 0) return 0;
    const char *verb = verbs[data[0] % 5];
    check(options_make(verb, &options) == STATUS_OK);
    if (options_read_text(options, "fuzz.conf", (const char *)data + 1, size - 1) == STATUS_OK) {
        const struct settings *settings = options_settings(options);
        check(settings->ranks >= 0 && settings->ranks <= 256);
        check(settings->max_bad >= 0.0 && settings->max_bad <= 1.0);
        check(settings->property_count >= 0 && settings->property_count <= PROPERTIES_MOST);
        (void)!options_check(options);
        const size_t bytes = show(options, &text);
        check(options_make(verb, &again) == STATUS_OK);
        check(options_read_text(again, "again.conf", text, bytes) == STATUS_OK);
        check(options_settings(again)->step_tokens == settings->step_tokens);
        check(options_settings(again)->commit_interval_ms == settings->commit_interval_ms);
        const char *model = options_settings(again)->model;
        check((model == NULL) == (settings->model == NULL));
        check(model == NULL || strcmp(model, settings->model) == 0);
    }
    options_close(options);
    options_close(again);
    free(text);
    return 0;
}
