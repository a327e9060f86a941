#include "ops/base/status.h"

static const struct {
    const char *text;
    int exit_code;
} outcomes[] = {
#define X(name, text, exit_code) {text, exit_code},
    STATUS_LIST(X)
#undef X
};

const char *status_text(enum status status) {
    return outcomes[status].text;
}

int status_exit_code(enum status status) {
    return outcomes[status].exit_code;
}
