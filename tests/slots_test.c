// Slots: states come back bit for bit through every tier, and memory is used again only when nothing
// that is queued uses it.

#include "tests/slots_case.h"

#include <signal.h>
#include <sys/resource.h>
#include <time.h>

static void oldest_goes_down(void **state) {
    char path[1024];
    struct slots *slots = slots_of(*state, 3, 2);
    struct entry *lent = NULL;
    const char *found = NULL;
    for (uint64_t key = 0; key < 3; key++) {
        put(slots, key, key);
    }
    assert_counts(slots, 3, 0, 0);
    assert_int_equal(slots_counts(slots).spills, 0);
    put(slots, 3, 3); // 0 to host
    put(slots, 4, 4); // 1 to host
    assert_counts(slots, 3, 2, 0);
    spill_file(*state, 0, path, sizeof path);
    assert_string_equal(path, "");
    put(slots, 5, 5); // 2 to host, 0 to a file
    assert_counts(slots, 3, 2, 1);
    spill_file(*state, 0, path, sizeof path);
    assert_non_null(strstr(path, "0000000000000000.state"));

    assert_int_equal(slots_borrow(slots, 0, &lent, &found), STATUS_OK); // 3 to host, 1 to a file
    assert_true(filled(found, 0));
    assert_counts(slots, 3, 2, 1);
    assert_int_equal(slots_borrow(slots, 9, &lent, &found), STATUS_MISMATCH);
    slots_return(slots, lent); // the newest again
    assert_taken(slots, 4, 4);
    assert_int_equal(slots_counts(slots).loads, 1); // it was still on the device
    assert_int_equal(slots_borrow(slots, 4, &lent, &found), STATUS_MISMATCH); // it has left
    slots_drop(slots, 1);
    slots_drop(slots, 1);
    spill_file(*state, 0, path, sizeof path);
    assert_string_equal(path, "");
    slots_close(slots);
}

static uint64_t draw(uint64_t *random) {
    uint64_t z = *random += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    return z ^ (z >> 31);
}

static void pause_ms(long ms) {
    nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
}

static int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void idle_states_go_to_files(void **state) {
    struct slots *slots = slots_of(*state, 4, 2);
    struct entry *lent = NULL;
    const char *found = NULL;
    for (uint64_t key = 0; key < 6; key++) {
        put(slots, key, key);
    }
    assert_counts(slots, 4, 2, 0); // 0 and 1 in host memory
    assert_int_equal(slots_spill_idle(slots, 3600 * 1000), STATUS_OK);
    assert_counts(slots, 4, 2, 0);

    pause_ms(200);
    const int64_t between_ms = now_ms();
    pause_ms(300);
    assert_int_equal(slots_borrow(slots, 3, &lent, &found), STATUS_OK);
    slots_return(slots, lent); // used again
    assert_int_equal(slots_spill_idle(slots, now_ms() - between_ms), STATUS_OK);
    assert_counts(slots, 1, 0, 5);
    assert_int_equal(slots_counts(slots).idle, 5);
    assert_int_equal(slots_counts(slots).spills, 2 + 3); // off the device
    assert_int_equal(slots_counts(slots).loads, 0);
    assert_int_equal(slots_spill_idle(slots, 3600 * 1000), STATUS_OK);
    assert_counts(slots, 1, 0, 5);

    put(slots, 6, 6); // into a slot that was left: nobody has to go
    put(slots, 7, 7);
    put(slots, 8, 8);
    assert_counts(slots, 4, 0, 5);
    for (uint64_t key = 0; key < 9; key++) {
        assert_taken(slots, key, key);
    }
    assert_counts(slots, 0, 0, 0);
    assert_int_equal(slots_counts(slots).loads, 6); // one made room for the first
    slots_close(slots);
}

static void idle_states_go_some_at_a_time(void **state) {
    const struct place *place = *state;
    const struct slots_settings settings = {
        .slot_bytes = (size_t)30 << 20, .device_slots = 5, .folder = place->spill};
    struct slots *slots = NULL;
    char *made = NULL;
    assert_int_equal(slots_open(&backend, &settings, &slots), STATUS_OK);
    for (uint64_t key = 0; key < 5; key++) {
        assert_int_equal(slots_make(slots, &made), STATUS_OK);
        memset(made, (int)key, settings.slot_bytes);
        assert_int_equal(slots_keep(slots, key, made), STATUS_OK);
    }
    assert_int_equal(slots_spill_idle(slots, 0), STATUS_OK);
    assert_counts(slots, 3, 0, 2); // the oldest, 60 MiB
    assert_int_equal(slots_spill_idle(slots, 0), STATUS_OK);
    assert_int_equal(slots_spill_idle(slots, 0), STATUS_OK);
    assert_counts(slots, 0, 0, 5);
    for (uint64_t key = 0; key < 5; key++) {
        struct entry *lent = NULL;
        const char *found = NULL;
        assert_int_equal(slots_borrow(slots, key, &lent, &found), STATUS_OK);
        assert_int_equal(found[0], (char)key);
        assert_memory_equal(found, found + 1, settings.slot_bytes - 1);
        slots_drop(slots, key);
        slots_return(slots, lent);
    }
    slots_close(slots);
}

