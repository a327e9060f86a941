#include "src/settings.h"

enum status verb_verify(const struct settings *settings, int *exit_code) {
    (void)settings;
    (void)exit_code;
    return FAIL(USAGE, "not yet");
}
