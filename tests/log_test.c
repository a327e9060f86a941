// What hostile text may do to the log: nothing. A line is a line, and a terminal obeys none of it.

#include "ops/base/log.h"

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void logged(enum log_format format, const char *id, char *line, size_t room) {
    FILE *file = tmpfile();
    assert_non_null(file);
    fflush(stderr);
    const int before = dup(STDERR_FILENO);
    assert_true(dup2(fileno(file), STDERR_FILENO) >= 0);
    log_setup(LOG_INFO, format);
    LOG(WARN, "document %s: bad", id);
    fflush(stderr);
    assert_true(dup2(before, STDERR_FILENO) >= 0);
    close(before);
    rewind(file);
    const size_t bytes = fread(line, 1, room - 1, file);
    line[bytes] = '\0';
    fclose(file);
}

static void control_characters_stay_out(void **state) {
    const char *const id = "a\n12:00:00 error \x1b[31mb\x7f\xc2\x9b\xc3\xa9";
    char line[1024];
    (void)state;
    logged(LOG_TEXT, id, line, sizeof line);
    assert_non_null(strstr(line, "document a?12:00:00 error ?[31mb???\xc3\xa9: bad"));
    assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
    logged(LOG_JSON, id, line, sizeof line);
    assert_non_null(strstr(line, "document a\\u000a12:00:00 error \\u001b[31mb"));
    assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(control_characters_stay_out)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