static void idle_states_stay_where_the_disk_is_full(void **state) {
    struct rlimit before, tiny;
    struct slots *slots = slots_of(*state, 1, 1);
    void (*const handler)(int) = signal(SIGXFSZ, SIG_IGN);
    put(slots, 1, 1);
    put(slots, 2, 2);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    tiny = before;
    tiny.rlim_cur = 4000;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tiny), 0);
    assert_int_equal(slots_spill_idle(slots, 0), STATUS_IO);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    (void)signal(SIGXFSZ, handler);
    assert_counts(slots, 1, 1, 0);
    assert_int_equal(slots_counts(slots).idle, 0);
    assert_taken(slots, 1, 1);
    assert_taken(slots, 2, 2);
    slots_close(slots);
}

// Thousands of random calls against a plain array of what each key should hold. Some states are being
// read meanwhile, more than once, and are to stay what they were when that began.
static void random_use_loses_nothing(void **state) {
    enum { KEYS = 150, READERS = 12 };
    static const int64_t shapes[][2] = {
        {1,   0 },
        {2,   1 },
        {4,   7 },
        {40,  20},
        {200, 0 }
    };
    uint64_t random = 9;
    for (size_t shape = 0; shape < sizeof shapes / sizeof shapes[0]; shape++) {
        const int64_t device = shapes[shape][0];
        uint64_t holds[KEYS] = {0}, reads[READERS] = {0};
        struct entry *lent[READERS] = {0};
        const char *found[READERS] = {0};
        const uint64_t readers = (uint64_t)(device > READERS ? READERS : device - 1);
        struct slots *slots = slots_of(*state, device, shapes[shape][1]);
        int64_t states = 0;
        for (int turn = 0; turn < 1500; turn++) {
            const uint64_t key = draw(&random) % KEYS;
            const uint64_t what = draw(&random) % 9;
            const uint64_t r = readers == 0 ? 0 : draw(&random) % readers;
            if (what == 0) {
                slots_drop(slots, key);
                holds[key] = 0;
            } else if (what == 1 && turn % 7 == 0) {
                assert_int_equal(slots_spill_idle(slots, turn % 2), STATUS_OK);
            } else if (what < 4 || holds[key] == 0) {
                holds[key] = draw(&random) | 1;
                put(slots, key, holds[key]);
            } else if (what < 6) {
                assert_taken(slots, key, holds[key]);
                holds[key] = 0;
            } else if (readers > 0 && lent[r] == NULL) {
                const uint64_t busy = turn % 3 == 0 && lent[0] != NULL && holds[7] != 0 ? 7 : key;
                assert_int_equal(slots_borrow(slots, busy, &lent[r], &found[r]), STATUS_OK);
                reads[r] = holds[busy];
                assert_true(filled(found[r], reads[r]));
            } else if (readers > 0) {
                assert_true(filled(found[r], reads[r]));
                slots_return(slots, lent[r]);
                lent[r] = NULL;
            }
        }
        for (uint64_t r = 0; r < readers; r++) {
            if (lent[r] == NULL) continue;
            assert_true(filled(found[r], reads[r]));
            slots_return(slots, lent[r]);
        }
        for (int key = 0; key < KEYS; key++) {
            states += holds[key] != 0;
        }
        const struct slots_counts counts = slots_counts(slots);
        assert_int_equal(counts.device + counts.host + counts.file, states);
        assert_true(counts.device <= shapes[shape][0] && counts.host <= shapes[shape][1]);
        for (uint64_t key = 0; key < KEYS; key++) {
            if (holds[key] != 0) assert_taken(slots, key, holds[key]);
        }
        assert_counts(slots, 0, 0, 0);
        slots_close(slots);
    }
}

