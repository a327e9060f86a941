// What doctor makes of ranks that differ, of other machines, and of versions.

#include "src/doctor.h"

#include "src/version.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define RANKS 3

static void alike(struct doctor_rank rank[RANKS]) {
    memset(rank, 0, RANKS * sizeof *rank);
    for (int i = 0; i < RANKS; i++) {
        snprintf(rank[i].host, sizeof rank[i].host, "host-%d", i / 2);
        snprintf(rank[i].program, sizeof rank[i].program, "1.0");
        snprintf(rank[i].libraries, sizeof rank[i].libraries, "glibc 2.36, NCCL 2.28.3, zlib 1.2");
        snprintf(rank[i].kernels, sizeof rank[i].kernels, "avx512");
        snprintf(rank[i].device, sizeof rank[i].device, "GPU %d of 2: H200", i % 2);
        rank[i].plugin_abi = 6;
        rank[i].local_rank = i % 2;
    }
}

static const struct finding *compared(const struct doctor_rank *rank, struct findings *findings) {
    memset(findings, 0, sizeof *findings);
    doctor_compare(rank, RANKS, findings);
    return findings->item;
}

static void ranks_that_agree(void **state) {
    struct doctor_rank rank[RANKS];
    struct findings found;
    (void)state;
    alike(rank);
    const struct finding *item = compared(rank, &found);
    assert_int_equal(found.count, 1);
    assert_int_equal(item->verdict, VERDICT_OK);
    assert_int_equal(item->exit_code, 0);
}

static void each_difference_is_named(void **state) {
    struct doctor_rank rank[RANKS];
    struct findings found;
    const struct finding *item;
    (void)state;
    alike(rank);
    rank[2].program[0] = '2';
    item = compared(rank, &found);
    assert_int_equal(found.count, 1);
    assert_int_equal(item->exit_code, 4);
    assert_string_equal(item->value, "rank 2 on host-1 is longscan 2.0, the first rank 1.0");

    alike(rank);
    memcpy(strstr(rank[1].libraries, "2.28.3"), "2.27.5", 6);
    item = compared(rank, &found);
    assert_int_equal(item->exit_code, 4);
    assert_string_equal(item->value,
                        "rank 1 on host-0 has NCCL 2.27.5, the first rank NCCL 2.28.3");

    alike(rank);
    rank[1].plugin_abi = 5;
    assert_int_equal(compared(rank, &found)->exit_code, 4);

    alike(rank);
    snprintf(rank[1].kernels, sizeof rank[1].kernels, "avx2"); // equal bits
    item = compared(rank, &found);
    assert_int_equal(item->verdict, VERDICT_WARN);
    assert_int_equal(item->exit_code, 0);

    alike(rank);
    memcpy(strstr(rank[2].device, "H200"), "H100", 4);
    assert_int_equal(compared(rank, &found)->verdict, VERDICT_WARN);
}

static void ranks_that_share_a_device(void **state) {
    struct doctor_rank rank[RANKS];
    struct findings found;
    (void)state;
    alike(rank);
    memcpy(rank[1].device, rank[0].device, sizeof rank[0].device);
    compared(rank, &found);
    assert_int_equal(found.count, 2);
    assert_string_equal(found.item[1].value, "ranks 0 and 1 on host-0 share GPU 0 of 2: H200");
}

static void other_machines_are_heard(void **state) {
    struct doctor_rank rank[RANKS];
    struct findings found;
    (void)state;
    alike(rank);
    finding_add(&rank[0].own, VERDICT_WARN, "memory", NULL, "little"); // says so itself
    finding_add(&rank[1].own, VERDICT_WARN, "memory", NULL, "little"); // the same machine
    finding_add(&rank[2].own, VERDICT_OK, "cores", NULL, "2");
    finding_add(&rank[2].own, VERDICT_BAD, "CUDA plug-in", "build it", "none")->exit_code = 2;
    compared(rank, &found);
    assert_int_equal(found.count, 2);
    assert_string_equal(found.item[1].value, "host-1: none");
    assert_string_equal(found.item[1].advice, "build it");
    assert_int_equal(found.item[1].exit_code, 2);
}

static void more_findings_than_there_is_room(void **state) {
    struct findings found = {0};
    (void)state;
    for (int i = 0; i < 3 * FINDINGS_MOST; i++) {
        finding_add(&found, VERDICT_OK, "a", NULL, "%d", i);
    }
    assert_int_equal(found.count, FINDINGS_MOST);
    assert_string_equal(found.item[0].value, "0");
    finding_add(&found, VERDICT_BAD, "b", NULL, "bad")->exit_code = 4; // worse than the last
    finding_add(&found, VERDICT_WARN, "c", NULL, "warn");
    finding_add(&found, VERDICT_OK, "d", NULL, "ok"); // no room
    assert_int_equal(found.count, FINDINGS_MOST);
    assert_string_equal(found.item[FINDINGS_MOST - 1].value, "bad");
    assert_int_equal(found.item[FINDINGS_MOST - 1].exit_code, 4);
    assert_string_equal(found.item[FINDINGS_MOST - 2].value, "warn");
}

static void versions_are_compared(void **state) {
    static const struct {
        const char *built, *running;
        bool older;
    } cases[] = {
        {"1.2.13",          "1.2.13",          false},
        {"1.2.13",          "1.2.9",           true },
        {"1.2.13",          "1.3",             false},
        {"2.0.2",           "1.9.2",           true },
        {"Open MPI v4.1.4", "Open MPI v4.0.9", true },
        {"Open MPI v4.1.4", "Open MPI v5.0.1", false},
        {"",                "1.0",             false},
        {"1.0",             "",                false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct library library = {0};
        snprintf(library.built, sizeof library.built, "%s", cases[i].built);
        snprintf(library.running, sizeof library.running, "%s", cases[i].running);
        assert_int_equal(version_is_older(&library), cases[i].older);
    }
}

static void the_driver_is_read(void **state) {
    static const struct {
        const char *line, *version;
    } cases[] = {
        {"NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12\n",            "535.183.01"                       },
        {"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\n",
         "580.65.06"                                                                                                               },
        {"NVRM version 2 of a 64-bit module\n",                                                 "of a version that it does not say"},
        {"",                                                                                    "of a version that it does not say"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[64];
        doctor_driver_version(cases[i].line, text, sizeof text);
        assert_string_equal(text, cases[i].version);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_that_agree),
        cmocka_unit_test(each_difference_is_named),
        cmocka_unit_test(ranks_that_share_a_device),
        cmocka_unit_test(other_machines_are_heard),
        cmocka_unit_test(more_findings_than_there_is_room),
        cmocka_unit_test(versions_are_compared),
        cmocka_unit_test(the_driver_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
