// What mpirun says between the lines of its ranks: which of it passes, in pieces of any size.

#include "src/banner.h"

#include "ops/base/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define FRAME "--------------------------------------------------------------------------\n"
#define ABORT                                                                                     \
    FRAME "MPI_ABORT was invoked on rank 0 in communicator MPI_COMM_WORLD\nwith errorcode 2.\n\n" \
          "NOTE: invoking MPI_ABORT causes Open MPI to kill all MPI processes.\n" FRAME
#define SLOTS FRAME "There are not enough slots available in the system\n" FRAME

static void passes(const char *text, const char *expected, bool terminal) {
    for (size_t piece = 1; piece <= 200; piece = piece * 3 + 1) {
        char *got = NULL;
        size_t bytes = 0;
        struct banner *banner = malloc(sizeof *banner);
        assert_non_null(banner);
        FILE *out = open_memstream(&got, &bytes);
        banner_open(out, banner);
        for (size_t at = 0; at < strlen(text); at += piece) {
            const size_t left = strlen(text) - at;
            banner_take(banner, text + at, left < piece ? left : piece);
        }
        banner_end(banner, terminal);
        fclose(out);
        assert_string_equal(got, expected);
        free(got);
        free(banner);
    }
}

static void test_banners_that_say_nothing_go(void **state) {
    (void)state;
    passes("08:00:00 error [0] why\n" ABORT "08:00:01 info [0] more\n",
           "08:00:00 error [0] why\n08:00:01 info [0] more\n", false);
    passes("\r12 documents\x1elongscan-failed 142\nmore\n", "\r12 documentsmore\n", false);
    passes("\r12 documents" ABORT, "\r12 documents\r\033[K", true);
    passes("\r1%\033[Kmpirun: Forwarding signal 10 to job\n\r2%\033[K",
           "\r1%\033[K\r2%\033[K\r\033[K", true);
    passes("[vm:1] 2 more processes have sent help message help-mpi-api.txt / mpi-abort\n"
           "[vm:1] Set MCA parameter \"orte_base_help_aggregate\" to 0 to see all help / error "
           "messages\nmpirun: Forwarding signal 10 to job\nlast\n",
           "last\n", false);
}

static void test_all_else_passes(void **state) {
    (void)state;
    static const char *const texts[] = {
        SLOTS, "a - b -- c\n-\n", "[vm:1] something else\nmpirun: was killed\n",
        "------\nMPI_ABORT was invoked on rank\n------\n", "more\n" SLOTS SLOTS "end\n"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        passes(texts[i], texts[i], false);
    }
    passes(FRAME "never closed", FRAME "never closed\n", false);
    passes("held -", "held -\n", false);
}

static void test_a_banner_that_is_too_long_passes(void **state) {
    (void)state;
    const size_t bytes = 3 * BANNER_MOST;
    char *text = malloc(bytes + 1);
    assert_non_null(text);
    memset(text, 'x', bytes);
    memcpy(text, FRAME, sizeof FRAME - 1);
    text[bytes - 1] = '\n';
    text[bytes] = '\0';
    passes(text, text, false);
    memset(text, '-', bytes - 1);
    passes(text, text, false);
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_banners_that_say_nothing_go),
        cmocka_unit_test(test_all_else_passes),
        cmocka_unit_test(test_a_banner_that_is_too_long_passes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