// Several read a state at once. Its key may go meanwhile, or name another state; the slot is nobody
// else's until the last has done with it, and until the queue has.
static void what_is_read_stays_as_it_is(void **state) {
    struct slots *slots = slots_of(*state, 3, 0);
    struct entry *lent[3] = {0};
    const char *found[3] = {0};
    char *a = NULL, *b = NULL, *c = NULL;
    put(slots, 1, 10);
    put(slots, 2, 20);
    assert_int_equal(slots_borrow(slots, 1, &lent[0], &found[0]), STATUS_OK);
    assert_int_equal(slots_borrow(slots, 1, &lent[1], &found[1]), STATUS_OK);
    assert_ptr_equal(found[0], found[1]);
    assert_counts(slots, 2, 0, 0);
    put(slots, 3, 30);
    put(slots, 4, 40); // 2 to a file, though 1 is older
    assert_counts(slots, 3, 0, 1);
    slots_return(slots, lent[0]);
    slots_drop(slots, 1);
    assert_counts(slots, 2, 0, 1);
    assert_int_equal(slots_borrow(slots, 1, &lent[2], &found[2]), STATUS_MISMATCH);
    put(slots, 1, 11); // 3 to a file
    assert_taken(slots, 1, 11);
    assert_true(filled(found[1], 10));

    slots_queued(slots, 1);
    slots_return(slots, lent[1]); // rests
    assert_int_equal(slots_make(slots, &a), STATUS_OK);
    assert_ptr_not_equal(a, found[1]);
    assert_true(filled(found[1], 10));
    slots_reached(slots, 1);
    assert_int_equal(slots_make(slots, &b), STATUS_OK);
    assert_ptr_equal(b, found[1]);
    slots_free(slots, a);
    slots_free(slots, b);

    assert_int_equal(slots_borrow(slots, 3, &lent[0], &found[0]), STATUS_OK); // back from its file
    assert_int_equal(slots_borrow(slots, 3, &lent[1], &found[1]), STATUS_OK);
    slots_return(slots, lent[0]);
    assert_int_equal(slots_spill_idle(slots, 0), STATUS_OK); // 4, but not 3
    assert_counts(slots, 1, 0, 2);
    slots_return(slots, lent[1]);
    assert_int_equal(slots_make(slots, &a), STATUS_OK);
    assert_int_equal(slots_make(slots, &b), STATUS_OK);
    assert_int_equal(slots_make(slots, &c), STATUS_OK); // 3 to a file once more
    assert_counts(slots, 0, 0, 3);
    slots_free(slots, a);
    slots_free(slots, b);
    slots_free(slots, c);
    assert_taken(slots, 3, 30);
    slots_close(slots);
}

static void too_few_slots_are_a_setting(void **state) {
    struct slots *slots = slots_of(*state, 2, 4);
    char *a = NULL, *b = NULL, *c = NULL;
    struct entry *lent = NULL;
    const char *found = NULL;
    put(slots, 1, 1);
    assert_int_equal(slots_make(slots, &a), STATUS_OK);
    assert_int_equal(slots_make(slots, &b), STATUS_OK);
    assert_int_equal(slots_make(slots, &c), STATUS_USAGE);
    assert_int_equal(slots_borrow(slots, 1, &lent, &found), STATUS_USAGE);
    slots_free(slots, a);
    assert_int_equal(slots_borrow(slots, 1, &lent, &found), STATUS_OK);
    assert_true(filled(found, 1));
    assert_int_equal(slots_make(slots, &c), STATUS_USAGE); // what is read is not spilled
    slots_return(slots, lent);
    assert_int_equal(slots_make(slots, &c), STATUS_OK);
    slots_close(slots);

    const struct slots_settings none = {.slot_bytes = SLOT_BYTES};
    assert_int_equal(slots_open(&backend, &none, &slots), STATUS_USAGE);
    const struct slots_settings nowhere = {.slot_bytes = SLOT_BYTES, .device_slots = 1};
    assert_int_equal(slots_open(&backend, &nowhere, &slots), STATUS_OK);
    put(slots, 1, 1);
    assert_int_equal(slots_make(slots, &a), STATUS_USAGE);
    slots_close(slots);
}

// What is freed while steps are queued is not given to others until the queue has passed it.
static void freed_slots_rest_until_the_queue_has_passed(void **state) {
    struct slots *slots = slots_of(*state, 3, 1);
    char *a = NULL, *b = NULL, *c = NULL, *next = NULL;
    assert_int_equal(slots_make(slots, &a), STATUS_OK);
    slots_queued(slots, 1);
    slots_free(slots, a);
    assert_int_equal(slots_make(slots, &b), STATUS_OK);
    assert_ptr_not_equal(a, b);
    slots_queued(slots, 2);
    slots_free(slots, b);
    assert_int_equal(slots_make(slots, &c), STATUS_OK);
    assert_true(c != a && c != b);
    slots_reached(slots, 1);
    assert_int_equal(slots_make(slots, &next), STATUS_OK);
    assert_ptr_equal(next, a);
    slots_free(slots, next);
    // none is left: it waits for the queue, and then all that was freed is there
    assert_int_equal(slots_make(slots, &a), STATUS_OK);
    assert_int_equal(slots_make(slots, &b), STATUS_OK);
    assert_true(a != b && a != c && b != c);
    assert_int_equal(slots_make(slots, &next), STATUS_USAGE);
    slots_reached(slots, 2);
    slots_free(slots, a); // nothing is queued, so at once
    assert_int_equal(slots_make(slots, &next), STATUS_OK);
    assert_ptr_equal(next, a);
    slots_close(slots);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(oldest_goes_down),
        TEST(freed_slots_rest_until_the_queue_has_passed),
        TEST(what_is_read_stays_as_it_is),
        TEST(random_use_loses_nothing),
        TEST(idle_states_go_to_files),
        TEST(idle_states_go_some_at_a_time),
        TEST(idle_states_stay_where_the_disk_is_full),
        TEST(too_few_slots_are_a_setting),
    };
    log_setup(LOG_ERROR, LOG_TEXT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
