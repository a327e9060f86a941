// The memory that slots lie in: how much of it there is, and when it is asked for and given back.

#include "tests/slots_case.h"

static int64_t pinned;

static enum status pin(struct backend *of, size_t bytes, void **memory) {
    pinned++;
    return host_backend_alloc(of, bytes, memory);
}

static void unpin(struct backend *of, void *memory) {
    if (memory != NULL) pinned--;
    host_backend_release(of, memory);
}

// On a device: dear to make, so it is kept, but never more than the budget.
static void pinned_memory_is_used_again(void **state) {
    struct backend_table table = host_backend_table;
    table.host_memory = false;
    table.host_alloc = pin;
    table.host_release = unpin;
    backend.table = &table;
    struct slots *slots = slots_of(*state, 2, 3);
    for (uint64_t round = 0; round < 4; round++) {
        for (uint64_t key = 1; key <= 8; key++) {
            put(slots, key, key + round);
        }
        assert_counts(slots, 2, 3, 3);
        assert_true(pinned <= 3 + 1); // and one that files pass through
        for (uint64_t key = 1; key <= 8; key++) {
            assert_taken(slots, key, key + round);
        }
    }
    slots_close(slots);
    assert_int_equal(pinned, 0);
}

static int64_t allocated, allocations_most;
static enum status refusal; // of one more

static enum status allocate(struct backend *of, size_t bytes, void **memory) {
    if (allocated == allocations_most) return refusal;
    allocated++;
    return host_backend_alloc(of, bytes, memory);
}

static void release(struct backend *of, void *memory) {
    if (memory != NULL) allocated--;
    host_backend_release(of, memory);
}

// A job that cannot have them is told so at once, not in its midst; and nothing stays allocated.
static void slots_are_there_before_they_are_needed(void **state) {
    struct backend_table table = host_backend_table;
    const struct place *place = *state;
    const struct slots_settings settings = {
        .slot_bytes = SLOT_BYTES, .device_slots = 6, .at_once = 4, .folder = place->spill};
    table.alloc = allocate;
    table.release = release;
    backend.table = &table;
    for (allocations_most = 0; allocations_most < 4; allocations_most++) {
        for (int i = 0; i < 2; i++) {
            struct slots *slots = NULL;
            refusal = i == 0 ? STATUS_NO_MEMORY : STATUS_PEER;
            assert_int_equal(slots_open(&backend, &settings, &slots), refusal);
            assert_null(slots);
            assert_int_equal(allocated, 0);
        }
    }
    for (allocations_most = 4; allocations_most <= 6; allocations_most++) {
        struct slots *slots = NULL;
        char *made[6] = {NULL};
        assert_int_equal(slots_open(&backend, &settings, &slots), STATUS_OK);
        assert_int_equal(allocated, 4);
        for (int64_t i = 0; i < allocations_most; i++) {
            assert_int_equal(slots_make(slots, &made[i]), STATUS_OK);
            assert_int_equal(allocated, i < 4 ? 4 : i + 1);
        }
        if (allocations_most < 6) {
            char *none = NULL;
            assert_int_equal(slots_make(slots, &none), refusal);
        }
        for (int64_t i = 0; i < allocations_most; i++) {
            slots_free(slots, made[i]);
        }
        slots_close(slots);
        assert_int_equal(allocated, 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(pinned_memory_is_used_again),
        TEST(slots_are_there_before_they_are_needed),
    };
    log_setup(LOG_ERROR, LOG_TEXT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
